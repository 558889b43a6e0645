"""Named moves of a camera, such as ``pan-left 0.5, zoom-in 0.3``, as poses.

A move at speed 1 goes as far in 16 frames as those of ComfyUI-AnimateDiff-Evolved, whose names and numbers these are: a
pan moves the camera sideways by 1.5 units, a zoom forwards by 3, and a tilt or a roll turns it by 60 degrees. An orbit
turns as a tilt and moves as a pan, so that what is straight ahead stays there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise

from lib_animatediff.prompts.frame_index import PLACE, frame_at
from lib_animatediff.prompts.travel import EASINGS
from motion_module import ClipError
from motion_module.camera_ctrl.poses import IDENTITY, CameraPose, Matrix, composed

LENGTH = 16  # frames in which a move at speed 1 is done
DISTANCE = 1.5  # units
TURN = math.pi / 3
ORBIT_DISTANCE = DISTANCE / TURN  # from the camera to the point that it circles, so that it begins as fast as a pan
MOST_SPEED = 10.0
MOST_LENGTH = 10_000  # characters
_POSES = ".txt"  # suffix of files of poses
LINEAR = "linear"
Vector = tuple[float, float, float]
_NONE: Vector = (0.0, 0.0, 0.0)
_PART = re.compile(rf"\s*(?:(?P<place>{PLACE})\s*:)?(?P<moves>[^:]*)", re.DOTALL)
_MOVE = re.compile(r"(?P<name>[a-z][a-z-]*)(?:\s+(?P<speed>[^\s/]+)(?P<each>/s)?)?(?:\s+(?P<easing>[a-z-]+))?")


@dataclass(frozen=True)
class Move:
    """A move at speed 1 by its directions, in the axes of images: x to the right, y down, z into the scene.

    Attributes:
        shift: what the scene moves, as shares of `DISTANCE`.
        turn: axes that the scene turns around, as shares of `TURN`.
        orbit: axes that the camera turns around the point straight ahead, as shares of `TURN`.
    """

    shift: Vector = _NONE
    turn: Vector = _NONE
    orbit: Vector = _NONE


MOVES = {
    "static": Move(),
    "pan-left": Move(shift=(1, 0, 0)),
    "pan-right": Move(shift=(-1, 0, 0)),
    "pan-up": Move(shift=(0, 1, 0)),
    "pan-down": Move(shift=(0, -1, 0)),
    "zoom-in": Move(shift=(0, 0, -2)),
    "zoom-out": Move(shift=(0, 0, 2)),
    "tilt-left": Move(turn=(0, 1, 0)),
    "tilt-right": Move(turn=(0, -1, 0)),
    "tilt-up": Move(turn=(-1, 0, 0)),
    "tilt-down": Move(turn=(1, 0, 0)),
    "roll-clockwise": Move(turn=(0, 0, -1)),
    "roll-anticlockwise": Move(turn=(0, 0, 1)),
    "orbit-left": Move(orbit=(0, -1, 0)),
    "orbit-right": Move(orbit=(0, 1, 0)),
    "orbit-up": Move(orbit=(1, 0, 0)),
    "orbit-down": Move(orbit=(-1, 0, 0)),
}


@dataclass(frozen=True)
class Moving:
    """A move of a part of the clip.

    Attributes:
        move: what moves.
        speed: factor on it; below 0 the other way.
        each_second: the speed is for a second, and otherwise for 16 frames.
        easing: a name of `EASINGS`, over the part.
    """

    move: Move
    speed: float = 1.0
    each_second: bool = False
    easing: str = LINEAR

    def amount(self, step: int, steps: int, fps: float) -> float:
        """How much of the move is done after ``step`` of the part's ``steps``."""
        total = self.speed * steps / (fps if self.each_second else LENGTH)
        return total * EASINGS[self.easing](step / steps) if steps else 0.0


@dataclass(frozen=True)
class Part:
    """Moves that begin at a frame and end where the next part begins.

    Attributes:
        place: of its first frame, in the notation of prompt travel.
    """

    place: str
    moves: tuple[Moving, ...]


def is_pose_file(text: str) -> bool:
    """Whether a camera is the path of a file of poses; otherwise it is named moves."""
    return text.strip().lower().endswith(_POSES)


def checked_camera(text: str) -> str:
    """A camera in one line.

    Raises:
        ClipError: its moves are malformed.
    """
    if not is_pose_file(text):
        parse_moves(text)
    return "; ".join(part.strip() for part in text.strip().splitlines())


def parse_moves(text: str) -> list[Part]:
    """The parts of ``pan-left 0.5, zoom-in 0.3; 8: roll-clockwise 0.2/s ease-in``.

    Raises:
        ClipError: a move is unknown, or a number is malformed.
    """
    if len(text) > MOST_LENGTH:
        raise ClipError(f"The camera has more than {MOST_LENGTH} characters. Use a file of poses.", code="AD-Q84")
    pieces = [piece for piece in re.split(r"[;\n]", text) if piece.strip()]
    if not pieces:
        raise ClipError("The camera has no moves. Write some, such as pan-left 0.5, zoom-in 0.3.", code="AD-Q85")
    return [_part(piece, number) for number, piece in enumerate(pieces)]


def poses_of_moves(text: str, frames: int, fps: float) -> list[CameraPose]:
    """The pose of each frame of a clip.

    Args:
        text: see `parse_moves`.
        fps: of the clip, for speeds in a second.

    Raises:
        ClipError: the text is malformed, or a part begins at a frame that the clip does not have.
    """
    parts = parse_moves(text)
    begins = [_frame(part.place, frames) for part in parts]
    for part, (former, begin) in zip(parts[1:], pairwise(begins), strict=True):
        if begin <= former:
            raise ClipError(
                f"The camera's part from frame {part.place} must begin after frame {former}, where the one before "
                "begins. Write the parts in their order.",
                code="AD-Q86",
            )
    matrices: list[Matrix] = [IDENTITY] * (begins[0] + 1)
    ends = [*begins[1:], max(frames - 1, begins[-1])]
    for part, begin, end in zip(parts, begins, ends, strict=True):
        before, steps = matrices[-1], end - begin
        matrices += [composed(moved(part.moves, step, steps, fps), before) for step in range(1, steps + 1)]
    return [CameraPose(matrix) for matrix in matrices[:frames]]


def moved(moves: Sequence[Moving], step: int, steps: int, fps: float) -> Matrix:
    """From the camera at the beginning of a part to that after ``step`` of its ``steps``."""
    amounts = [(each.move, each.amount(step, steps, fps)) for each in moves]

    def total(kind: str) -> Vector:
        x, y, z = (sum(amount * getattr(move, kind)[axis] for move, amount in amounts) for axis in range(3))
        return x, y, z

    shift, turn, around = total("shift"), total("turn"), total("orbit")
    circled = rotation(around)
    # What is at the centre stays there: X -> R (X - centre) + centre
    orbit = [value for row in range(3) for value in (*circled[3 * row : 3 * row + 3], _back(circled, row))]
    turned = rotation(turn)
    own = [value for row in range(3) for value in (*turned[3 * row : 3 * row + 3], DISTANCE * shift[row])]
    return composed(own, orbit)


def rotation(turn: Vector) -> tuple[float, ...]:
    """``Rz Ry Rx`` for shares of `TURN`, 3x3, row by row."""
    (cx, sx), (cy, sy), (cz, sz) = ((math.cos(TURN * a), math.sin(TURN * a)) for a in turn)
    return (
        *(cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        *(sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        *(-sy, cy * sx, cy * cx),
    )


def _back(turned: Sequence[float], row: int) -> float:
    return ORBIT_DISTANCE * ((row == 2) - turned[3 * row + 2])


def _part(piece: str, number: int) -> Part:
    match = _PART.fullmatch(piece)
    if match is None:
        raise _malformed(piece)
    if match["place"] is None and number:
        raise ClipError(
            f"The camera's part {piece.strip()!r:.40} does not say at which frame it begins. Write 8: before it.",
            code="AD-Q87",
        )
    return Part(match["place"] or "0", tuple(map(_moving, match["moves"].split(","))))


def _moving(text: str) -> Moving:
    words = text.strip().lower()
    match = _MOVE.fullmatch(words)
    if match is None:
        raise _malformed(text)
    name, speed, easing = match["name"], match["speed"] or "1", match["easing"]
    if speed in EASINGS and easing is None and not match["each"]:  # zoom-in ease-in
        speed, easing = "1", speed
    if name not in MOVES:
        close = get_close_matches(name, MOVES, 1)
        meant = f"Did you mean {close[0]}? " if close else ""
        raise ClipError(f"There is no move {name!r:.40} of a camera. {meant}Use {', '.join(MOVES)}.", code="AD-Q88")
    if easing is not None and easing not in EASINGS:
        raise ClipError(f"There is no easing {easing!r:.40} of a camera. Use {', '.join(EASINGS)}.", code="AD-Q89")
    try:
        number = float(speed)
    except ValueError:
        raise _malformed(text) from None
    if not abs(number) <= MOST_SPEED:
        raise ClipError(
            f"The camera's {name} has a speed of {speed:.20}. Use {-MOST_SPEED:g} to {MOST_SPEED:g}; 1 is the whole "
            f"move in {LENGTH} frames.",
            code="AD-Q90",
        )
    return Moving(MOVES[name], number, bool(match["each"]), easing or LINEAR)


def _frame(place: str, frames: int) -> int:
    try:
        return frame_at(place, frames)
    except ClipError as error:
        raise ClipError(f"The camera, {place}: {error.message}", code="AD-Q91") from None


def _malformed(text: str) -> ClipError:
    return ClipError(
        f"The camera's {' '.join(text.split())!r:.40} is no move. Write a name, a speed and an easing, such as zoom-in "
        "0.3 ease-out or pan-left 0.5/s.",
        code="AD-Q92",
    )
