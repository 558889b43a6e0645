"""A CameraCtrl model with a camera path, as a part of a clip's plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_animatediff.request.motion_scale import parse_frames
from motion_module import ClipError
from motion_module.camera_ctrl.poses import CameraPose, for_frames, parse_poses
from motion_module.limits import read_limited

from .moves import poses_of_moves

MOST_STRENGTH = 2.0  # as of control models
MOST_BYTES = 20_000_000  # of a file of poses: a hundred thousand lines
MOST_EVERY = 1_000
_ANY_RATE = 8.0  # frames per second, where only the frames count


@dataclass(frozen=True)
class CameraUnit:
    """A camera path in a clip.

    Attributes:
        model: file of a CameraCtrl model.
        moves: named moves, such as ``pan-left 0.5, zoom-in 0.3``, see `parse_moves`; empty: there is a file.
        file: poses in the form of CameraCtrl or RealEstate10K, one for each frame of the clip. The last one stays.
        every: take each n-th pose of the file, since such videos have more frames per second than clips.
        weight: strength over the frames, such as ``0.8`` or ``0: 1, 12: 0.4``, each from 0 to `MOST_STRENGTH`.
        start, end: the part of the sampling steps in which it acts, from 0.0 to 1.0.

    Raises:
        ClipError: a value is out of range, or there are not either moves or a file.
    """

    model: Path
    moves: str = ""
    file: Path | None = None
    every: int = 1
    weight: str = "1"
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if (self.file is None) == (not self.moves.strip()):
            raise ClipError(
                f"{self.model.name} needs either named moves or a file of poses. Give one of them.", code="AD-Q93"
            )
        if self.every < 1 or not 0 <= self.start < self.end <= 1:
            raise ClipError(
                f"{self.model.name}: take every pose or each n-th one, from a start of 0 or more to a later end, at "
                f"most 1; not every {self.every} from {self.start:g} to {self.end:g}.",
                code="AD-Q94",
            )

    def __str__(self) -> str:
        """The unit in words, for an infotext."""
        path = self.moves if self.file is None else self.file.name
        each = "" if self.every == 1 else f", each pose of {self.every}"
        steps = "" if (self.start, self.end) == (0, 1) else f", steps {self.start:g} to {self.end:g}"
        return f"{self.model.name}, {' '.join(path.split())}{each}, weight {self.weight}{steps}"

    def check_frames(self, frames: int) -> None:
        """Check what a clip's number of frames decides. No file is read.

        Raises:
            ClipError: the strengths or the moves are malformed, or are for frames that the clip does not have.
        """
        self.strengths(frames)
        if self.file is None:
            poses_of_moves(self.moves, frames, _ANY_RATE)

    def strengths(self, frames: int) -> tuple[float, ...]:
        """The strength of each frame of a clip.

        Raises:
            ClipError: they are malformed, or are for frames that the clip does not have.
        """
        given = parse_frames("The camera's strength", self.weight, frames, MOST_STRENGTH)
        return given + given[-1:] * (frames - len(given))

    def poses(self, frames: int, fps: float) -> list[CameraPose]:
        """The pose of each frame of a clip.

        Args:
            fps: of the rendered frames.

        Raises:
            ClipError: the file cannot be read or has no poses, or the moves are malformed.
        """
        if self.file is None:
            return poses_of_moves(self.moves, frames, fps)
        return for_frames(read_poses(self.file)[:: self.every], frames)

    def to_json(self, named: Callable[[Path], Mapping[str, Any]] = lambda path: {"path": str(path)}) -> dict[str, Any]:
        """Itself as JSON values.

        Args:
            named: what is written of a file.
        """
        camera = {"moves": self.moves} if self.file is None else {"every": self.every, **named(self.file)}
        own = {"weight": self.weight, "start": self.start, "end": self.end}
        return {"model": dict(named(self.model)), **own, CAMERA: camera}


CAMERA = "camera"  # the entry by which the JSON of a camera differs from that of a control model


def read_poses(path: Path) -> list[CameraPose]:
    """The poses of a file.

    Raises:
        ClipError: it cannot be read, or has no poses.
    """
    try:
        text = read_limited(path, MOST_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ClipError(
            f"The camera file {path.name} cannot be read ({reason}). Check the path.", code="AD-Q95"
        ) from error
    return parse_poses(text, path.name)


def camera_from_json(data: Mapping[str, Any], find: Callable[[Any], Path]) -> CameraUnit:
    """The unit that `CameraUnit.to_json` wrote; the values may come from anyone.

    Args:
        find: the path of a file from its entry.

    Raises:
        ClipError: a value is missing, or has the wrong type or range.
    """
    camera = _checked(data.get(CAMERA), dict, CAMERA)
    values = {name: _checked(data.get(name), kind, name) for name, kind in _VALUES.items()}
    if "moves" in camera:
        values["moves"] = _checked(camera["moves"], str, "moves")
    else:
        values |= {"file": find(camera), "every": _checked(camera.get("every"), int, "every")}
    return CameraUnit(find(_checked(data.get("model"), dict, "model")), **values)


_NUMBER = (int, float)
_VALUES: dict[str, Any] = {"weight": str, "start": _NUMBER, "end": _NUMBER}


def _checked(value: Any, kind: Any, name: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ClipError(
            f"The camera's {name} is damaged: {value!r:.40}. Use the original file of the clip.", code="AD-Q96"
        )
    return value
