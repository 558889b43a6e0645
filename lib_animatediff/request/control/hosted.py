"""What a request says about control models that its host has loaded: the images and the weights of their units."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lib_animatediff.prompts.frame_index import frame_at
from lib_animatediff.request.motion_scale import parse_frames
from lib_animatediff.request.start.pins import Pin
from lib_animatediff.video.source import Source
from motion_module import ClipError

from .unit import HOLD, MOST_WEIGHT, REACH, ControlUnit

NO_FACTOR = "1"  # on the weights
FROM_START, TO_END = "0", "1"  # of the steps
_LONGEST_CLIP = 10_000  # frames, as the settings allow
_UNIT = r"\d{1,2}(?:\s*@\s*-?\d{1,9})?"
_ENTRY = re.compile(rf"({_UNIT})\s*:\s*(\S.*)", re.DOTALL)
_NEXT_ENTRY = re.compile(rf"[,\n]\s*(?={_UNIT}\s*:)")
_BETWEEN_UNITS = ";"


@dataclass(frozen=True)
class UnitImage:
    """A source of images for a unit.

    Attributes:
        path: as the request gives it.
        unit: its number, from 0; None: all units.
        frame: of the clip, negative from its end; None: one image for each frame.
    """

    path: str
    unit: int | None = None
    frame: int | None = None

    def __str__(self) -> str:
        if self.unit is None:
            return self.path
        return f"{self.unit}{'' if self.frame is None else f'@{self.frame}'}: {self.path}"


def parse_unit_images(text: str, name: str = "control_images") -> list[UnitImage]:
    """Parse sources such as ``0: in/walk.mp4, 1: in/poses, 2@8: in/a.png``, or one path for all units.

    Args:
        name: of the setting, for messages.

    Raises:
        ClipError: a path is missing, or a unit has two sources.
    """
    if not text.strip():
        return []
    entries = _NEXT_ENTRY.split(text.strip())
    found = [_ENTRY.fullmatch(entry.strip()) for entry in entries]
    if found == [None] and not re.match(rf"{_UNIT}\s*:", text.strip()):
        return [UnitImage(text.strip())]
    if wrong := next((entry for entry, match in zip(entries, found, strict=True) if match is None), None):
        raise ClipError(
            f"{name}: {reprlib.repr(wrong)} is not a unit with its images. Write the number of the unit and a "
            "path, such as 0: in/walk.mp4, 1@8: in/a.png.",
            code="AD-H40",
        )
    images = [_unit_image(match[1], match[2].strip()) for match in found if match is not None]
    places = [(image.unit, image.frame) for image in images]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise ClipError(f"{name} names unit {twice[0]} twice. Remove one of its sources.", code="AD-H41")
    return images


def parse_unit_masks(text: str) -> list[UnitImage]:
    """Parse masks such as ``0: in/masks, 1: in/left.png``, or one path for all units.

    Raises:
        ClipError: a path is missing, a unit has two masks, or one is for a frame.
    """
    masks = parse_unit_images(text, "control_masks")
    if any(mask.frame is not None for mask in masks):
        raise ClipError("control_masks has one mask for each frame or one for all. Leave @ out.", code="AD-H55")
    return masks


def _unit_image(place: str, path: str) -> UnitImage:
    unit, at, frame = place.partition("@")
    return UnitImage(path, int(unit), int(frame) if at else None)


def parse_unit_weights(text: str, frames: int = _LONGEST_CLIP) -> list[tuple[float, ...]]:
    """Parse factors on weights, such as ``0.8`` or ``0: 1, 12: 0.4``, for all units or, between ``;``, for each.

    Returns:
        For each unit one number per frame, of which the last one applies to all later frames.

    Raises:
        ClipError: an entry is malformed.
    """
    return [parse_frames("control_weight", part, frames, MOST_WEIGHT) for part in text.split(_BETWEEN_UNITS)]


def parse_unit_shares(name: str, text: str, frames: int = _LONGEST_CLIP) -> list[tuple[float, ...]]:
    """Parse shares of the steps as `parse_unit_weights` parses weights, each 0 to 1.

    Raises:
        ClipError: an entry is malformed.
    """
    return [parse_frames(name, part, frames, 1) for part in text.split(_BETWEEN_UNITS)]


@dataclass(frozen=True)
class HostedControl:
    """What a request says about its host's units.

    Attributes:
        images: sources, with paths that exist.
        weight: factors over the frames, see `parse_unit_weights`.
        fill: what frames have beyond the last image, see `ControlUnit`.
        reach: of images at frames, see `ControlUnit`.
        start, end: shares of the steps over the frames, see `parse_unit_shares`.
        masks: white where units act, with paths that exist.
    """

    images: tuple[UnitImage, ...] = ()
    weight: str = NO_FACTOR
    fill: str = HOLD
    reach: int = REACH
    start: str = FROM_START
    end: str = TO_END
    masks: tuple[UnitImage, ...] = ()

    def idle(self, present: Sequence[int]) -> dict[str, str]:
        """The settings that name units which are not there, each with the end of a sentence about it.

        Args:
            present: numbers of the enabled units.
        """
        named: dict[str, list[int | None]] = {"control_images": [image.unit for image in self.images]}
        named["control_masks"] = [mask.unit for mask in self.masks]
        for name, given, default in (
            ("control_weight", self.weight, NO_FACTOR),
            ("control_start", self.start, FROM_START),
            ("control_end", self.end, TO_END),
        ):
            count = len(given.split(_BETWEEN_UNITS))
            if given != default:
                named[name] = [None] if count == 1 else list(range(count))
        if self.fill != HOLD:
            named["control_fill"] = [None]
        if not present:
            return {name: "has no effect, since no ControlNet unit is enabled." for name in named if named[name]}
        missing = {name: [unit for unit in units if unit not in (None, *present)] for name, units in named.items()}
        return {
            name: f"has no effect on ControlNet unit {units[0]}, which is not enabled."
            for name, units in missing.items()
            if units
        }

    def unit(self, number: int, model: str, frames: int, source: Source | None = None) -> ControlUnit | None:
        """The images of a unit and their weights; None if the request says nothing about its images.

        Args:
            model: its name.
            frames: of the clip.
            source: its own images, which those of the request replace.

        Raises:
            ClipError: a frame does not exist, or a unit has images at frames and for all frames.
        """
        given = [image for image in self.images if image.unit in (None, number)]
        keys = tuple(self._key(image, frames) for image in given if image.frame is not None)
        sources = [Source(Path(image.path)) for image in given if image.frame is None]
        if keys and sources:
            raise ClipError(
                f"Unit {number} has images at frames and one source for all frames. Remove one of them.", code="AD-H42"
            )
        if not keys and not sources and source is None:
            return None
        chosen = None if keys else sources[0] if sources else source
        unit = ControlUnit(Path(model), chosen, keys, fill=self.fill, reach=self.reach)
        unit.check_frames(frames)
        return unit

    def weights(self, number: int, frames: int) -> tuple[float, ...]:
        """The factor on a unit's weight in each frame.

        Raises:
            ClipError: an entry is malformed, or is for a frame that the clip does not have.
        """
        return _own(parse_unit_weights(self.weight, frames), number, frames, 1.0)

    def parts(self, number: int, frames: int) -> list[tuple[float, float]]:
        """The start and the end of a unit in each frame, as shares of the steps.

        Raises:
            ClipError: an entry is malformed, or an end is not after its start.
        """
        starts = _own(parse_unit_shares("control_start", self.start, frames), number, frames, 0.0)
        ends = _own(parse_unit_shares("control_end", self.end, frames), number, frames, 1.0)
        wrong = next((frame for frame in range(frames) if starts[frame] >= ends[frame]), None)
        if wrong is not None:
            raise ClipError(
                f"Unit {number} acts in frame {wrong} from {starts[wrong]:g} to {ends[wrong]:g} of the steps. Lower "
                "control_start, or raise control_end.",
                code="AD-H56",
            )
        return list(zip(starts, ends, strict=True))

    def mask(self, number: int) -> Source | None:
        """The masks of a unit; None: it acts everywhere."""
        return next((Source(Path(mask.path)) for mask in self.masks if mask.unit in (None, number)), None)

    def _key(self, image: UnitImage, frames: int) -> Pin:
        assert image.frame is not None
        try:
            return Pin(frame_at(str(image.frame), frames), Path(image.path))
        except ClipError as error:
            raise ClipError(f"control_images, {str(image)!r:.60}: {error.message}", code="AD-H43") from None


def _own(given: Sequence[tuple[float, ...]], number: int, frames: int, default: float) -> tuple[float, ...]:
    """The numbers of a unit, one for each frame."""
    own = given[0] if len(given) == 1 else given[number] if number < len(given) else (default,)
    return own + own[-1:] * (frames - len(own))


def with_paths(images: Sequence[UnitImage], paths: Sequence[str]) -> tuple[UnitImage, ...]:
    """The same images with other paths."""
    return tuple(replace(image, path=path) for image, path in zip(images, paths, strict=True))


def in_words(images: Sequence[UnitImage]) -> str:
    """The text that `parse_unit_images` reads."""
    return ", ".join(map(str, images))
