"""The request, resolved once: everything that follows from the settings, before anything is loaded.

Every host, the panel, the command line and jobs take a `ClipPlan`, never the settings. A plan is frozen, it can be
written as JSON and read back, and its `ClipPlan.id` names the job.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lib_animatediff.engine.context_windows import Chunks, ContextWindows
from lib_animatediff.engine.reuse.schedule import FeatureReuse
from lib_animatediff.prompts.travel import Blend, Travel, read_travel
from lib_animatediff.sampling.frame_noise import SEED_LIMIT, SHARED, noise_sources
from lib_animatediff.sampling.freeinit import steps_of
from lib_animatediff.sampling.guidance import GuidanceInterval
from motion_module import ClipError

from .control.unit import AnyUnit
from .effects import Note, notes_of
from .loras import LoraFile
from .methods import FileCatalog, Method, ModuleFile, method_of, name_without_file
from .output import OutputPlan, output_of
from .settings import (
    ClipSettings,
    clip_frames,
    context_windows,
    feature_reuse,
    frame_seeds,
    given_windows,
    guidance_interval,
    refuse_without_module,
    travels_in_loop,
)
from .settings.second_pass import NOT_ENLARGED
from .start.pins import PinnedFrames
from .start.ramp import ImageRamp
from .start.second_pass import SecondPass
from .start.video import VideoStart

_PROMPTS = {  # fields of `Sampling`, with the words of messages
    "prompt": "prompt",
    "negative_prompt": "negative prompt",
    "hires_prompt": "hires prompt",
    "hires_negative_prompt": "hires negative prompt",
}


@dataclass(frozen=True)
class Sampling:
    """The host's own part of a request.

    Attributes:
        prompt, negative_prompt, hires_prompt, hires_negative_prompt: may travel, see `prompts.travel`.
        seed: of the clip's first frame.
        steps: of one run of the sampler.
    """

    prompt: str = ""
    negative_prompt: str = ""
    hires_prompt: str = ""
    hires_negative_prompt: str = ""
    seed: int = 0
    steps: int = 20


@dataclass(frozen=True)
class NoisePlan:
    """Where each frame's noise comes from.

    Attributes:
        kind: one of `NOISE_KINDS`.
        share: of ``"shared"`` noise, the part that all frames have in common; 0 for every other kind.
        windows: the context windows, for which FreeNoise orders the noise.
        frame_seeds: the seed of each frame, where the user gives them.
    """

    kind: str
    share: float
    windows: ContextWindows
    frame_seeds: tuple[int, ...] | None

    def sources(self, frames: int, first_seed: int) -> list[int]:
        """For each frame, the frame whose noise it takes."""
        return noise_sources(self.kind, frames, self.windows, first_seed)

    def seeds(self, seed: int, frames: int) -> tuple[int, ...]:
        """The seed of each frame's noise, for a clip of ``frames`` frames whose first seed is ``seed``."""
        counted = tuple((seed + frame) % SEED_LIMIT for frame in range(frames))
        own = self.frame_seeds[:frames] if self.frame_seeds else counted
        return tuple(own[source] for source in self.sources(frames, own[0]))


@dataclass(frozen=True)
class TravelOptions:
    """How conditions change between the keys of a prompt travel, see `Travel.blends`."""

    interpolation: str
    easing: str
    hold: float
    loop: bool

    def blends(self, travel: Travel) -> list[Blend]:
        """The two prompts of each frame, with the weight of the second."""
        return travel.blends(self.interpolation, self.easing, self.hold, self.loop)


@dataclass(frozen=True)
class FreeInitPlan:
    """Repeated sampling from the low frequencies of the result before, see `sampling.freeinit`."""

    iterations: int
    coarse: bool
    filter: str
    spatial: float
    temporal: float

    def next_noise_options(self) -> dict[str, Any]:
        """The keyword arguments of `next_noise`."""
        return {"kind": self.filter, "spatial": self.spatial, "temporal": self.temporal}


@dataclass(frozen=True)
class ClipPlan:
    """A request, resolved.

    Attributes:
        settings: as given, for infotext and recipe.
        sampling: the host's own part.
        frames: of the whole clip.
        rendered: the frames that are sampled: all, or the first one for a preview.
        makes_clip: False: the host delivers the rendered frames as images.
        windows: context windows, or chunks of Text2Video-Zero; None: one UNet call holds all rendered frames.
        method: motion modules or Text2Video-Zero.
        noise: of the frames.
        travel: prompts that travel, by the fields of `Sampling`.
        travel_options: how they change.
        freeinit: None: one run of the sampler.
        reuse: of features over the steps; None: every step computes everything.
        guidance: the steps at which CFG acts.
        output: the files.
        second_pass: how the finished clip is enlarged; None: it is not.
        video: the frames that the clip starts from; None: noise alone.
        pins: frames that are given images; None: none are.
        controls: control models and a camera that steer the clip.
        ramp: images that fade in the initial latents; None: none do.
    """

    settings: ClipSettings
    sampling: Sampling
    frames: int
    rendered: range
    makes_clip: bool
    windows: ContextWindows | Chunks | None
    method: Method
    noise: NoisePlan
    travel: Mapping[str, Travel] = field(hash=False)
    travel_options: TravelOptions
    freeinit: FreeInitPlan | None
    reuse: FeatureReuse | None
    guidance: GuidanceInterval
    output: OutputPlan
    second_pass: SecondPass | None = None
    video: VideoStart | None = None
    pins: PinnedFrames | None = None
    controls: tuple[AnyUnit, ...] = ()
    ramp: ImageRamp | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each rendered frame. Clip j of a batch adds ``j * frames``."""
        return self.noise.seeds(self.sampling.seed, len(self.rendered))

    @property
    def runs(self) -> tuple[int, ...]:
        """Sampling steps of each run of the sampler."""
        return self.runs_of(self.sampling.steps)

    def runs_of(self, steps: int) -> tuple[int, ...]:
        """`runs` for another number of steps, where the host changes it."""
        if self.freeinit is None:
            return (steps,)
        count = self.freeinit.iterations
        return tuple(steps_of(number, count, steps, self.freeinit.coarse) for number in range(count))

    @property
    def sampled_steps(self) -> int:
        """The steps of all runs that are sampled: a clip that starts from images skips the first ones."""
        start = self.video or self.ramp
        first = sum(steps - (start.skipped(steps) if start else 0) for steps in self.runs)
        return first + (self.second_pass.sampled(self.sampling.steps) if self.second_pass else 0)

    @property
    def notes(self) -> tuple[Note, ...]:
        """A note about each setting that was changed and has no effect under the others."""
        return notes_of(self.settings, travels=bool(self.travel))

    def read_travel(self, text: str, name: str = "prompt") -> Travel | None:
        """The travel of a prompt over the whole clip; None for a prompt without frames.

        Raises:
            ClipError: a line of the prompt is wrong; ``name`` says which prompt.
        """
        return read_travel(text, self.frames, name)

    def with_windows(self, windows: ContextWindows) -> ClipPlan:
        """The plan with these context windows."""
        return replace(self, windows=windows, noise=replace(self.noise, windows=windows))

    def with_video(self, video: VideoStart | None) -> ClipPlan:
        """The plan of a clip that starts from the frames of a video.

        Raises:
            ClipError: the method starts from one image.
        """
        if video is not None and name_without_file(self.method.name) is not None:
            refuse_without_module(["a source video"])
        return replace(self, video=video)

    def with_pins(self, pins: PinnedFrames | None) -> ClipPlan:
        """The plan of a clip in which some frames are given images.

        Raises:
            ClipError: the clip is too short for them, or the method has no motion module.
        """
        if pins is not None:
            pins.check_inside(self.frames)
            if name_without_file(self.method.name) is not None:
                refuse_without_module(["pinned frames"])
        return replace(self, pins=pins)

    def with_files(self, modules: Sequence[ModuleFile], loras: Sequence[LoraFile]) -> ClipPlan:
        """The plan with these motion modules and motion LoRAs.

        Raises:
            ClipError: the method has no motion module that they could change.
        """
        return replace(self, method=self.method.with_files(modules, loras))

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, for `plan_from_json`."""
        settings = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self.settings).items()}
        files = {name: [_as_json(file) for file in getattr(self.method, name)] for name in FILES}
        video = {} if self.video is None else {"video": self.video.to_json()}
        pins = {} if self.pins is None else {"pins": self.pins.to_json()}
        ramp = {} if self.ramp is None else {"ramp": self.ramp.to_json()}
        controls = {"controls": [unit.to_json() for unit in self.controls]} if self.controls else {}
        sampling = asdict(self.sampling)
        return {"settings": settings, "sampling": sampling, "files": files, **video, **pins, **ramp, **controls}

    @property
    def id(self) -> str:
        """SHA-256 of the plan as JSON, in hexadecimal: the id of the job."""
        text = json.dumps(self.to_json(), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def plan_clip(settings: ClipSettings, sampling: Sampling | None = None, files: FileCatalog | None = None) -> ClipPlan:
    """Resolve a request, and refuse everything that can be refused before anything is loaded.

    Args:
        settings: as `parse_settings` gives them.
        sampling: the host's own part; None: not known yet.
        files: the user's files; None: the caller has loaded them.

    Raises:
        AnimateDiffError: settings do not fit together, a line of a prompt is wrong, or a file is missing.
    """
    sampling = sampling or Sampling()
    method = method_of(settings, files)
    frames = clip_frames(settings)
    seeds = frame_seeds(settings)
    travel = {
        name: found
        for name, word in _PROMPTS.items()
        if (found := read_travel(getattr(sampling, name), frames, word)) is not None
    }
    return ClipPlan(
        settings=settings,
        sampling=sampling,
        frames=frames,
        rendered=range(1 if settings.preview else frames),
        makes_clip=not settings.preview,
        windows=_windows(settings, method),
        method=method,
        noise=NoisePlan(
            kind=settings.noise,
            share=settings.noise_share if settings.noise == SHARED else 0.0,
            windows=given_windows(settings),
            frame_seeds=None if seeds is None else tuple(seeds),
        ),
        travel=travel,
        travel_options=TravelOptions(
            settings.travel_interpolation,
            settings.travel_easing,
            settings.travel_hold,
            travels_in_loop(settings),
        ),
        freeinit=_freeinit(settings),
        reuse=feature_reuse(settings, sampling.steps),
        guidance=guidance_interval(settings),
        output=output_of(settings, files),
        second_pass=_second_pass(settings),
    )


def add_ramp(plan: ClipPlan, ramp: ImageRamp | None) -> ClipPlan:
    """The plan of a clip in whose initial latents images fade.

    Raises:
        ClipError: the clip starts from a video, or the method has no motion module.
    """
    if ramp is not None and plan.video is not None:
        raise ClipError("A clip starts from a video or from a ramp of images. Remove one of them.", code="AD-C56")
    if ramp is not None and name_without_file(plan.method.name) is not None:
        refuse_without_module(["latent_scale"])
    return replace(plan, ramp=ramp)


def add_controls(plan: ClipPlan, controls: Sequence[AnyUnit]) -> ClipPlan:
    """The plan of a clip that control models steer.

    Raises:
        ClipError: weights or key images are for frames that the clip does not have, or the method has no motion module.
    """
    for unit in controls:
        unit.check_frames(plan.frames)
    if controls and name_without_file(plan.method.name) is not None:
        refuse_without_module(["a control model"])
    return replace(plan, controls=tuple(controls))


FILES: dict[str, type] = {"modules": ModuleFile, "loras": LoraFile}  # of a method, with what each of them is


def _as_json(file: ModuleFile | LoraFile) -> dict[str, Any]:
    return {**asdict(file), "path": str(file.path)}


def _windows(settings: ClipSettings, method: Method) -> ContextWindows | Chunks | None:
    windows = None if settings.preview else context_windows(settings)
    return None if windows is None else method.cut(windows)


def _second_pass(settings: ClipSettings) -> SecondPass | None:
    if settings.upscale == NOT_ENLARGED or settings.preview:
        return None
    return SecondPass(settings.upscale, settings.upscale_denoise)


def _freeinit(settings: ClipSettings) -> FreeInitPlan | None:
    if not settings.freeinit_enable or settings.preview:
        return None
    return FreeInitPlan(
        iterations=settings.freeinit_iters,
        coarse=settings.freeinit_coarse,
        filter=settings.freeinit_filter,
        spatial=settings.freeinit_ds,
        temporal=settings.freeinit_dt,
    )
