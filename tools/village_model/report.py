"""The page about the village model: what its clips show, beside what the figures mean, and the paper's ablations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_animatediff.hosts.diffusers.networks import LoraFile, add_embeddings, add_loras, with_motion_loras
from lib_animatediff.request.settings import ClipSettings
from motion_module import load_motion_module
from motion_module.schedules import SCALED_LINEAR
from tools.pocket.evaluate import SEEDS_APART, on_schedule, table, without_positions
from tools.pocket.export import load_pipeline
from tools.pocket.gates import GATE_SEED
from tools.village.scene import CLOSED, HELD_OUT, TRAINED, Scene

from . import cameras, inversion, motion, styles
from .evaluate import Make, Score, animated, independent, mean, score
from .export import VILLAGE
from .gates import fresh
from .inversion import unsaid
from .layers import ways
from .measure import track
from .pictures import frames
from .probe import Judge
from .recipe import Recipe

CLIPS, FEWER_CLIPS, CAMERA_CLIPS = 96, 40, 12
LOOP_SEAM = (0.8, 1.25)
STRENGTHS = (-1.0, 0.0, 0.5, 1.0, 1.5)
SHARES = (0.0, 0.5, 1.0)  # of a style's strength

INTRODUCTION = """\
# Results of the village model

`python -m tools.village_model evaluate` writes this page. Clips have fixed seeds, 25 DDIM steps and CFG 3; captions
come from scenes that no training saw. A judge, a classifier that has only seen drawn images, reads them. The motion
module was trained on the plain base model only.

- `motion`: share of the clips whose subject moves, or stands, as the caption says.
- `displacement`: distance along the heading, as a share of the world's; straight motions only.
- `monotone`: share of the steps between frames that go along the heading; straight motions only.
- `change`: mean difference of neighbouring frames, of 1.
- `closed`: share of the closed motions whose last frame differs from the first by at most 1.5 usual changes.
- `subject`, `scenery`, `style`: share of the frames that show them.
"""


@dataclass(frozen=True)
class Loop:
    """How closed motions close.

    Attributes:
        name: of what made the clips.
        clips: how many.
        seam: mean difference of the last and the first frame, in usual changes.
        closed: share of the clips whose seam is from 0.8 to 1.25.
        motion: share of the clips that move as the caption says.
        both: share of the clips of which both is true.
    """

    name: str
    clips: int
    seam: float
    closed: float
    motion: float
    both: float


@dataclass(frozen=True)
class CameraWay:
    """How far the layers move in a clip, in pixels, see `layers`."""

    move: str
    strength: float
    clips: int
    near: float
    far: float


class Report:
    """Measures a finished build.

    Args:
        recipe: of the build.
        folder: of the build.
        clips: of the longest row; the others have fewer.
    """

    def __init__(self, recipe: Recipe, folder: Path, clips: int = CLIPS) -> None:
        self.recipe, self.folder = recipe, folder
        self.judge = Judge(folder)
        self.motion = load_motion_module(folder / motion.RESULT)
        self.many, self.fewer = clips, min(clips, FEWER_CLIPS)

    def score(self, name: str, make: Make, scenes: Sequence[Scene], style: str = "plain") -> Score:
        """One row."""
        return score(name, make, self.judge, scenes, style)

    def comparisons(self) -> Iterator[Score]:
        """The world, controls, the base model and the models that the motion module was not trained on."""
        base = self._pipeline()
        yield self.score("the world", lambda shown, _seed: frames(shown), fresh(self.many, TRAINED))
        yield self.score("independent frames", independent(base), fresh(self.fewer, TRAINED))
        yield self.score("base + module", animated(base, self.motion), fresh(self.many, TRAINED))
        yield self.score("base + module, held-out captions", animated(base, self.motion), fresh(self.fewer, HELD_OUT))
        yield self.score(
            "inversion + module", self._inverted(), self._fewer_scenes(**dict(self.recipe.inversion.shows))
        )
        tuned = load_pipeline(self.folder, styles.FINE_TUNED)
        tuned_style = self.recipe.fine_tune.style
        yield self.score("fine-tuned + module", animated(tuned, self.motion), self._fewer_scenes(), tuned_style)
        style = self.recipe.lora.style
        for share in SHARES[1:]:
            base = self._pipeline()
            add_loras(base, [LoraFile(self.folder / styles.LORA_RESULT, share)])
            yield self.score(f"LoRA at {share:g} + module", animated(base, self.motion), self._fewer_scenes(), style)

    def ablations(self) -> Iterator[Score]:
        """The motion module without some of its parts."""
        base, scenes = self._pipeline(), self._fewer_scenes()
        with without_positions(self.motion) as edited:
            yield self.score("no positional table", animated(base, edited), scenes)
        yield self.score("Stable Diffusion's schedule", animated(base, on_schedule(self.motion, SCALED_LINEAR)), scenes)

    def loops(self) -> Iterator[Loop]:
        """Closed motions as they come, and with the setting that closes them."""
        base = self._pipeline()
        closed = tuple(concept for concept in TRAINED if concept[2] in CLOSED)
        for loop in ("N", "A"):
            made = animated(base, self.motion, settings=ClipSettings(closed_loop=loop))
            yield self._loop(f"closed_loop {loop}", made, fresh(self.fewer, closed))

    def camera(self) -> Iterator[CameraWay]:
        """Each motion LoRA at several strengths, on subjects that stay."""
        base, scenes = self._pipeline(), fresh(min(self.many, CAMERA_CLIPS), cameras.STAYING)
        for move in cameras.MOVES:
            for strength in STRENGTHS:
                moving = with_motion_loras(self.motion, [LoraFile(self.folder / cameras.result(move), strength)]).motion
                make = animated(base, moving)
                found = [ways(self.judge, make(each, GATE_SEED + n), move) for n, each in enumerate(scenes)]
                near, far = mean(way.near for way in found), mean(way.far for way in found)
                yield CameraWay(move, strength, len(found), near, far)

    def _pipeline(self) -> Any:
        return load_pipeline(self.folder, VILLAGE.name)

    def _fewer_scenes(self, **fixed: str) -> list[Scene]:
        return fresh(self.fewer, TRAINED, **fixed)

    def _loop(self, name: str, make: Make, scenes: Sequence[Scene]) -> Loop:
        found = [(each, track(self.judge, make(each, GATE_SEED + n * SEEDS_APART))) for n, each in enumerate(scenes)]
        closed = [LOOP_SEAM[0] <= path.seam <= LOOP_SEAM[1] for _, path in found]
        moved = [path.motion == each.motion for each, path in found]
        both = [a and b for a, b in zip(closed, moved, strict=True)]
        return Loop(name, len(found), mean(path.seam for _, path in found), mean(closed), mean(moved), mean(both))

    def _inverted(self) -> Make:
        """Clips whose prompts end with the vectors and do not say what these show."""
        base, vectors = self._pipeline(), self.folder / inversion.RESULT
        add_embeddings(base, [vectors])
        hidden = dict(self.recipe.inversion.shows)
        return animated(base, self.motion, lambda shown: f"{unsaid(shown.concepts, hidden)}, {vectors.stem}")


def write_report(recipe: Recipe, folder: Path, page: Path, say: Callable[[str], None], clips: int = CLIPS) -> None:
    """Measure a build and write the page.

    Args:
        recipe: of the build.
        folder: of the build.
        page: Markdown file to write.
        say: called with each row as soon as it is measured.
        clips: of the longest row.
    """
    report = Report(recipe, folder, clips)
    parts = (
        ("Compared", report.comparisons()),
        ("Ablations", report.ablations()),
        ("Loops", report.loops()),
        ("Motion LoRAs", report.camera()),
    )
    lines = [INTRODUCTION]
    for title, rows in parts:
        found = []
        for each in rows:
            say(table([each]).splitlines()[-1])
            found.append(each)
        lines += [f"## {title}", "", table(found), ""]
    page.write_text("\n".join(lines), encoding="utf-8")
