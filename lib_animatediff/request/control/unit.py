"""A control model, the images that it reads frame by frame, and its weight in each frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib_animatediff.engine.components.sparse_ctrl import NEAREST, WITHOUT_KEY
from lib_animatediff.request.camera.unit import CAMERA, CameraUnit, camera_from_json
from lib_animatediff.request.motion_scale import parse_frames
from lib_animatediff.request.start.pins import Pin
from lib_animatediff.video.preprocess import NONE, PREPROCESSORS
from lib_animatediff.video.source import Source, count_frames
from motion_module import ClipError
from motion_module.image_encoder.network import DRIFT
from motion_module.limits import VIDEO_FRAMES

MOST_WEIGHT = 2.0  # as in sd-webui-controlnet
MOST_DRIFT = 1.5  # as in the official demo of AnimateLCM-I2V
REACH = 8  # half of the frames that motion modules were trained on
HOLD, STRETCH, LOOP, REFUSE = "hold", "stretch", "loop", "refuse"
FILLS = (HOLD, STRETCH, LOOP, REFUSE)


@dataclass(frozen=True)
class ControlUnit:
    """A control model in a clip.

    Attributes:
        model: file or folder of a ControlNet, a T2I adapter, a SparseCtrl encoder, a PIA or an AnimateLCM-I2V model,
            or an IP-Adapter.
        source: its images: frame i of the clip has image i. One image serves all frames. None: there are key images.
        keys: images at single frames. Every frame has the nearest one, with a weight that falls with the distance. A
            SparseCtrl encoder needs them, and carries them to the other frames by itself. Those of an IP-Adapter turn
            into each other over the frames between them.
        preprocessor: what is made of the images, one of `PREPROCESSORS`.
        weight: strength over the frames, such as ``0.8`` or ``0: 1, 12: 0.4``, each from 0 to `MOST_WEIGHT`; for a PIA
            model the affinity of each frame, 0 to 1, see `affinity`.
        start, end: the part of the sampling steps in which it acts, from 0.0 to 1.0: a number, or over the frames, such
            as ``0: 0.2, 12: 0.6``.
        fill: what frames have beyond the last image: ``"hold"`` the last one; ``"loop"`` starts again; ``"stretch"``
            distributes all images over the clip, also if there are more than frames; ``"refuse"`` refuses the clip.
        reach: frames from a key image to the first one that it does not change. It does not concern a SparseCtrl
            encoder and an IP-Adapter.
        without_key: what a SparseCtrl encoder has in a context window without a key image, see `SparseCtrlComponent`.
        drift: how far the frames of an AnimateLCM-I2V model move from their image, see `ImageEncoderComponent`.
        colour_match: how far the colours of the finished frames move towards those of the key images, 0 to 1.
        encoder: folder of the image encoder that an IP-Adapter needs.
        mask: white where it acts, one image for each frame or one for all, as ``source``; None: everywhere.

    Raises:
        ClipError: a value is out of range, or there are no images.
    """

    model: Path
    source: Source | None = None
    keys: tuple[Pin, ...] = ()
    preprocessor: str = NONE
    weight: str = "1"
    start: float | str = 0.0
    end: float | str = 1.0
    fill: str = HOLD
    reach: int = REACH
    without_key: str = NEAREST
    drift: float = DRIFT
    colour_match: float = 0.0
    encoder: Path | None = None
    mask: Source | None = None

    def __post_init__(self) -> None:
        if (self.source is None) == (not self.keys):
            raise ClipError(
                f"{self.model.name} needs either one image for each frame or key images. Give one of them.",
                code="AD-H10",
            )
        if self.preprocessor not in PREPROCESSORS:
            raise ClipError(
                f"There is no preprocessor {self.preprocessor!r:.40}. Use one of: {', '.join(PREPROCESSORS)}.",
                code="AD-H11",
            )
        if not self.travels:
            self.parts(1)
        if self.fill not in FILLS:
            raise ClipError(
                f"For fewer images than frames, use one of {', '.join(FILLS)}, not {self.fill!r:.40}.", code="AD-H13"
            )
        if self.reach < 1:
            raise ClipError(f"The reach of key images must be at least 1 frame, not {self.reach}.", code="AD-H14")
        if self.without_key not in WITHOUT_KEY:
            raise ClipError(
                f"A context window without a key image has one of {', '.join(WITHOUT_KEY)}, not "
                f"{self.without_key!r:.40}.",
                code="AD-Q26",
            )
        if not 0 <= self.drift <= MOST_DRIFT:
            raise ClipError(
                f"{self.model.name}: the drift from an image is a number from 0 to {MOST_DRIFT:g}, not {self.drift:g}.",
                code="AD-QB7",
            )
        if not 0 <= self.colour_match <= 1:
            raise ClipError(
                f"{self.model.name}: colour_match is from 0 to 1, not {self.colour_match:g}.",
                code="AD-Q27",
            )
        frames = [key.frame for key in self.keys]
        if twice := {frame for frame in frames if frames.count(frame) > 1 or frame < 0}:
            raise ClipError(
                f"{self.model.name}: give one key image for each frame, from 0; that of frame {min(twice)} is wrong.",
                code="AD-H15",
            )
        object.__setattr__(self, "keys", tuple(sorted(self.keys, key=lambda key: key.frame)))

    def __str__(self) -> str:
        """The unit in words, for an infotext."""
        made = "" if self.preprocessor == NONE else f"{self.preprocessor} of "
        steps = "" if (self.start, self.end) == (0, 1) else f", steps {_shown(self.start)} to {_shown(self.end)}"
        drift = "" if self.drift == DRIFT else f", drift {self.drift:g}"
        masks = "" if self.mask is None else f", where {self.mask.name} is white"
        return f"{self.model.name}, {made}{self.images}, weight {self.weight}{steps}{drift}{masks}"

    @property
    def images(self) -> str:
        """Names of the files of its images."""
        return self.source.name if self.source else ", ".join(key.path.name for key in self.keys)

    @property
    def travels(self) -> bool:
        """Whether start or end change over the frames."""
        return isinstance(self.start, str) or isinstance(self.end, str)

    def parts(self, frames: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Start and end for each frame of a clip, or one of each if they do not change.

        Raises:
            ClipError: one is malformed, or an end is not after its start.
        """
        starts, ends = (
            parse_frames(f"The control {name}", given, frames, 1) if isinstance(given, str) else (float(given),)
            for name, given in (("start", self.start), ("end", self.end))
        )
        for frame in range(max(len(starts), len(ends))):
            first, last = starts[min(frame, len(starts) - 1)], ends[min(frame, len(ends) - 1)]
            if not 0 <= first < last <= 1:
                raise ClipError(
                    f"{self.model.name}: control acts from a start of 0 or more to a later end, at most 1, not from "
                    f"{first:g} to {last:g}.",
                    code="AD-H12",
                )
        return starts, ends

    def check_frames(self, frames: int) -> None:
        """Check that a clip has the frames that the unit names.

        Raises:
            ClipError: the weights are malformed, or the clip is too short.
        """
        self.weights(frames)
        self.parts(frames)
        if self.keys and (last := self.keys[-1]).frame >= frames:
            raise ClipError(
                f"There is no frame {last.frame} for the key image {last.path.name}: the clip has {frames} frames, 0 "
                f"to {frames - 1}. Choose an earlier frame, or render more frames.",
                code="AD-H17",
            )

    def weights(self, frames: int) -> tuple[float, ...]:
        """The weight of each frame of a clip.

        Raises:
            ClipError: the weights are malformed, or are for frames that the clip does not have.
        """
        return tuple(weight * self._nearness(frame) for frame, weight in enumerate(self.strengths(frames)))

    def strengths(self, frames: int) -> tuple[float, ...]:
        """The weight of each frame of a clip, whatever its distance from a key image.

        Raises:
            ClipError: the weights are malformed, or are for frames that the clip does not have.
        """
        given = parse_frames("The control weight", self.weight, frames, MOST_WEIGHT)
        return given + given[-1:] * (frames - len(given))

    def order(self, frames: int, images: int) -> list[int]:
        """The number of the image of each frame.

        Args:
            frames: of the clip.
            images: how many images the source has, unless there are keys.

        Raises:
            ClipError: there are too few images.
        """
        if self.keys:
            return [_nearest(self.keys, frame) for frame in range(frames)]
        assert self.source is not None
        return image_order(self.source.name, self.fill, frames, images)

    def mixtures(self, frames: int, images: int) -> list[tuple[int, int, float]]:
        """For each frame the numbers of two images, and the share of the second: key images turn into each other.

        Args:
            frames: of the clip.
            images: how many images the source has, unless there are keys.

        Raises:
            ClipError: there are too few images.
        """
        if not self.keys:
            return [(number, number, 0.0) for number in self.order(frames, images)]
        places = [key.frame for key in self.keys]
        return [_between(places, frame) for frame in range(frames)]

    def to_json(self, named: Callable[[Path], Mapping[str, Any]] = lambda path: {"path": str(path)}) -> dict[str, Any]:
        """Itself as JSON values.

        Args:
            named: what is written of a file.
        """
        images: dict[str, Any] = {"keys": [{"frame": k.frame, "index": k.index, **named(k.path)} for k in self.keys]}
        if self.source is not None:
            images = {"source": _source_to_json(self.source, named)}
        own = {name: getattr(self, name) for name in _VALUES}
        own |= {} if self.without_key == NEAREST else {"without_key": self.without_key}
        own |= {} if self.drift == DRIFT else {"drift": self.drift}
        own |= {"colour_match": self.colour_match} if self.colour_match else {}
        own |= {} if self.encoder is None else {"encoder": dict(named(self.encoder))}
        own |= {} if self.mask is None else {"mask": _source_to_json(self.mask, named)}
        return {"model": dict(named(self.model)), **own, **images}

    def _nearness(self, frame: int) -> float:
        if not self.keys:
            return 1.0
        distance = abs(self.keys[_nearest(self.keys, frame)].frame - frame)
        return max(1 - distance / self.reach, 0.0)


AnyUnit = ControlUnit | CameraUnit
"""What steers a clip beside its prompt."""


def control_from_json(data: Any, find: Callable[[Any], Path]) -> AnyUnit:
    """The unit whose ``to_json`` wrote it; the values may come from anyone.

    Args:
        find: the path of a file from its entry.

    Raises:
        ClipError: a value is missing, or has the wrong type or range.
    """
    entry = _checked(data, dict, "control")
    if CAMERA in entry:
        return camera_from_json(entry, find)
    values = {name: _checked(entry.get(name), kind, name) for name, kind in _VALUES.items()}
    values["drift"] = _checked(entry.get("drift", DRIFT), _NUMBER, "drift")
    values["without_key"] = _checked(entry.get("without_key", NEAREST), str, "without_key")
    values["colour_match"] = float(_checked(entry.get("colour_match", 0.0), _NUMBER, "colour_match"))
    if "encoder" in entry:
        values["encoder"] = find(_checked(entry["encoder"], dict, "encoder"))
    images: dict[str, Any] = {"keys": tuple(_key(one, find) for one in _checked(entry.get("keys", []), list, "keys"))}
    for name in ("source", "mask"):
        if name in entry:
            images[name] = _source_from_json(_checked(entry[name], dict, name), find)
    return ControlUnit(find(_checked(entry.get("model"), dict, "model")), **values, **images)


def _source_to_json(source: Source, named: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    part = {name: value for name, value in asdict(source).items() if name != "path"}
    return {**part, **named(source.path)}


def _source_from_json(entry: Mapping[str, Any], find: Callable[[Any], Path]) -> Source:
    return Source(find(entry), **{name: _checked(entry.get(name), kind, name) for name, kind in _PART.items()})


def _shown(given: float | str) -> str:
    return given if isinstance(given, str) else f"{given:g}"


def _key(entry: Any, find: Callable[[Any], Path]) -> Pin:
    entry = _checked(entry, dict, "keys")
    return Pin(_checked(entry.get("frame"), int, "frame"), find(entry), _checked(entry.get("index"), int, "index"))


def _checked(value: Any, kind: Any, name: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ClipError(
            f"The control model's {name} is damaged: {value!r:.40}. Use the original file of the clip.", code="AD-H18"
        )
    return value


_NUMBER = (int, float)
_VALUES: dict[str, Any] = {
    "preprocessor": str,
    "weight": str,
    "start": (*_NUMBER, str),
    "end": (*_NUMBER, str),
    "fill": str,
    "reach": int,
}
_PART: dict[str, Any] = {
    "start": int,
    "end": (int, type(None)),
    "every": int,
    "fps": (*_NUMBER, type(None)),
    "fit": str,
}


def _nearest(keys: Sequence[Pin], frame: int) -> int:
    return min(range(len(keys)), key=lambda number: abs(keys[number].frame - frame))


def _between(places: Sequence[int], frame: int) -> tuple[int, int, float]:
    """The numbers of the places around a frame, which rise, and how far it is from the first to the second."""
    after = next((number for number, place in enumerate(places) if place >= frame), len(places) - 1)
    before = max(after - 1, 0)
    if places[after] <= frame or frame <= places[before]:
        return (after, after, 0.0) if places[after] <= frame else (before, before, 0.0)
    return before, after, (frame - places[before]) / (places[after] - places[before])


def _held(frame: int, _frames: int, images: int) -> int:
    return min(frame, images - 1)


def _looped(frame: int, _frames: int, images: int) -> int:
    return frame % images


def _stretched(frame: int, frames: int, images: int) -> int:
    """The first frame has the first image and the last one the last; those between have the nearest."""
    last = max(frames - 1, 1)
    return (2 * frame * (images - 1) + last) // (2 * last)


def count_of(source: Source, fill: str, frames: int) -> int:
    """How many images a source has, counted as far as they matter to a clip of so many frames.

    Raises:
        AnimateDiffError: it is missing or damaged.
    """
    return count_frames(source, VIDEO_FRAMES if fill == STRETCH else frames)


def image_order(name: str, fill: str, frames: int, images: int) -> list[int]:
    """The number of the image of each frame.

    Args:
        name: of the source.
        fill: see `ControlUnit`.
        frames: of the clip.
        images: how many the source has.

    Raises:
        ClipError: there are too few images.
    """
    if fill == REFUSE and 1 < images < frames:
        raise ClipError(
            f"{name} has {images} images for a clip of {frames} frames. Lower the number of frames, or hold, loop or "
            "stretch the images.",
            code="AD-H16",
        )
    return [_FILLED[fill](frame, frames, images) for frame in range(frames)]


_FILLED: dict[str, Callable[[int, int, int], int]] = {
    HOLD: _held,
    STRETCH: _stretched,
    LOOP: _looped,
    REFUSE: _held,
}
