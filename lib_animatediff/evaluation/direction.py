"""Where the moving thing of a clip goes, from flow alone: no tracker, no weights, no knowledge of what is shown.

What moves are the pixels with an edge whose flow leads there and back again, less the camera's own motion. Their median
step, added up over the clip, is the way. Three demands keep other things from being taken for motion:

- unrelated frames: between them flow does not lead back, and what does points anywhere, so the way neither grows from
  frame to frame nor is nearly as long as its steps together;
- a frozen or flickering frame: its way is short;
- an image that is shifted as a whole (Text2Video-Zero): what its borders show moves with it, and is taken off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .flow import SIDE, Flow, follow, grey, opencv

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .flow import Field

    Mask = NDArray[np.bool_]
    Step = NDArray[np.float64]

HEADINGS: dict[str, tuple[float, float]] = {
    "right": (1.0, 0.0),
    "left": (-1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
}
STILL = "still"
CAMERA = "camera"  # the whole image goes somewhere
UNRELATED = "unrelated"  # frames that do not belong together
ASTRAY = "astray"  # something moves, but to nowhere

# In pixels of the flow's size, where the shorter side has 256.
EDGE = 2.0  # grey levels per pixel from which flow is told by the image, not by its neighbours
MOVING = 0.8
ROUND_TRIP, ROUND_TRIP_SHARE = 1.0, 0.05  # how far there and back may miss: so much, and so much of the way
FAR = 0.05 * SIDE  # a way that is worth the name
LEAST_AREA = 0.005  # of the image: less than that is no thing
LEAST_COHERENCE = 0.7
LEAST_ALONG, LEAST_STRAIGHT = 0.75, 0.6
BORDER = 0.125  # of each side: where the camera is looked for
BORDER_EDGES = 0.1  # of a side's band: what shows less tells nothing about the camera
BORDERS = 3  # of the four: a thing alone touches two
WITHIN = math.radians(45)


@dataclass(frozen=True)
class Trajectory:
    """How the moving thing goes.

    Attributes:
        across: its net way to the right, in pixels of the clip, less the camera's.
        down: likewise downwards.
        along: how much of the ways ahead and back, on the line of the net way, is ahead. By length, not by steps: a
            clip that jumps now and then and trembles in between goes where it jumps.
        straight: net way as a share of all steps' lengths.
        coherence: share of the edges from which flow leads to the next frame and back; 1 where there are no edges.
        camera: net way of what the borders show, in pixels of the clip; 0 where they are plain.
        far: pixels of the clip from which a way counts as one.
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
        """Of the net way, in pixels of the clip."""
        return math.hypot(self.across, self.down)

    @property
    def heading(self) -> str:
        """Where it goes: one of `HEADINGS`, or what else there is to say."""
        if self.coherence < LEAST_COHERENCE:
            return UNRELATED
        if self.length < self.far:
            return CAMERA if math.hypot(*self.camera) >= self.far else STILL
        if self.along < LEAST_ALONG or self.straight < LEAST_STRAIGHT:
            return ASTRAY
        return max(HEADINGS, key=self.towards)

    @property
    def is_one(self) -> bool:
        """Whether something goes somewhere."""
        return self.heading in HEADINGS

    def goes(self, heading: str) -> bool:
        """Whether it goes within 45 degrees of a heading; for "still", whether everything stays where it is."""
        if heading == STILL or not self.is_one:
            return self.heading == heading
        return self.towards(heading) > math.cos(WITHIN) * self.length

    def towards(self, heading: str) -> float:
        """How far it gets into one of `HEADINGS`, in pixels of the clip; below 0 is backwards."""
        x, y = HEADINGS[heading]
        return self.across * x + self.down * y


def estimate_trajectory(flow: Flow) -> Trajectory:
    """The way of what moves in a clip."""
    luma = grey(flow.frames)
    steps, cameras, coherences = [], [], []
    for image, field, back in zip(luma, flow.forward, flow.backward, strict=False):
        edges = _edges(image)
        told = edges & _leads_back(field, back)
        camera = _camera(field, told)
        steps.append(_step(field - camera, told))
        cameras.append(camera)
        coherences.append(float(told.sum() / max(edges.sum(), 1)) if edges.any() else 1.0)
    each = np.array(steps).reshape(-1, 2) / flow.scale
    net = each.sum(axis=0)
    length, walked = float(np.hypot(*net)), float(np.hypot(each[:, 0], each[:, 1]).sum())
    ahead = each @ net
    way_of_camera = np.array(cameras).reshape(-1, 2).sum(axis=0) / flow.scale
    return Trajectory(
        across=float(net[0]),
        down=float(net[1]),
        along=float(ahead[ahead > 0].sum() / np.abs(ahead).sum()) if ahead.any() else 0.0,
        straight=length / walked if walked else 0.0,
        coherence=float(np.mean(coherences)) if coherences else 1.0,
        camera=(float(way_of_camera[0]), float(way_of_camera[1])),
        far=FAR / flow.scale,
    )


def _edges(image: NDArray[np.uint8]) -> Mask:
    cv2 = opencv()
    slopes = [cv2.Sobel(image, cv2.CV_32F, *axes) / 8 for axes in ((1, 0), (0, 1))]  # Sobel's weights add up to 8
    edges: Mask = np.hypot(*slopes) > EDGE
    return edges


def _leads_back(field: Field, back: Field) -> Mask:
    miss = field + follow(back, field)
    near: Mask = _length(miss) <= ROUND_TRIP + ROUND_TRIP_SHARE * _length(field)
    return near


def _camera(field: Field, told: Mask) -> Step:
    """The median step of what the borders show, 0 where fewer than three of them show anything."""
    height, width = told.shape
    high, wide = round(height * BORDER), round(width * BORDER)
    bands = (np.s_[:high], np.s_[height - high :], np.s_[:, :wide], np.s_[:, width - wide :])
    seen = [field[band][told[band]] for band in bands if told[band].mean() >= BORDER_EDGES]
    if len(seen) < BORDERS:
        return np.zeros(2)
    step: Step = np.median(np.concatenate(seen), axis=0)
    return step


def _step(field: Field, told: Mask) -> Step:
    moving = told & (_length(field) > MOVING)
    if moving.mean() < LEAST_AREA:
        return np.zeros(2)
    step: Step = np.median(field[moving], axis=0)
    return step


def _length(field: Field) -> NDArray[np.float32]:
    length: NDArray[np.float32] = np.hypot(field[..., 0], field[..., 1])
    return length
