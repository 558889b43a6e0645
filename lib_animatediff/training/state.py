"""From where a stopped training goes on: weights, average, optimizer, scaler and step, in one file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from motion_module.files.atomic import atomic_write

from .settings import SETTINGS, TrainingError, TrainingSettings, recipe

STATES_KEPT = 2
WARM_AVERAGE = 10  # steps over which a moving average begins to weigh the past


class EMA:
    """Moving average of weights; a young one forgets faster, so that the start does not linger.

    Attributes:
        values: the averaged weights, in the order of the weights.
    """

    def __init__(self, weights: list[nn.Parameter], decay: float) -> None:
        self._weights = weights
        self._decay = decay
        self.values = [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        decay = min(self._decay, (1 + step) / (WARM_AVERAGE + step))
        torch._foreach_lerp_(self.values, [weight.detach() for weight in self._weights], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the weights; a second time puts both back."""
        for weight, value in zip(self._weights, self.values, strict=True):
            kept = weight.detach().clone()
            weight.copy_(value)
            value.copy_(kept)


class States:
    """The saved states of one output folder.

    Args:
        folder: of the training's output.
        settings: of the training that is to be saved or to go on.
    """

    def __init__(self, folder: Path, settings: TrainingSettings) -> None:
        self._folder = folder / "states"
        self._settings = settings

    def save(
        self, step: int, weights: dict[str, nn.Parameter], average: EMA | None, optimizer: Any, scaler: Any
    ) -> None:
        """Write the state after ``step`` steps, and remove those that are older than the last two."""
        content = {
            "step": step,
            "settings": recipe(self._settings),
            "weights": {name: weight.detach() for name, weight in weights.items()},
            "average": average.values if average else [],
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else {},
        }
        with atomic_write(self._folder / f"step-{step:08d}.pt") as path:
            torch.save(content, path)
        for _, old in self._found()[:-STATES_KEPT]:
            old.unlink(missing_ok=True)

    def restore(self, weights: dict[str, nn.Parameter], average: EMA | None, optimizer: Any, scaler: Any) -> int:
        """Put the last state in place; the number of steps that are done, 0 without a state.

        Raises:
            TrainingError: there is a state but nobody asked to resume, or it belongs to another training.
        """
        found = self._found()
        if not found:
            return 0
        if not self._settings.resume:
            raise TrainingError(
                f"{self._folder.parent} holds a training at step {found[-1][0]}. Set resume, or choose another output."
            )
        content = self._read(found[-1][1])
        self._check(content["settings"])
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(content["weights"][name])
            for value, kept in zip(average.values if average else [], content["average"], strict=True):
                value.copy_(kept)
        optimizer.load_state_dict(content["optimizer"])
        if scaler and content["scaler"]:
            scaler.load_state_dict(content["scaler"])
        return int(content["step"])

    def _found(self) -> list[tuple[int, Path]]:
        matches = [(re.fullmatch(r"step-(\d+)\.pt", path.name), path) for path in self._folder.glob("step-*.pt")]
        return sorted((int(match[1]), path) for match, path in matches if match)

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
        except Exception as error:  # a broken file may raise anything
            raise TrainingError(
                f"{path} cannot be read ({error}). Delete it to go on from the state before."
            ) from error

    def _check(self, former: dict[str, Any]) -> None:
        now = recipe(self._settings)
        other = [name for name, setting in SETTINGS.items() if setting.fixed and former.get(name) != now[name]]
        if other:
            said = ", ".join(f"{name} was {former.get(name)!r}" for name in other)
            raise TrainingError(
                f"The training to resume is another one: {said}. Set the same, or choose another output."
            )
