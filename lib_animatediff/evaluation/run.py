"""Render, measure, and lose nothing on the way."""

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
from lib_animatediff.jobs.recipe import file_hash
from lib_animatediff.sampling.frame_noise import SEED_LIMIT
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from lib_animatediff.video import safe_name
from motion_module import ClipError, MotionModule, load_motion_module

from .errors import EvaluationError
from .machine import machine_of, versions
from .measuring import Embedders, Figures, measure
from .methods import FROZEN, INDEPENDENT, METHODS, MODULE, RENDERED, ZERO, Method, Sampling, render, stills
from .prompts import Prompt
from .store import CachedClip, file_of, keep, take

if TYPE_CHECKING:
    from .flow import Frames

REFERENCES = 8  # stills of each prompt that a clip's domain is measured against
SEEDS_APART = 1000  # between clips; frame i takes seed + i
REFERENCES_APART = 1_000_000  # from the clips, so that no still is a frame
LEAST_FRAMES = 3  # one between two


@dataclass(frozen=True)
class Model:
    """A checkpoint, perhaps with LoRAs, that is moved.

    Attributes:
        name: what the page calls it.
        about: how it came to be, in a few words.
    """

    name: str
    about: str
    checkpoint: Path
    loras: tuple[LoraFile, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """All that is asked for.

    Attributes:
        models: no two of one name.
        motion: motion module file or folder.
        kind: of the motion module, where its file cannot tell.
        seed: clip n takes seed + n * `SEEDS_APART`.
        seeds: clips of each prompt.
        folder: where clips go.
        config: tokenizer and configs, see `standalone.pipeline.find_config`.
        zero: how Text2Video-Zero makes its clips.
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
        """How often something is rendered, or taken from disk."""
        return len(self.models) * len(self.prompts) * (1 + self.seeds * len(RENDERED))


@dataclass(frozen=True)
class EvaluatedClip:
    """A clip with its figures.

    Attributes:
        goes: where its moving thing goes, see `direction.Trajectory.heading`.
        file: where it lies, relative to the evaluation's folder.
    """

    model: str
    method: str
    prompt: Prompt
    seed: int
    frames: Frames
    figures: Figures
    goes: str
    file: str


def check(wanted: Evaluation) -> MotionModule:
    """Look for everything that can be refused before anything slow begins; gives the motion module.

    Raises:
        AnimateDiffError: a value is out of range, or a file is missing or unfit.
    """
    how = wanted.how
    if wanted.seeds < 1:
        raise EvaluationError(f"seeds must be at least 1, not {wanted.seeds}.")
    if how.frames < LEAST_FRAMES:
        raise EvaluationError(f"frames must be at least {LEAST_FRAMES} to be measured, not {how.frames}.")
    if how.sampler not in host.SAMPLERS:
        raise ClipError(f"There is no sampler {how.sampler!r}. Choose one of {', '.join(host.SAMPLERS)}.")
    last = wanted.seed + REFERENCES_APART + len(wanted.prompts) * wanted.seeds * SEEDS_APART + how.frames
    host.check_request(seed=wanted.seed, size=how.size, steps=how.steps, cfg=how.cfg)
    if last >= SEED_LIMIT:
        raise EvaluationError(
            f"seed {wanted.seed} is too large: the last clips' would pass {SEED_LIMIT - 1}. Lower it."
        )
    names = [model.name for model in wanted.models]
    if len({safe_name(name).casefold() for name in names}) < len(names):  # as their folders are told apart
        raise EvaluationError(f"Two models have one name ({', '.join(names)}). Rename a file.")
    for model in wanted.models:
        host.check_host(model.checkpoint, wanted.device)
        host.find_config(model.checkpoint, wanted.config)
    motion = load_motion_module(wanted.motion, kind=wanted.kind)
    check_frames(motion, how.frames, None)
    return motion


def run(
    wanted: Evaluation,
    motion: MotionModule,
    embedders: Embedders,
    on_render: Callable[[str], None] = lambda _what: None,
) -> Iterator[EvaluatedClip]:
    """Every clip, model by model, with its figures.

    What was rendered is on disk before the next one begins, and is taken from there when the same evaluation is run
    again, after an interrupt for example.

    Args:
        motion: from `check`.
        on_render: called after each of the `Evaluation.renders`.

    Raises:
        AnimateDiffError: a model does not load or fit, or memory or disk are short.
    """
    motion_hash = file_hash(wanted.motion)
    for model in wanted.models:
        maker = _Renderer(wanted, model, motion, motion_hash)
        for number, prompt in enumerate(wanted.prompts):
            references = embedders.main.images(maker.references(prompt, number).frames)
            on_render(model.name)
            for repeat in range(wanted.seeds):
                seed = wanted.seed + (number * wanted.seeds + repeat) * SEEDS_APART
                clips: dict[Method, CachedClip] = {}
                for method in RENDERED:
                    clips[method] = maker.clip(method, prompt, number, seed)
                    on_render(model.name)
                for method in METHODS:
                    # A frozen frame is no clip of its own: it took no time, and has no file.
                    kept = clips.get(method) or CachedClip(_frozen(clips[INDEPENDENT].frames), 0.0)
                    seconds = None if method is FROZEN else kept.seconds
                    figures, goes = measure(kept.frames, prompt, references, embedders, seconds)
                    file = "" if method is FROZEN else str(maker.file(method, number, seed).relative_to(wanted.folder))
                    yield EvaluatedClip(model.name, method.key, prompt, seed, kept.frames, figures, goes, file)


class _Renderer:
    """Makes what is not on disk; the model is loaded when the first such thing is asked for."""

    def __init__(self, wanted: Evaluation, model: Model, motion: MotionModule, motion_hash: str) -> None:
        self._wanted, self._model, self._motion, self._motion_hash = wanted, model, motion, motion_hash
        self._pipeline: Any = None
        self._model_hashes = [
            file_hash(model.checkpoint),
            *([file_hash(each.path), each.strength] for each in model.loras),
        ]
        self._config_hash = wanted.config and file_hash(wanted.config)
        self._by = [versions(), machine_of(wanted.device)]  # the times are its own, too

    def references(self, prompt: Prompt, number: int) -> CachedClip:
        """Stills of a prompt without motion, from seeds that no clip has."""
        wanted = self._wanted
        first = wanted.seed + REFERENCES_APART + number * REFERENCES
        seeds = range(first, first + REFERENCES)
        return self._made(
            self._folder("references") / f"{number:02d}",
            self._made_of("references", prompt, first),
            lambda pipeline: stills(pipeline, prompt.text, seeds, wanted.how),
        )

    def clip(self, method: Method, prompt: Prompt, number: int, seed: int) -> CachedClip:
        """A clip of a prompt."""
        how = self._wanted.how
        made_of = self._made_of(method.key, prompt, seed)
        if method is MODULE:
            made_of["motion"] = [self._motion_hash, self._motion.kind]
        if method is ZERO:
            made_of["levels"] = [self._wanted.zero.begin, self._wanted.zero.renoised]
        motion = self._wanted.zero if method is ZERO else self._motion
        return self._made(
            self._path(method, number, seed),
            made_of,
            lambda pipeline: render(method, pipeline, motion, prompt.text, seed, how),
        )

    def file(self, method: Method, number: int, seed: int) -> Path:
        """Where a clip lies."""
        return file_of(self._path(method, number, seed))

    def _path(self, method: Method, number: int, seed: int) -> Path:
        return self._folder(method.key) / f"{number:02d}-{seed}"

    def _folder(self, kind: str) -> Path:
        return self._wanted.folder / "clips" / safe_name(self._model.name) / kind

    def _made_of(self, what: str, prompt: Prompt, seed: int) -> dict[str, Any]:
        how = {**asdict(self._wanted.how), "size": list(self._wanted.how.size)}
        model = {"files": self._model_hashes, "config": self._config_hash, "device": self._wanted.device}
        return {"by": self._by, "what": what, "prompt": prompt.text, "seed": seed, "how": how, "model": model}

    def _made(self, path: Path, made_of: dict[str, Any], make: Callable[[Any], Frames]) -> CachedClip:
        kept = take(path, made_of)
        if kept is None:
            pipeline = self._loaded()
            start = time.perf_counter()
            frames = make(pipeline)
            kept = CachedClip(frames, time.perf_counter() - start)
            keep(path, kept, made_of, self._wanted.fps)
        return kept

    def _loaded(self) -> Any:
        if self._pipeline is None:
            pipeline = host.load_pipeline(
                self._model.checkpoint, config=self._wanted.config, device=self._wanted.device
            )
            networks.add_loras(pipeline, self._model.loras)
            pipeline.set_progress_bar_config(disable=True)
            # What a first call sets up is nobody's time.
            stills(pipeline, "", range(2), _shortest(self._wanted.how))
            self._pipeline = pipeline
        return self._pipeline


def _shortest(how: Sampling) -> Sampling:
    return Sampling(how.size, 2, 1, how.cfg, how.sampler)


def _frozen(frames: Frames) -> Frames:
    return frames[:1].repeat(len(frames), axis=0)
