"""Where the camera is in each frame, and the text files that say so.

The files are those of CameraCtrl and of RealEstate10K, which have the same form: a line with the address of the video,
and then a line of 19 numbers for each frame: ``time fx fy cx cy 0 0`` and twelve of the matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from motion_module.errors import ClipError

NUMBERS = 19  # of a line
_MATRIX = 7  # the first number of a line that belongs to the matrix
MOST_FRAMES = 100_000
_ROUNDING = 0.02  # of a rotation in a file, whose numbers are rounded: RealEstate10K has nine digits
FOCAL = (0.474812461, 0.844111024)  # of width and height: those of CameraCtrl's own examples
Matrix = tuple[float, ...]
"""A rotation and a translation, 3x4, row by row."""
IDENTITY: Matrix = (1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)


@dataclass(frozen=True)
class CameraPose:
    """A camera in one frame, in the axes of images: x to the right, y down, z into the scene.

    Attributes:
        matrix: from the world to the camera, 3x4, row by row.
        fx, fy: focal lengths, as shares of width and height of the source of the poses, 16:9.
        cx, cy: the point that the camera looks at, as shares of width and height.
    """

    matrix: Matrix = IDENTITY
    fx: float = FOCAL[0]
    fy: float = FOCAL[1]
    cx: float = 0.5
    cy: float = 0.5

    @property
    def centre(self) -> tuple[float, float, float]:
        """Where the camera is in the world."""
        m = self.matrix
        x, y, z = (-sum(m[4 * row + column] * m[4 * row + 3] for row in range(3)) for column in range(3))
        return x, y, z

    @property
    def mirrored(self) -> CameraPose:
        """The camera of the scene in a mirror that exchanges left and right."""
        a, b, c = (self.matrix[start : start + 4] for start in (0, 4, 8))
        turned = (a[0], -a[1], -a[2], -a[3], -b[0], *b[1:], -c[0], *c[1:])
        return CameraPose(turned, self.fx, self.fy, 1 - self.cx, self.cy)

    def direction(self, axis: int) -> tuple[float, float, float]:
        """Its own axis in the world: 0 to its right, 1 down, 2 to where it looks."""
        x, y, z = self.matrix[4 * axis : 4 * axis + 3]
        return x, y, z


def composed(after: Sequence[float], before: Sequence[float]) -> Matrix:
    """The matrix that applies ``before`` and then ``after``."""
    rows = []
    for row in range(3):
        own = after[4 * row : 4 * row + 4]
        rows += [sum(own[k] * before[4 * k + column] for k in range(3)) for column in range(4)]
        rows[-1] += own[3]
    return tuple(rows)


def parse_poses(text: str, name: str = "The camera file") -> list[CameraPose]:
    """The poses of a text in the form of CameraCtrl or RealEstate10K, one for each line of numbers.

    Args:
        name: of the file, for messages.

    Raises:
        ClipError: a line is no pose, or there is none.
    """
    poses: list[CameraPose] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or (number == 1 and _numbers(line) is None):
            continue  # the address of the video
        values = _numbers(line)
        if values is None or len(values) != NUMBERS or not all(map(math.isfinite, values)):
            raise ClipError(
                f"{name}, line {number}: a pose is {NUMBERS} numbers (time fx fy cx cy 0 0 and a 3x4 matrix), not "
                f"{' '.join(line.split())!r:.60}. Use a file of CameraCtrl or RealEstate10K.",
                code="AD-Q70",
            )
        poses.append(_pose(values, f"{name}, line {number}"))
        if len(poses) > MOST_FRAMES:
            raise ClipError(f"{name} has more than {MOST_FRAMES} poses. Use a part of it.", code="AD-Q71")
    if not poses:
        raise ClipError(
            f"{name} has no poses. Use a file of CameraCtrl or RealEstate10K: a line with a link, then {NUMBERS} "
            "numbers for each frame.",
            code="AD-Q72",
        )
    return poses


def write_poses(poses: Sequence[CameraPose], link: str = "-") -> str:
    """The poses as a text that `parse_poses` reads."""
    lines = [link]
    for number, pose in enumerate(poses):
        values = (number, pose.fx, pose.fy, pose.cx, pose.cy, 0, 0, *pose.matrix)
        lines.append(" ".join(f"{value:.9g}" for value in values))
    return "\n".join(lines) + "\n"


def for_frames(poses: Sequence[CameraPose], frames: int) -> list[CameraPose]:
    """One pose for each frame: the last one stays, and those beyond the clip are left out."""
    given = list(poses[:frames])
    return given + given[-1:] * (frames - len(given))


def _pose(values: Sequence[float], place: str) -> CameraPose:
    fx, fy, cx, cy = values[1:5]
    matrix = tuple(values[_MATRIX:])
    if fx <= 0 or fy <= 0:
        raise ClipError(f"{place}: the focal lengths {fx:g} and {fy:g} must be above 0.", code="AD-Q73")
    rows = [matrix[4 * row : 4 * row + 3] for row in range(3)]
    products = [
        sum(a * b for a, b in zip(rows[i], rows[j], strict=True)) - (i == j) for i in range(3) for j in range(i, 3)
    ]
    a, b, c = rows
    turned = (
        a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0])
    )
    if max(map(abs, products)) > _ROUNDING or turned < 0:
        raise ClipError(
            f"{place}: the first three columns of the matrix are no rotation. Write matrices from the world to the "
            "camera, without a scale.",
            code="AD-Q74",
        )
    return CameraPose(matrix, fx, fy, cx, cy)


def _numbers(line: str) -> list[float] | None:
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        return None
