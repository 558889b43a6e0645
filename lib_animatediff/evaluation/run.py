"""Render and measure all clips, resuming after an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_animatediff.engine.inject import check_frames
from lib_animatediff.hosts.diffusers import networks
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.hosts.diffusers.networks import LoraFile
from lib_animatediff.jobs import store
from lib_animatediff.jobs.store import CachedClip
from lib_animatediff.sampling.frame_noise import SEED_LIMIT
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from lib_animatediff.video import safe_name
from lib_animatediff.video.hashing import file_hash
from motion_module import ClipError, MotionModule, load_motion_module

from .errors import EvaluationError
from .machine import machine_of, versions
from .measuring import Embedders, Figures, measure
from .methods import FROZEN, INDEPENDENT, METHODS, MODULE, RENDERED, ZERO, Method, Sampling, render, stills
from .prompts import Prompt

if TYPE_CHECKING:
    from .flow import Frames

REFERENCES = 8  # stills per prompt that a clip's domain is compared with
SEEDS_APART = 1000  # distance between the seeds of two clips; frame i uses seed + i
REFERENCES_APART = 1_000_000  # distance from the clips' seeds, so that no reference is a frame
LEAST_FRAMES = 3  # motion smoothness interpolates the middle one


@dataclass(frozen=True)
class Model:
    """A checkpoint, optionally with LoRAs.

    Attributes:
        name: name on the page.
        about: its origin, a sentence.
    """

    name: str
    about: str
    checkpoint: Path
    loras: tuple[LoraFile, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """Configuration of an evaluation.

    Attributes:
        models: models with distinct names.
        motion: motion module file or folder.
        kind: kind of the motion module, if its file does not reveal it.
        seed: clip n uses seed + n * `SEEDS_APART`.
        seeds: number of clips per prompt.
        folder: output folder.
        config: tokenizer and configs, see `hosts.diffusers.pipeline.find_config`.
        zero: parameters of Text2Video-Zero.
    """

    models: tuple[Model, ...]
    motion: Path
    prompts: tuple[Prompt, ...]
    how: Sampling
    seed: int
    seeds: int
    folder: Path
    fps: float = 8.0
    kind: str | None = None
    config: Path | None = None
    device: str = "cpu"
    zero: Text2VideoZero = field(default_factory=Text2VideoZero)

    @property
    def renders(self) -> int:
        """Number of clips and reference sets to render or load."""
        return len(self.models) * len(self.prompts) * (1 + self.seeds * len(RENDERED))


@dataclass(frozen=True)
class EvaluatedClip:
    """A clip with its metrics.

    Attributes:
        goes: heading of its object, see `direction.Trajectory.heading`.
        file: path relative to the evaluation's folder.
    """

    model: str
    method: str
    prompt: Prompt
    seed: int
    frames: Frames
    figures: Figures
    goes: str
    file: str


def check(evaluation: Evaluation) -> MotionModule:
    """Check everything before the slow work begins; returns the motion module.

    Raises:
        AnimateDiffError: a value is out of range, or a file is missing or unsuitable.
    """
    how = evaluation.how
    if evaluation.seeds < 1:
        raise EvaluationError(f"seeds must be at least 1, not {evaluation.seeds}.", code="AD-E14")
    if how.frames < LEAST_FRAMES:
        raise EvaluationError(f"frames must be at least {LEAST_FRAMES}, not {how.frames}.", code="AD-E15")
    if how.sampler not in host.SAMPLERS:
        raise ClipError(
            f"There is no sampler {how.sampler!r}. Choose one of {', '.join(host.SAMPLERS)}.", code="AD-E16"
        )
    last = evaluation.seed + REFERENCES_APART + len(evaluation.prompts) * evaluation.seeds * SEEDS_APART + how.frames
    host.check_request(seed=evaluation.seed, size=how.size, steps=how.steps, cfg=how.cfg)
    if last >= SEED_LIMIT:
        raise EvaluationError(
            f"seed {evaluation.seed} is too large: the last clip's seeds would exceed {SEED_LIMIT - 1}. Lower it.",
            code="AD-E17",
        )
    names = [model.name for model in evaluation.models]
    if len({safe_name(name).casefold() for name in names}) < len(names):  # names of their folders
        raise EvaluationError(
            f"Two models have the same name ({', '.join(names)}). Rename one of the files.", code="AD-E18"
        )
    for model in evaluation.models:
        host.check_host(model.checkpoint, evaluation.device)
        host.find_config(model.checkpoint, evaluation.config)
    motion = load_motion_module(evaluation.motion, kind=evaluation.kind)
    check_frames(motion, how.frames, None)
    return motion


def run(
    evaluation: Evaluation,
    motion: MotionModule,
    embedders: Embedders,
    on_render: Callable[[str], None] = lambda _what: None,
) -> Iterator[EvaluatedClip]:
    """Yield every clip with its metrics, model by model.

    Each rendered clip is on disk before the next one begins, and is reused when the same evaluation runs again, for
    example after an interruption.

    Args:
        motion: the result of `check`.
        on_render: called after each of the `Evaluation.renders`.

    Raises:
        AnimateDiffError: a model cannot be loaded or does not fit, or memory or disk space is exhausted.
    """
    motion_hash = file_hash(evaluation.motion)
    for model in evaluation.models:
        renderer = _Renderer(evaluation, model, motion, motion_hash)
        for number, prompt in enumerate(evaluation.prompts):
            references = embedders.main.images(renderer.references(prompt, number).frames)
            on_render(model.name)
            for repeat in range(evaluation.seeds):
                seed = evaluation.seed + (number * evaluation.seeds + repeat) * SEEDS_APART
                clips: dict[Method, CachedClip] = {}
                for method in RENDERED:
                    clips[method] = renderer.clip(method, prompt, number, seed)
                    on_render(model.name)
                for method in METHODS:
                    # The frozen frame is not a rendered clip: it has neither a time nor a file.
                    cached = clips.get(method) or CachedClip(_frozen(clips[INDEPENDENT].frames), 0.0)
                    seconds = None if method is FROZEN else cached.seconds
                    figures, goes = measure(cached.frames, prompt, references, embedders, seconds)
                    file = (
                        ""
                        if method is FROZEN
                        else str(renderer.file(method, number, seed).relative_to(evaluation.folder))
                    )
                    yield EvaluatedClip(model.name, method.key, prompt, seed, cached.frames, figures, goes, file)


class _Renderer:
    """Renders the clips that are not on disk. The model is loaded when it is first needed."""

    def __init__(self, evaluation: Evaluation, model: Model, motion: MotionModule, motion_hash: str) -> None:
        self._evaluation, self._model, self._motion, self._motion_hash = evaluation, model, motion, motion_hash
        self._pipeline: Any = None
        self._model_hashes = [
            file_hash(model.checkpoint),
            *([file_hash(each.path), each.strength] for each in model.loras),
        ]
        self._config_hash = evaluation.config and file_hash(evaluation.config)
        self._by = [versions(), machine_of(evaluation.device)]  # rendering times depend on them, too

    def references(self, prompt: Prompt, number: int) -> CachedClip:
        """Stills of a prompt without motion, with seeds that no clip uses."""
        evaluation = self._evaluation
        first = evaluation.seed + REFERENCES_APART + number * REFERENCES
        seeds = range(first, first + REFERENCES)
        return self._cached(
            self._folder("references") / f"{number:02d}",
            self._made_of("references", prompt, first),
            lambda pipeline: stills(pipeline, prompt.text, seeds, evaluation.how),
        )

    def clip(self, method: Method, prompt: Prompt, number: int, seed: int) -> CachedClip:
        """A clip of a prompt."""
        how = self._evaluation.how
        made_of = self._made_of(method.key, prompt, seed)
        if method is MODULE:
            made_of["motion"] = [self._motion_hash, self._motion.kind]
        if method is ZERO:
            made_of["levels"] = [self._evaluation.zero.begin, self._evaluation.zero.renoised]
        motion = self._evaluation.zero if method is ZERO else self._motion
        return self._cached(
            self._path(method, number, seed),
            made_of,
            lambda pipeline: render(method, pipeline, motion, prompt.text, seed, how),
        )

    def file(self, method: Method, number: int, seed: int) -> Path:
        """File of a clip."""
        return store.file_of(self._path(method, number, seed))

    def _path(self, method: Method, number: int, seed: int) -> Path:
        return self._folder(method.key) / f"{number:02d}-{seed}"

    def _folder(self, kind: str) -> Path:
        return self._evaluation.folder / "clips" / safe_name(self._model.name) / kind

    def _made_of(self, what: str, prompt: Prompt, seed: int) -> dict[str, Any]:
        how = {**asdict(self._evaluation.how), "size": list(self._evaluation.how.size)}
        model = {"files": self._model_hashes, "config": self._config_hash, "device": self._evaluation.device}
        return {"by": self._by, "what": what, "prompt": prompt.text, "seed": seed, "how": how, "model": model}

    def _cached(self, path: Path, made_of: dict[str, Any], make: Callable[[Any], Frames]) -> CachedClip:
        cached = store.load(path, made_of)
        if cached is None:
            pipeline = self._loaded()
            start = time.perf_counter()
            frames = make(pipeline)
            cached = CachedClip(frames, time.perf_counter() - start)
            store.save(path, cached, made_of, self._evaluation.fps)
        return cached

    def _loaded(self) -> Any:
        if self._pipeline is None:
            pipeline = host.load_pipeline(
                self._model.checkpoint, config=self._evaluation.config, device=self._evaluation.device
            )
            networks.add_loras(pipeline, self._model.loras)
            pipeline.set_progress_bar_config(disable=True)
            # Warm up, so that one-time initialisation does not count as rendering time.
            stills(pipeline, "", range(2), _shortest(self._evaluation.how))
            self._pipeline = pipeline
        return self._pipeline


def _shortest(how: Sampling) -> Sampling:
    return Sampling(how.size, 2, 1, how.cfg, how.sampler)


def _frozen(frames: Frames) -> Frames:
    return frames[:1].repeat(len(frames), axis=0)
