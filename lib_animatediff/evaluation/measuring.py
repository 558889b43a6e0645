"""One clip measured, and the table of what is measured: page, results and verdict derive from it."""

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
    """A column.

    Attributes:
        key: in the results.
        title: at the top of the column.
        about: what it means, in a sentence.
        digits: behind the point.
        percent: shown as such; the figure itself is a share.
        more_is_better: None where neither more nor less is.
    """

    key: str
    title: str
    about: str
    digits: int = 2
    percent: bool = False
    more_is_better: bool | None = True

    def show(self, value: float | None) -> str:
        """The figure as people read it."""
        if value is None:
            return "—"
        return f"{100 * value:.0f}{_SPACE}%" if self.percent else f"{value:.{self.digits}f}"


DIRECTION = Metric(
    "direction",
    "Direction",
    "Share of the clips whose moving thing goes within 45° of where the prompt says, as optical flow tells; it has to "
    "get ahead by 5 % of the image's side, steadily, and not only because the whole image shifts. Going anywhere "
    "by chance would be right in 25 %.",
    percent=True,
)
STANDS = Metric(
    "stands",
    "Stands",
    "Share of the clips that should stand still in which everything stays where it is and frames belong together.",
    percent=True,
)
SMOOTHNESS = Metric(
    "smoothness",
    "Smoothness",
    "100 times the mean cosine of neighbouring frames' embeddings: the paper's smoothness. A frozen frame has 100, so "
    "read it beside the motion.",
)
SMOOTHNESS_ALL = Metric("smoothness_all", "Smoothness, all pairs", "The same over all pairs of frames.")
DOMAIN = Metric(
    "domain",
    "Domain",
    "100 times the mean cosine between frames and stills of the prompt that the same model paints without motion, from "
    "other seeds: the paper's domain similarity. Independent frames are such stills themselves.",
)
TEXT = Metric("text", "Text", "100 times the mean cosine between frames and the prompt, which needs CLIP (--embedder).")
MOTION = Metric(
    "motion_top",
    "Motion",
    "Mean flow of the 5 % of the pixels that move most, in pixels per frame. More is not better: unrelated frames have "
    "the most.",
    more_is_better=None,
)
MEAN_MOTION = Metric(
    "motion", "Mean motion", "Mean flow over the whole image, in pixels per frame.", more_is_better=None
)
WAY = Metric(
    "way",
    "Way",
    "How far the moving thing gets to where the prompt says, in pixels; 0 where the clip shows no way at all.",
    1,
    more_is_better=None,
)
DYNAMIC = Metric(
    "dynamic",
    "Dynamic degree",
    "Share of the clips that move enough by VBench's rule, as if at 8 frames a second (proxy: DIS flow instead of "
    "RAFT).",
    percent=True,
    more_is_better=None,
)
MOTION_SMOOTHNESS = Metric(
    "motion_smoothness",
    "Motion smoothness",
    "VBench's: every second frame is made anew from its neighbours; 100 times (1 less the mean error). Proxy: led by "
    "DIS flow instead of AMT.",
)
FLICKERING = Metric(
    "temporal_flickering",
    "Flickering",
    "VBench's: 100 times (1 less the mean difference of neighbouring frames), for prompts that stand still only.",
)
SUBJECT = Metric(
    "subject_consistency",
    "Subject consistency",
    "VBench's: 100 times the mean cosine with the frame before and with the first one. VBench embeds by DINO; its "
    "background consistency is the same by CLIP.",
)
BACKGROUND = Metric(
    "background_consistency", "Background consistency", "VBench's: as subject consistency, but embedded by CLIP."
)
SECONDS = Metric("seconds", "Seconds", "Median time to make a clip.", 1, more_is_better=False)

PAPERS = (DIRECTION, STANDS, SMOOTHNESS, SMOOTHNESS_ALL, DOMAIN, TEXT, MOTION, WAY, SECONDS)
VBENCH = (SUBJECT, BACKGROUND, MOTION_SMOOTHNESS, FLICKERING, DYNAMIC, MEAN_MOTION)
METRICS = (*PAPERS, *VBENCH)


@dataclass(frozen=True)
class Embedders:
    """Who embeds what.

    Attributes:
        main: for the paper's metrics and VBench's background consistency.
        subject: for VBench's subject consistency.
    """

    main: Embedder
    subject: Embedder


def measure(
    frames: Frames, prompt: Prompt, references: Tensor, embedders: Embedders, seconds: float | None
) -> tuple[Figures, str]:
    """All figures of a clip, by the keys of `METRICS`, and where it goes (see `direction.Trajectory.heading`).

    Args:
        frames: ``f h w 3``, at least two.
        references: embeddings by ``embedders.main`` of stills without motion, ``n d``.
        seconds: that it took.
    """
    rows = embedders.main.images(frames)
    subject = rows if embedders.subject is embedders.main else embedders.subject.images(frames)
    text = embedders.main.text(prompt.text)
    flow = flow_of(frames)
    way = estimate_trajectory(flow)
    tops = metrics.top_magnitudes(flow)
    between = metrics.motion_smoothness(flow)
    goes = None if prompt.heading is None else float(way.goes(prompt.heading))
    stands = prompt.heading == STILL
    figures: Figures = {
        "direction": None if stands else goes,
        "stands": goes if stands else None,
        "smoothness": metrics.smoothness(rows),
        "smoothness_all": metrics.smoothness_of_all_pairs(rows),
        "domain": metrics.domain_score(rows, references),
        "text": None if text is None else metrics.text_score(rows, text),
        "motion_top": sum(tops) / len(tops),
        "motion": metrics.magnitude(flow),
        "way": _gone(way, prompt),
        "dynamic": float(metrics.is_dynamic(flow)),
        "motion_smoothness": None if between is None else 100 * between,
        "temporal_flickering": 100 * metrics.temporal_flickering(frames) if stands else None,
        "subject_consistency": None if embedders.subject.kind == CLIP else 100 * metrics.consistency(subject),
        "background_consistency": None if embedders.main.kind == DINO else 100 * metrics.consistency(rows),
        "seconds": seconds,
    }
    return figures, way.heading


def _gone(way: Trajectory, prompt: Prompt) -> float | None:
    if prompt.heading is None or prompt.heading == STILL:
        return None
    return way.towards(prompt.heading) if way.is_one else 0.0
