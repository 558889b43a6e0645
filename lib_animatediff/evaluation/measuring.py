"""Measure a clip, and the table of all metrics, from which page, results and verdict derive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import metrics
from .direction import STILL, Trajectory, estimate_trajectory
from .embedders import CLIP, DINO
from .flow import flow_of

if TYPE_CHECKING:
    from torch import Tensor

    from .embedders import Embedder
    from .flow import Frames
    from .prompts import Prompt

_SPACE = "\N{NO-BREAK SPACE}"

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Metric:
    """A metric, shown as a column.

    Attributes:
        key: key in the results.
        title: column title.
        about: explanation, as sentences.
        digits: decimal places.
        percent: show a share as a percentage.
        more_is_better: None if neither direction is better.
    """

    key: str
    title: str
    about: str
    digits: int = 2
    percent: bool = False
    more_is_better: bool | None = True

    def show(self, value: float | None) -> str:
        """The formatted value."""
        if value is None:
            return "—"
        return f"{100 * value:.0f}{_SPACE}%" if self.percent else f"{value:.{self.digits}f}"


DIRECTION = Metric(
    "direction",
    "Direction",
    "Share of the clips whose object moves within 45° of the prompt's direction, according to optical flow: by at "
    "least 5 % of the image's side, steadily, and relative to the camera. Chance level: 25 %.",
    percent=True,
)
STILLNESS = Metric(
    "stands",
    "Stays still",
    "Share of the clips of still scenes in which nothing moves and all frames are consistent with each other.",
    percent=True,
)
SMOOTHNESS = Metric(
    "smoothness",
    "Smoothness",
    "100 times the mean cosine similarity of consecutive frames' embeddings: the paper's motion smoothness. A frozen "
    "frame scores 100, so compare it with the motion.",
)
SMOOTHNESS_ALL = Metric("smoothness_all", "Smoothness, all pairs", "The same for all pairs of frames.")
DOMAIN = Metric(
    "domain",
    "Domain",
    "100 times the mean cosine similarity of frames and stills that the same model renders for the prompt without "
    "motion, with other seeds: the paper's domain similarity. Independent frames are such stills.",
)
TEXT = Metric("text", "Text", "100 times the mean cosine similarity of frames and prompt. Requires a CLIP embedder.")
MOTION = Metric(
    "motion_top",
    "Motion",
    "Mean flow of the 5 % of the pixels with the most motion, in pixels per frame. Higher is not better: unrelated "
    "frames score highest.",
    more_is_better=None,
)
MEAN_MOTION = Metric("motion", "Mean motion", "Mean flow of the whole image, in pixels per frame.", more_is_better=None)
DISTANCE = Metric(
    "way",
    "Distance",
    "Distance that the object moves in the prompt's direction, in pixels; 0 if it does not move in one direction.",
    1,
    more_is_better=None,
)
DYNAMIC = Metric(
    "dynamic",
    "Dynamic degree",
    "Share of the clips with enough motion by VBench's rule, at 8 frames per second (proxy: DIS flow instead of RAFT).",
    percent=True,
    more_is_better=None,
)
MOTION_SMOOTHNESS = Metric(
    "motion_smoothness",
    "Motion smoothness",
    "VBench: every second frame is interpolated from its neighbours; 100 times (1 minus the mean error). Proxy: uses "
    "DIS flow instead of AMT.",
)
FLICKERING = Metric(
    "temporal_flickering",
    "Flickering",
    "VBench: 100 times (1 minus the mean difference of consecutive frames), for prompts of still scenes only.",
)
SUBJECT = Metric(
    "subject_consistency",
    "Subject consistency",
    "VBench: 100 times the mean cosine similarity of each frame to the previous and to the first one. VBench uses "
    "DINO; its background consistency is the same with CLIP.",
)
BACKGROUND = Metric(
    "background_consistency", "Background consistency", "VBench: as subject consistency, but with CLIP."
)
SECONDS = Metric("seconds", "Seconds", "Median time to render a clip.", 1, more_is_better=False)

PAPERS = (DIRECTION, STILLNESS, SMOOTHNESS, SMOOTHNESS_ALL, DOMAIN, TEXT, MOTION, DISTANCE, SECONDS)
VBENCH = (SUBJECT, BACKGROUND, MOTION_SMOOTHNESS, FLICKERING, DYNAMIC, MEAN_MOTION)
METRICS = (*PAPERS, *VBENCH)


@dataclass(frozen=True)
class Embedders:
    """The embedders of the metrics.

    Attributes:
        main: for the paper's metrics and VBench's background consistency.
        subject: for VBench's subject consistency.
    """

    main: Embedder
    subject: Embedder


def measure(
    frames: Frames, prompt: Prompt, references: Tensor, embedders: Embedders, seconds: float | None
) -> tuple[Figures, str]:
    """Compute all metrics of a clip by the keys of `METRICS`, and its heading (see `direction.Trajectory.heading`).

    Args:
        frames: ``f h w 3``, at least two frames.
        references: embeddings of stills without motion by ``embedders.main``, ``n d``.
        seconds: time that rendering took.
    """
    rows = embedders.main.images(frames)
    subject = rows if embedders.subject is embedders.main else embedders.subject.images(frames)
    text = embedders.main.text(prompt.text)
    flow = flow_of(frames)
    trajectory = estimate_trajectory(flow)
    tops = metrics.top_magnitudes(flow)
    between = metrics.motion_smoothness(flow)
    goes = None if prompt.heading is None else float(trajectory.goes(prompt.heading))
    is_still = prompt.heading == STILL
    figures: Figures = {
        "direction": None if is_still else goes,
        "stands": goes if is_still else None,
        "smoothness": metrics.smoothness(rows),
        "smoothness_all": metrics.smoothness_of_all_pairs(rows),
        "domain": metrics.domain_score(rows, references),
        "text": None if text is None else metrics.text_score(rows, text),
        "motion_top": sum(tops) / len(tops),
        "motion": metrics.magnitude(flow),
        "way": _gone(trajectory, prompt),
        "dynamic": float(metrics.is_dynamic(flow)),
        "motion_smoothness": None if between is None else 100 * between,
        "temporal_flickering": 100 * metrics.temporal_flickering(frames) if is_still else None,
        "subject_consistency": None if embedders.subject.kind == CLIP else 100 * metrics.consistency(subject),
        "background_consistency": None if embedders.main.kind == DINO else 100 * metrics.consistency(rows),
        "seconds": seconds,
    }
    return figures, trajectory.heading


def _gone(trajectory: Trajectory, prompt: Prompt) -> float | None:
    if prompt.heading is None or prompt.heading == STILL:
        return None
    return trajectory.towards(prompt.heading) if trajectory.is_one else 0.0
