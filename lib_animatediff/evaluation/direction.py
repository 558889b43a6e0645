"""Direction of the moving object in a clip, from optical flow: without a tracker, weights, or knowledge of the content.

Pixels on edges whose flow is consistent in both directions count, relative to the camera's motion. The sum of their
median steps is the object's displacement. Three criteria exclude other phenomena:

- unrelated frames: flow between them is inconsistent, and consistent pixels point in random directions, so that the
  displacement neither grows steadily nor is nearly as long as the path;
- a frozen or flickering frame: the displacement is short;
- an image that is shifted as a whole (Text2Video-Zero): its borders move as well, which counts as camera motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lib_animatediff.video.opencv import need_opencv
from lib_animatediff.video.optical_flow import follow, grey

from .flow import SIDE, Flow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lib_animatediff.video.optical_flow import Field

    Mask = NDArray[np.bool_]
    Step = NDArray[np.float64]

HEADINGS: dict[str, tuple[float, float]] = {
    "right": (1.0, 0.0),
    "left": (-1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
}
STILL = "still"
CAMERA = "camera"  # the whole image moves
UNRELATED = "unrelated"  # frames are not consistent with each other
ASTRAY = "astray"  # something moves, but in no constant direction

# In pixels at the flow's resolution, where the shorter side has 256.
EDGE = 2.0  # grey levels per pixel above which the image, not its surroundings, determines the flow
MOVING = 0.8
ROUND_TRIP, ROUND_TRIP_SHARE = (
    1.0,
    0.05,
)  # tolerance of forward plus backward flow: absolute, relative to length
FAR = 0.05 * SIDE  # shortest displacement that counts as movement
LEAST_AREA = 0.005  # smallest share of the image that counts as an object
LEAST_COHERENCE = 0.7
LEAST_ALONG, LEAST_STRAIGHT = 0.75, 0.6
BORDER = 0.125  # width of the border, as a share of each side, in which camera motion is measured
BORDER_EDGES = 0.1  # share of reliable pixels that a side of the border needs
BORDERS = 3  # of four sides that camera motion needs; a single object touches at most two
WITHIN = math.radians(45)


@dataclass(frozen=True)
class Trajectory:
    """Movement of the object in a clip.

    Attributes:
        across: displacement to the right relative to the camera, in pixels of the clip.
        down: displacement downwards, likewise.
        along: share of the movement along the line of the displacement that goes forwards. Weighted by length, so that
            jitter between jumps does not count.
        straight: displacement divided by the length of the path.
        coherence: share of edge pixels with consistent flow; 1 without edges.
        camera: displacement of the borders, in pixels of the clip; 0 if they are featureless.
        far: shortest displacement that counts as movement, in pixels of the clip.
    """

    across: float
    down: float
    along: float
    straight: float
    coherence: float
    camera: tuple[float, float]
    far: float

    @property
    def length(self) -> float:
        """Length of the displacement, in pixels of the clip."""
        return math.hypot(self.across, self.down)

    @property
    def heading(self) -> str:
        """Direction of movement: one of `HEADINGS`, or `STILL`, `CAMERA`, `UNRELATED` or `ASTRAY`."""
        if self.coherence < LEAST_COHERENCE:
            return UNRELATED
        if self.length < self.far:
            return CAMERA if math.hypot(*self.camera) >= self.far else STILL
        if self.along < LEAST_ALONG or self.straight < LEAST_STRAIGHT:
            return ASTRAY
        return max(HEADINGS, key=self.towards)

    @property
    def is_one(self) -> bool:
        """Whether an object moves in one direction."""
        return self.heading in HEADINGS

    def goes(self, heading: str) -> bool:
        """Whether it moves within 45 degrees of a heading; for "still", whether nothing moves."""
        if heading == STILL or not self.is_one:
            return self.heading == heading
        return self.towards(heading) > math.cos(WITHIN) * self.length

    def towards(self, heading: str) -> float:
        """Displacement along one of `HEADINGS`, in pixels of the clip; negative in the opposite direction."""
        x, y = HEADINGS[heading]
        return self.across * x + self.down * y


def estimate_trajectory(flow: Flow) -> Trajectory:
    """Estimate the movement of the object in a clip."""
    luma = [grey(frame) for frame in flow.frames]
    steps, cameras, coherences = [], [], []
    for image, field, back in zip(luma, flow.forward, flow.backward, strict=False):
        edges = _edges(image)
        reliable = edges & _leads_back(field, back)
        camera = _camera(field, reliable)
        steps.append(_step(field - camera, reliable))
        cameras.append(camera)
        coherences.append(float(reliable.sum() / max(edges.sum(), 1)) if edges.any() else 1.0)
    each = np.array(steps).reshape(-1, 2) / flow.scale
    net = each.sum(axis=0)
    length, total = float(np.hypot(*net)), float(np.hypot(each[:, 0], each[:, 1]).sum())
    ahead = each @ net
    camera_path = np.array(cameras).reshape(-1, 2).sum(axis=0) / flow.scale
    return Trajectory(
        across=float(net[0]),
        down=float(net[1]),
        along=float(ahead[ahead > 0].sum() / np.abs(ahead).sum()) if ahead.any() else 0.0,
        straight=length / total if total else 0.0,
        coherence=float(np.mean(coherences)) if coherences else 1.0,
        camera=(float(camera_path[0]), float(camera_path[1])),
        far=FAR / flow.scale,
    )


def _edges(image: NDArray[np.uint8]) -> Mask:
    cv2 = need_opencv()
    slopes = [cv2.Sobel(image, cv2.CV_32F, *axes) / 8 for axes in ((1, 0), (0, 1))]  # the kernel's weights add up to 8
    edges: Mask = np.hypot(*slopes) > EDGE
    return edges


def _leads_back(field: Field, back: Field) -> Mask:
    miss = field + follow(back, field)
    near: Mask = _length(miss) <= ROUND_TRIP + ROUND_TRIP_SHARE * _length(field)
    return near


def _camera(field: Field, reliable: Mask) -> Step:
    """Median step of the borders; 0 if fewer than three sides have enough reliable pixels."""
    height, width = reliable.shape
    high, wide = round(height * BORDER), round(width * BORDER)
    bands = (np.s_[:high], np.s_[height - high :], np.s_[:, :wide], np.s_[:, width - wide :])
    seen = [field[band][reliable[band]] for band in bands if reliable[band].mean() >= BORDER_EDGES]
    if len(seen) < BORDERS:
        return np.zeros(2)
    step: Step = np.median(np.concatenate(seen), axis=0)
    return step


def _step(field: Field, reliable: Mask) -> Step:
    moving = reliable & (_length(field) > MOVING)
    if moving.mean() < LEAST_AREA:
        return np.zeros(2)
    step: Step = np.median(field[moving], axis=0)
    return step


def _length(field: Field) -> NDArray[np.float32]:
    length: NDArray[np.float32] = np.hypot(field[..., 0], field[..., 1])
    return length
