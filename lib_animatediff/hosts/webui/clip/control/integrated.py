"""The ControlNet that is built into Forge and reForge during a clip: its units get an image and a weight per frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from lib_animatediff.engine.call import UNetCall
from lib_animatediff.hosts.webui.compat import controlnet
from lib_animatediff.hosts.webui.compat import integrated_controlnet as integrated
from lib_animatediff.hosts.webui.compat.integrated_controlnet import Read, RowWeights
from lib_animatediff.video.series import read_image, series_files
from motion_module import ClipError

from .sources import UnitFrames, read_masks
from .units import ControlOfClip

if TYPE_CHECKING:
    from PIL.Image import Image

    from lib_animatediff.video.fitting import Size


class IntegratedControl(ControlOfClip):
    """The units of the integrated ControlNet in one request."""

    def __init__(self, units: Sequence[UnitFrames]) -> None:
        super().__init__(units)
        self._read: dict[int, Read] = {}
        self._given: list[Any] = [unit.host.unit for unit in units]

    def arguments(self, p: Any) -> Any:
        """The arguments of the request's scripts, whose units are objects that this control knows."""
        for place, unit in enumerate(self._units):
            if unit.read is not None and unit.count:
                self._given[place] = integrated.with_frames(unit.host)
                self._read[id(self._given[place])] = _reader(unit)
        places = [unit.host.place for unit in self._units]
        return controlnet.arguments_with(p, dict(zip(places, self._given, strict=True)))

    def hooks(self, p: Any) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
        """The methods of the integrated script with what runs instead of each, while the rows are laid out."""
        if self._units:
            script = integrated.script_of(p)
            yield from ((script, "process", self.noting), (script, "get_input_data", self._reading))

    def refuse_failed(self, p: Any) -> None:
        """Refuse a clip without the control that is asked for.

        Raises:
            ClipError: an enabled unit controls nothing, or cannot follow the frames.
        """
        if not self._units:
            return
        prepared, each = integrated.prepared_units(p), self._of_models()
        if len(prepared) < len(each):
            names = ", ".join(f"unit {unit.host.number}: {unit.host.model}" for unit in self._units)
            raise ClipError(
                f"The integrated ControlNet does not control this clip ({names}). "
                f"{self._reason or 'The console shows its error.'} Correct the unit, or turn it off.",
                code="AD-H58",
            )
        for unit, params in zip(each, prepared, strict=False):
            if (unit.count > 1 or unit.has_amounts) and not integrated.adds_to_skips(params):
                raise ClipError(
                    f"ControlNet unit {unit.host.number} ({unit.host.model}, {unit.host.preprocessor}) acts on all "
                    "frames alike in this WebUI. Give it one image, clear control_weight, control_start, control_end "
                    "and control_masks for it, or turn it off.",
                    code="AD-H59",
                )

    @contextmanager
    def in_calls(self, p: Any, call: Callable[[], UNetCall | None]) -> Iterator[None]:  # noqa: ARG002 - see the base
        """Inside, units act on the rows of a pass by the frames' weights, steps and masks.

        The host lays out hints by rows, and the context windows take the rows of what it adds.

        Raises:
            AnimateDiffError: a mask cannot be read.
        """
        if not self._units:
            yield
            return
        pairs = list(zip(self._units, self._given, strict=True))
        weights = {id(given): _weights(p, unit) for unit, given in pairs if unit.has_amounts}
        single = [id(given) for unit, given in pairs if not unit.count]
        with integrated.in_passes(p, weights, single):
            yield

    def _reading(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return integrated.read_images(self._read, original, *args, **kwargs)


def control_of_clip(p: Any, units: Sequence[UnitFrames]) -> ControlOfClip:
    """The units of a request, of whichever ControlNet its WebUI has."""
    return IntegratedControl(units) if integrated.is_there(p) else ControlOfClip(units)


def _reader(unit: UnitFrames) -> Read:
    """What reads a unit's images and masks."""

    def read() -> list[tuple[Any, Any]]:
        assert unit.read is not None
        images = [controlnet.array_of(image) for image in unit.read()]
        sizes = [(image.shape[1], image.shape[0]) for image in images]
        masks = _masks(unit, sizes)
        shown = [None if mask is None else controlnet.array_of(mask.convert("RGB")) for mask in masks]
        return list(zip(images, shown, strict=True))

    return read


def _masks(unit: UnitFrames, sizes: Sequence[Size]) -> Sequence[Image | None]:
    """The mask of each image: of the clip's mask, or as the host chooses them from the unit's own folder."""
    if unit.inpainted is not None:
        return unit.inpainted(sizes)
    if (folder := unit.host.folder_of_masks) is None:
        return [None] * len(sizes)
    order, files = unit.image_order or range(len(sizes)), series_files(folder)
    return [read_image(files[number if len(files) > max(order) else 0]) for number in order]


def _weights(p: Any, unit: UnitFrames) -> RowWeights:
    """How much a unit acts on the rows ``(b f)`` of a pass."""
    clips = p.batch_size // len(unit.weights)
    full = torch.tensor(unit.weights).view(-1, 1, 1, 1)
    masks = read_masks(unit, (p.width, p.height))
    full = full if masks is None else full * masks
    return RowWeights(full.repeat(clips, 1, 1, 1), unit.parts * clips)
