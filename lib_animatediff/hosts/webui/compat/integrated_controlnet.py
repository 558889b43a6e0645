"""The ControlNet that is built into Forge and reForge: its units, by the names of Forge of 2025 and reForge of 2026.

It prepares a hint for each row of a batch by itself, and computes what a model adds for all rows of a call before the
UNet begins. Nothing of it is imported. The names that are used stand in ``tests/support/webui_real/contract.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lib_animatediff.engine.patching import restore
from motion_module import ClipError

from . import controlnet
from .controlnet import HostUnit

_UNITS_MODULE = "lib_controlnet.external_code"  # knows how a client's dictionary becomes a unit
_SIMPLE, _FOLDER, _SEVERAL = "simple", "batch", "merge"  # input modes

Read = Callable[[], list[tuple[Any, Any]]]
"""Returns the image and the mask of each frame, as arrays ``h w 3`` with 8 bits; a mask may be None."""


class IntegratedUnit(HostUnit):
    """An enabled unit."""

    @property
    def _mode(self) -> str:
        mode = getattr(self.unit, "input_mode", _SIMPLE)  # Forge Neo's units have one image
        return str(getattr(mode, "value", mode))

    @property
    def has_image(self) -> bool:
        """Whether it has images of its own."""
        return self.unit.image is not None

    @property
    def folder(self) -> str:
        """Its own folder of images, one per frame; empty if it has none."""
        return str(self.unit.batch_image_dir or "").strip() if self._mode == _FOLDER else ""

    @property
    def listed(self) -> list[Any]:
        """Nothing: its own images are files."""
        return []

    @property
    def gallery(self) -> list[str]:
        """The files of its own images, one per frame; empty if there are none. reForge makes a unit of each."""
        if self._mode != _SEVERAL or self.is_merged:
            return []
        return [str(entry[0]) for entry in self.unit.batch_input_gallery or []]

    @property
    def is_merged(self) -> bool:
        """Whether its images are parts of one hint."""
        return self._mode == _SEVERAL and bool(getattr(self.unit, "multi_inputs_gallery", None))

    @property
    def count(self) -> int:
        """How many models act for it: one for each image that is merged."""
        return len(self.unit.multi_inputs_gallery) if self.is_merged else 1

    @property
    def has_embeddings(self) -> bool:
        """Whether it has embeddings instead of images, which units here cannot have."""
        return False

    @property
    def inpaints(self) -> bool:
        """Whether it needs masks of where to paint."""
        return "inpaint" in self.preprocessor.lower()

    @property
    def has_mask(self) -> bool:
        """Whether it has one mask."""
        return self.unit.mask_image is not None


def is_there(p: Any) -> bool:
    """Whether the ControlNet of a request is the integrated one."""
    return script_of(p) is not None


def script_of(p: Any) -> Any:
    """Its script of a request; None without it."""
    script = controlnet.any_script(p)
    return script if hasattr(script, "process_unit_before_every_sampling") else None


def enabled_units(p: Any) -> list[IntegratedUnit]:
    """The enabled units of a request.

    Raises:
        ClipError: it does not accept a unit.
    """
    script, kind = script_of(p), sys.modules[_UNITS_MODULE].ControlNetUnit
    found = []
    for number, given in enumerate(controlnet.arguments_of(p, script)):
        if not controlnet.is_enabled(given):
            continue
        try:
            unit = kind.from_dict(given) if isinstance(given, dict) else given
        except Exception as error:
            raise ClipError(
                f"The integrated ControlNet does not accept unit {number}: {controlnet.reason(error)} Correct the "
                "unit, or turn it off.",
                code="AD-H57",
            ) from error
        found.append(IntegratedUnit(number, script.args_from + number, unit))
    return found


def with_frames(host: HostUnit) -> Any:
    """A copy of a unit that `reading` gives one image per frame. None of them is shown in the reply."""
    given = getattr(host.unit, "input_mode", None)
    modes = {} if given is None else {"input_mode": _SIMPLE if type(given) is str else type(given)(_SIMPLE)}
    return replace(host.unit, **modes, image=None, use_preview_as_input=False, save_detected_map=False)


def read_images(read: Mapping[int, Read], original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs instead of the script's ``get_input_data``.

    Args:
        read: by the identity of a unit.
    """
    unit = args[1]
    if id(unit) not in read:
        return original(*args, **kwargs)
    mode = sys.modules[_UNITS_MODULE].resize_mode_from_value(unit.resize_mode)
    return [[image, mask] for image, mask in read[id(unit)]()], mode


def prepared_units(p: Any) -> list[Any]:
    """What it has prepared for each enabled unit, in their order; those that failed are missing."""
    held = getattr(script_of(p), "current_params", None) or {}
    return [held[number] for number in sorted(held)]


def adds_to_skips(params: Any) -> bool:
    """Whether a prepared model adds to the UNet's skip connections, as a ControlNet or T2I adapter does."""
    return hasattr(params.model.model_patcher, "control_merge")


class RowWeights:
    """How much a unit acts on each row, and where.

    Args:
        amounts: ``(b f) 1 h w``; the same everywhere if h and w are 1.
        parts: the start and the end of its steps on each row, as shares; empty: on all.
    """

    def __init__(self, amounts: Tensor, parts: Sequence[tuple[float, float]]) -> None:
        self._amounts = amounts
        self._parts = parts
        self._levels: Tensor | None = None
        self._acting: Tensor | None = None

    def weigh(self, control: Any) -> None:
        """Make what a ControlNet or T2I adapter of one pass adds follow the rows."""
        begin, call, merge = control.pre_run, control.get_control, control.control_merge

        def pre_run(model: Any, level_of: Callable[[float], Any]) -> Any:
            if self._parts:
                self._levels = torch.tensor([[float(level_of(share)) for share in part] for part in self._parts])
            return begin(model, level_of)

        def get_control(x: Tensor, levels: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self._levels is not None:
                first, last = self._levels.to(levels).unbind(1)
                self._acting = (levels[0] <= first) & (levels[0] >= last)
            return call(x, levels, *args, **kwargs)

        def control_merge(*args: Any, **kwargs: Any) -> Any:
            place = len(args) - (1 if "output_dtype" in kwargs else 2)  # of what the unit before it adds
            own = merge(*args[:place], None, *args[place + 1 :], **kwargs)
            return _added(self._weighted(own), args[place])

        control.pre_run, control.get_control, control.control_merge = pre_run, get_control, control_merge

    def _weighted(self, outputs: dict[str, list[Tensor | None]]) -> dict[str, list[Tensor | None]]:
        return {
            name: [None if each is None else each * self._like(each) for each in listed]
            for name, listed in outputs.items()
        }

    def _like(self, output: Tensor) -> Tensor:
        full = self._amounts.to(output)
        if self._acting is not None:
            full = full * self._acting.to(output).view(-1, 1, 1, 1)
        if full.shape[2:] != (1, 1):
            full = F.interpolate(full, output.shape[2:], mode="area")
        return full.repeat(len(output) // len(full), 1, 1, 1)


def _added(
    outputs: dict[str, list[Tensor | None]], before: dict[str, list[Tensor | None]] | None
) -> dict[str, list[Tensor | None]]:
    """What two units add together."""
    for name, listed in (before or {}).items():
        own = outputs.setdefault(name, [])
        own += [None] * (len(listed) - len(own))
        for place, each in enumerate(listed):
            mine = own[place]
            own[place] = each if mine is None else mine if each is None else mine + each
    return outputs


@contextmanager
def in_passes(p: Any, weights: Mapping[int, RowWeights], single: Sequence[int]) -> Iterator[None]:
    """Inside, units act on rows by these weights when a pass begins.

    Args:
        weights: by the identity of a unit.
        single: identities of units with one image for all rows, of which it would keep a copy for each.
    """
    script = script_of(p)
    former = script.process_unit_before_every_sampling

    def prepare(p: Any, unit: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        before = _acting_of(p)
        with _one_row(params.model, cuts=id(unit) in single):
            prepared = former(p, unit, params, *args, **kwargs)
        after = _acting_of(p)
        if id(unit) in weights and after is not before:
            weights[id(unit)].weigh(after)
        return prepared

    with _replaced(script, "process_unit_before_every_sampling", prepare):
        yield


def _acting_of(p: Any) -> Any:
    """The last ControlNet or T2I adapter that acts in the next pass."""
    return p.sd_model.forge_objects.unet.controlnet_linked_list


@contextmanager
def _one_row(model: Any, *, cuts: bool) -> Iterator[None]:
    """Inside, a model takes the first of equal rows, which fits calls with any number of rows."""
    if not cuts:
        yield
        return
    former = model.process_before_every_sampling

    def prepare(p: Any, hints: Any, masks: Any, *args: Any, **kwargs: Any) -> Any:
        one = (each[:1] if isinstance(each, Tensor) else each for each in (hints, masks))
        return former(p, *one, *args, **kwargs)

    with _replaced(model, "process_before_every_sampling", prepare):
        yield


@contextmanager
def _replaced(owner: Any, name: str, ours: Callable[..., Any]) -> Iterator[None]:
    """Inside, an object has another method."""
    original = getattr(owner, name)
    setattr(owner, name, ours)
    try:
        yield
    finally:
        restore(owner, name, ours, original)
