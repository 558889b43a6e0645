"""Which unit of the ControlNet extension gets which images.

In this order: the images that our settings name for the unit; its own folder or list; its own single image, for all
frames; the clip's source video; the init images of img2img. The extension's preprocessor reads them frame by frame.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lib_animatediff.hosts.webui.clip.start.pinned import is_img2img
from lib_animatediff.hosts.webui.compat import controlnet
from lib_animatediff.hosts.webui.compat import integrated_controlnet as integrated
from lib_animatediff.hosts.webui.compat.controlnet import HostUnit
from lib_animatediff.request.control.hosted import HostedControl
from lib_animatediff.request.control.unit import ControlUnit, count_of, image_order
from lib_animatediff.request.effects import Note
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.settings.video import TRANSPARENT
from lib_animatediff.request.start.images import Find
from lib_animatediff.video.fitting import CROP, Size
from lib_animatediff.video.mask import VideoMask, examine_mask, mask_frames
from lib_animatediff.video.pixels import levels_of
from lib_animatediff.video.series import read_image
from lib_animatediff.video.source import Source, chosen_images, examine, over_white, source_frames
from motion_module import ClipError

if TYPE_CHECKING:
    from PIL.Image import Image

_WHITE = 255
PIXELS_PER_LATENT = 8
_BY_ROWS = "recolor"  # in the names of preprocessors
_WITH_FEWER = {"hold": "the last one is held", "stretch": "they are stretched", "loop": "they start again"}


@dataclass(frozen=True)
class UnitFrames:
    """What a unit gets in a clip.

    Attributes:
        host: the unit.
        weights: the factor on its weight in each rendered frame.
        read: reads its images, RGB, one for each rendered frame of a clip, or of all clips of a batch. None: it has one
            image for all frames, or what the extension itself finds.
        count: how many images that are; 0: one for all frames.
        named: the files that the request names for it, or its own folder.
        image_order: the number of each of its images in its source; empty: they have none.
        parts: the start and the end of its steps in each rendered frame, as shares; empty: its own alone.
        masks: white where it acts, one image for each frame or one for all; None: everywhere.
        mask_order: the number of the mask of each rendered frame.
        inpainted: returns the mask of each of its images, of these sizes, white where it inpaints; None: it has a
            folder of masks, or does not inpaint.
        notes: what the user should know.
    """

    host: HostUnit
    weights: tuple[float, ...]
    read: Callable[[], Sequence[Any]] | None = None
    count: int = 0
    named: ControlUnit | None = None
    image_order: tuple[int, ...] = ()
    notes: tuple[Note, ...] = ()
    parts: tuple[tuple[float, float], ...] = ()
    masks: Source | None = None
    mask_order: tuple[int, ...] = ()
    inpainted: Callable[[Sequence[Size]], Sequence[Image]] | None = None

    @property
    def has_embeddings(self) -> bool:
        """Whether its images are its own list of embeddings, which images that are named for it replace."""
        return self.named is None and bool(self.image_order) and self.host.has_embeddings

    @property
    def has_amounts(self) -> bool:
        """Whether it acts on a frame in another way than the extension has it act on all."""
        return any(weight != 1 for weight in self.weights) or bool(self.parts) or self.masks is not None


def units_of_clip(
    p: Any, plan: ClipPlan, hosted: HostedControl, find: Find
) -> tuple[list[UnitFrames], tuple[Note, ...]]:
    """What each enabled unit of a request gets, and notes about settings that name others.

    Raises:
        ClipError: a unit cannot be served.
        AnimateDiffError: a source is missing or damaged.
    """
    hosts: Sequence[HostUnit]
    hosts = integrated.enabled_units(p) if integrated.is_there(p) else controlnet.enabled_units(p)
    if hosts and controlnet.is_shared_out(p):
        raise ClipError(
            "ControlNet gives each image of a batch to another unit, but the images of a clip are its frames. Set its "
            "batch option to all units for all images.",
            code="AD-H44",
        )
    units = [
        _for_each_clip(_with_parts(_unit_frames(p, plan, hosted, host, find), plan, hosted), plan, p.batch_size)
        for host in hosts
    ]
    units = [_with_masks(unit, plan, find) if unit.count else unit for unit in units]
    for unit in units:
        if unit.count:
            _refuse_masks(p, unit, find)
    idle = hosted.idle([host.number for host in hosts])
    return units, tuple(Note(name, text) for name, text in idle.items())


def _unit_frames(p: Any, plan: ClipPlan, hosted: HostedControl, host: HostUnit, find: Find) -> UnitFrames:
    rendered = plan.rendered
    weights = hosted.weights(host.number, plan.frames)
    own = Source(find(host.folder)[0]) if host.folder else None
    named = hosted.unit(host.number, host.model, plan.frames, own)
    if named is not None:
        count = _count(named, plan.frames)
        every = named.order(plan.frames, count)
        order = tuple(every[frame] for frame in rendered)
        near = named.weights(plan.frames)
        return UnitFrames(
            host,
            tuple(weights[frame] * near[frame] for frame in rendered),
            lambda: _read(named, order),
            len(rendered),
            named,
            () if named.source is None else order,
            () if named.source is None else _notes(named.source.name, hosted.fill, count, plan.frames),
        )
    factors = tuple(weights[frame] for frame in rendered)
    if listed := host.listed or [read_image(find(path)[0]) for path in host.gallery]:
        name = f"ControlNet unit {host.number}"
        every = image_order(name, hosted.fill, plan.frames, len(listed))
        order = tuple(every[frame] for frame in rendered)
        notes = _notes(name, hosted.fill, len(listed), plan.frames)
        return UnitFrames(host, factors, lambda: [listed[number] for number in order], len(order), None, order, notes)
    count, read = _given(p, plan, host) or (0, None)
    return UnitFrames(host, factors, read, count)


def _with_parts(unit: UnitFrames, plan: ClipPlan, hosted: HostedControl) -> UnitFrames:
    """A unit with the steps and the places at which it acts on each frame."""
    number = unit.host.number
    parts = tuple(hosted.parts(number, plan.frames)[frame] for frame in plan.rendered)
    masks = hosted.mask(number)
    order: tuple[int, ...] = ()
    if masks is not None:
        count = count_of(masks, hosted.fill, plan.frames)
        every = image_order(masks.name, hosted.fill, plan.frames, count)
        order = tuple(every[frame] for frame in plan.rendered)
    return replace(unit, parts=parts if any(part != (0, 1) for part in parts) else (), masks=masks, mask_order=order)


def read_masks(unit: UnitFrames, size: Size) -> Tensor | None:
    """The masks of a unit's frames, ``f 1 h w`` from 0 to 1 for latents; None: it acts everywhere.

    Args:
        size: width and height of the clip, in pixels.

    Raises:
        AnimateDiffError: an image cannot be read.
    """
    if unit.masks is None:
        return None
    images = enumerate(source_frames(unit.masks, size, max(unit.mask_order) + 1))
    wanted = set(unit.mask_order)
    sides = [pixels // PIXELS_PER_LATENT for pixels in reversed(size)]
    found = {
        number: F.interpolate(
            levels_of(over_white(image).convert("L")).permute(2, 0, 1)[None].float(), sides, mode="area"
        )
        for number, image in images
        if number in wanted
    }
    return torch.cat([found[number] for number in unit.mask_order]) / _WHITE


def _for_each_clip(unit: UnitFrames, plan: ClipPlan, clips: int) -> UnitFrames:
    """A unit with images for each clip of a batch, if the extension changes finished images by the numbers of rows."""
    read = unit.read
    if read is None or unit.count != len(plan.rendered) or _BY_ROWS not in unit.host.preprocessor:
        return unit
    return replace(unit, read=lambda: [*read()] * clips, count=unit.count * clips)


def _given(p: Any, plan: ClipPlan, host: HostUnit) -> tuple[int, Callable[[], Sequence[Any]]] | None:
    """The number of the clip's own images, and a function that reads them; None: the unit has one for all frames."""
    if host.has_image:
        return None
    rows = len(plan.rendered)
    if plan.video is not None:
        source = plan.video.source
        return rows, lambda: [over_white(image) for image in islice(chosen_images(source), rows)]
    images = [image for image in getattr(p, "init_images", None) or () if image is not None]
    if len(images) < 2 or all(image is images[0] for image in images):
        return None
    return _init_images(images, rows, p.batch_size)


def _init_images(images: list[Any], rows: int, clips: int) -> tuple[int, Callable[[], Sequence[Any]]] | None:
    """Init images for each clip, for each frame, or for each frame of each clip, in the order in which the layout asks.

    Other numbers are refused by the layout.
    """
    if len(images) <= clips:
        chosen = [image for image in images for _ in range(rows)]
    elif len(images) in (rows, clips * rows):
        chosen = images
    else:
        return None
    return len(chosen), lambda: [image.convert("RGB") for image in chosen]


def _count(unit: ControlUnit, frames: int) -> int:
    """How many images the source of a unit has, counted up to the number that matters; 0 for images at frames."""
    if unit.source is None:
        return 0
    return count_of(unit.source, unit.fill, frames)


def _read(unit: ControlUnit, order: Sequence[int]) -> list[Any]:
    """The images of frames in their own size, each read once."""
    wanted = set(order)
    if unit.source is None:
        found = {number: next(chosen_images(unit.keys[number].source(CROP))) for number in wanted}
    else:
        last = max(wanted)
        read = enumerate(islice(chosen_images(unit.source), last + 1))
        found = {number: image for number, image in read if number in wanted}
    return [over_white(found[number]) for number in order]


def _notes(name: str, fill: str, count: int, frames: int) -> tuple[Note, ...]:
    if not 1 < count < frames:
        return ()
    return (Note(name, f"has {count} images for {frames} frames: {_WITH_FEWER[fill]}."),)


def _with_masks(unit: UnitFrames, plan: ClipPlan, find: Find) -> UnitFrames:
    """A unit with the clip's video mask, if it inpaints and has no masks of its own.

    Clients of the existing extension send one mask for the video and for units (``mask_path``).

    Raises:
        AnimateDiffError: there is no such mask, or it does not fit the unit's images.
    """
    if not unit.host.inpaints or unit.host.folder_of_masks is not None:
        return unit
    mask = _mask_of_clip(plan, find)
    if mask is None:
        return unit
    source = None if unit.named is None else unit.named.source
    if source is None and plan.video is not None and unit.named is None and not unit.host.has_image:
        source = plan.video.source
    if source is None and mask.path is not None:
        source = Source(mask.path)
    if source is None or (mask.path is None and (plan.video is None or source != plan.video.source)):
        return unit  # the transparency of another source
    rows = len(plan.rendered)
    order = unit.image_order or tuple(number % rows for number in range(unit.count))
    needed = max(order) + 1
    facts = examine(source, frames=0 if source.path == mask.path else needed)
    examine_mask(mask, source, replace(facts, frames=needed))
    return replace(unit, inpainted=functools.partial(_masks_of, mask, source, order))


def _mask_of_clip(plan: ClipPlan, find: Find) -> VideoMask | None:
    if plan.video is not None:
        return plan.video.mask
    given = plan.settings.mask.strip()
    if not given or given.lower() == TRANSPARENT:
        return None
    return VideoMask(find(given)[0], plan.settings.mask_invert)


def _masks_of(mask: VideoMask, source: Source, order: Sequence[int], sizes: Sequence[Size]) -> list[Image]:
    """Masks of images, by their numbers in a source, each in the size of its image."""
    wanted = set(order)
    every = enumerate(mask_frames(mask, source, sizes[0], max(wanted) + 1))
    found = {number: image for number, image in every if number in wanted}
    return [found[number].resize(size) for number, size in zip(order, sizes, strict=True)]


def _refuse_masks(p: Any, unit: UnitFrames, find: Find) -> None:
    """Refuse masks that cannot be those of every frame.

    Raises:
        ClipError: the unit needs a mask of each frame, or is cut out of a mask.
    """
    host = unit.host
    masks = host.folder_of_masks
    if masks is not None:
        find(str(masks))
    if host.has_mask or (host.inpaints and masks is None and unit.inpainted is None):
        raise ClipError(
            f"ControlNet unit {host.number} has one image per frame, and needs a mask for each. Set mask, give it a "
            "folder of masks (batch_mask_dir), or one image for all frames.",
            code="AD-H45",
        )
    if is_img2img(p) and getattr(p, "image_mask", None) is not None and p.inpaint_full_res:
        raise ClipError(
            "With an inpaint area of only masked, ControlNet cuts the image of a unit to that area, but not the images "
            f"of frames, which unit {host.number} has. Set the inpaint area to the whole picture.",
            code="AD-H47",
        )
