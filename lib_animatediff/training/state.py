"""Saved states from which a training resumes: weights, moving average, optimizer, scaler and step in one file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from motion_module.files.atomic import atomic_write
from motion_module.files.safe_unpickler import tensors_only
from motion_module.files.weights import are_weights

from .settings import SETTINGS, TrainingError, TrainingSettings, recipe

STATES_KEPT = 2
WARM_AVERAGE = 10  # steps over which the decay of a moving average rises


class EMA:
    """Exponential moving average of weights. The decay rises at first, so that initial weights are forgotten quickly.

    Attributes:
        values: averaged weights, in the order of the weights.
    """

    def __init__(self, weights: list[nn.Parameter], decay: float) -> None:
        self._weights = weights
        self._decay = decay
        self.values = [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Update with the weights after a step, counted from 0."""
        decay = min(self._decay, (1 + step) / (WARM_AVERAGE + step))
        torch._foreach_lerp_(self.values, [weight.detach() for weight in self._weights], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averages and weights; a second call restores both."""
        for weight, value in zip(self._weights, self.values, strict=True):
            kept = weight.detach().clone()
            weight.copy_(value)
            value.copy_(kept)


class States:
    """The saved states in an output folder.

    Args:
        folder: output folder of the training.
        settings: settings of the training.
    """

    def __init__(self, folder: Path, settings: TrainingSettings) -> None:
        self._folder = folder / "states"
        self._settings = settings

    def save(self, step: int, weights: dict[str, nn.Parameter], ema: EMA | None, optimizer: Any, scaler: Any) -> None:
        """Write the state after ``step`` steps, and delete all but the last two."""
        content = {
            "step": step,
            "settings": recipe(self._settings),
            "weights": {name: weight.detach() for name, weight in weights.items()},
            "average": ema.values if ema else [],
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else {},
        }
        with atomic_write(self._folder / f"step-{step:08d}.pt") as path:
            torch.save(content, path)
        for _, old in self._found()[:-STATES_KEPT]:
            old.unlink(missing_ok=True)

    def restore(self, weights: dict[str, nn.Parameter], ema: EMA | None, optimizer: Any, scaler: Any) -> int:
        """Restore the last state; returns the number of completed steps, 0 without a state.

        Raises:
            TrainingError: there is a state but resuming was not requested, or it belongs to another training.
        """
        for part in self._folder.glob("step-*.part"):  # of a process that was killed while it wrote
            part.unlink(missing_ok=True)
        found = self._found()
        if not found:
            return 0
        if not self._settings.resume:
            raise TrainingError(
                f"{self._folder.parent} contains a training at step {found[-1][0]}. Set resume to continue it, "
                "or choose another output.",
                code="AD-T29",
            )
        path = found[-1][1]
        content = self._read(path)
        try:
            self._check(content["settings"])
            averages = ema.values if ema else []
            _check_shapes(weights.values(), [content["weights"][name] for name in weights])
            _check_shapes(averages, content["average"])
            _check_moments(optimizer, content["optimizer"])
            optimizer.load_state_dict(content["optimizer"])
            if scaler and content["scaler"]:
                scaler.load_state_dict(content["scaler"])
            step = int(content["step"])
        except TrainingError:
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise TrainingError(
                f"{path} lacks parts of a state ({type(error).__name__}: {error}). Delete it to resume from the "
                "previous state.",
                code="AD-T36",
            ) from error
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(content["weights"][name])
            for value, kept in zip(averages, content["average"], strict=True):
                value.copy_(kept)
        return step

    def _found(self) -> list[tuple[int, Path]]:
        matches = [(re.fullmatch(r"step-(\d+)\.pt", path.name), path) for path in self._folder.glob("step-*.pt")]
        return sorted((int(match[1]), path) for match, path in matches if match)

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            # Not weights_only: to explain an error, torch searches a long name in the file for hours.
            state: dict[str, Any] = torch.serialization.load(
                str(path), map_location="cpu", pickle_module=tensors_only, weights_only=False
            )
            return state
        except Exception as error:  # a damaged file can raise anything
            raise TrainingError(
                f"{path} cannot be read ({error}). Delete it to resume from the previous state.", code="AD-T30"
            ) from error

    def _check(self, former: dict[str, Any]) -> None:
        now = recipe(self._settings)
        other = [
            name
            for name, setting in SETTINGS.items()
            if setting.fixed and former.get(name, setting.default) != now[name]
        ]
        if other:
            values = ", ".join(f"{name} was {former.get(name, SETTINGS[name].default)!r}" for name in other)
            raise TrainingError(
                f"The state belongs to a training with other settings: {values}. Use the same ones, or choose another "
                "output.",
                code="AD-T31",
            )


def _check_shapes(tensors: Iterable[Tensor], stored: Sequence[Any]) -> None:
    """Check stored tensors before they are copied: `Tensor.copy_` would broadcast those of another shape."""
    for tensor, kept in zip(tensors, stored, strict=True):
        if not isinstance(kept, Tensor) or kept.shape != tensor.shape or not are_weights(kept):
            raise ValueError("a weight of another shape, or one that is no finite number")


def _check_moments(optimizer: Any, stored: dict[str, Any]) -> None:
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, moments in stored["state"].items():
        tensors = [value for value in moments.values() if isinstance(value, Tensor) and value.dim()]
        _check_shapes([parameters[index]] * len(tensors), tensors)
