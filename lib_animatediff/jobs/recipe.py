"""Renders a clip from a request, and writes and reads the recipe that reproduces it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_animatediff import __version__
from lib_animatediff.hosts.diffusers import networks
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.hosts.diffusers.animate import render
from lib_animatediff.hosts.diffusers.control.units import check_controls
from lib_animatediff.hosts.diffusers.decode import check_decoder, load_decoder
from lib_animatediff.hosts.diffusers.methods import Elsewhere, LoadedMethod, load_method
from lib_animatediff.hosts.diffusers.prompts import check_prompts
from lib_animatediff.hosts.diffusers.start.resuming import StateKeeper
from lib_animatediff.request.control.unit import AnyUnit, control_from_json
from lib_animatediff.request.loras import LoraFile
from lib_animatediff.request.methods import ModuleFile, name_without_file
from lib_animatediff.request.output import is_rife_file
from lib_animatediff.request.plan import ClipPlan, Sampling, add_controls, add_ramp, plan_clip
from lib_animatediff.request.settings import (
    CONTROL_SETTINGS,
    GUIDE_SETTINGS,
    IMAGE_SETTINGS,
    VIDEO_SETTINGS,
    ClipSettings,
    interpolation,
    parse_settings,
)
from lib_animatediff.request.start.kept import check_kept_size
from lib_animatediff.request.start.pins import PinnedFrames, pins_from_json
from lib_animatediff.request.start.ramp import ImageRamp, ramp_from_json
from lib_animatediff.request.start.video import VideoStart, video_start_from_json
from lib_animatediff.video import Recipe
from lib_animatediff.video.hashing import file_hash
from lib_animatediff.video.interpolators import DIS
from lib_animatediff.video.rife_file import packaged_weights
from motion_module import ClipError

from .infotext import PROGRAM, infotext_of

if TYPE_CHECKING:
    from PIL.Image import Image

_LIBRARIES = ("torch", "diffusers", "transformers")
_STORED_ELSEWHERE = (  # in other fields
    *("enable", "model", "formats", "motion_loras", "request_id", "resume"),
    *VIDEO_SETTINGS,
    *IMAGE_SETTINGS,
    *GUIDE_SETTINGS,
    *CONTROL_SETTINGS,
)


@dataclass(frozen=True)
class FurtherMotion:
    """A second or further motion module, with its own scale.

    Attributes:
        effect: share of its motion that is added; at 0 the result is that of the first module, bit for bit.
        scale: factor on its keys; above 1 frames differ more.
    """

    path: Path
    effect: float = 1.0
    scale: float = 1.0


@dataclass(frozen=True)
class Request:
    """Everything that determines the frames of a clip.

    Attributes:
        checkpoint: Stable Diffusion 1.5 single file.
        motion: file or folder of a motion module, or the name of a method without a file.
        kind: kind of the motion module, if its file is ambiguous.
        further: motion modules that act after the first.
        video: the frames that the clip starts from; None: noise alone.
        pins: frames that are given images; None: none are.
        ramp: images that fade in the initial latents; None: none do.
        controls: control models and a camera that steer the clip.
        size: width and height in pixels.
        decoder: file of a tiny decoder, see `load_decoder`; None: the checkpoint's VAE.
        config: tokenizer and configs, see `pipeline.find_config`.
        device: PyTorch's name of it.

    The other attributes are as for `animate`.
    """

    checkpoint: Path
    motion: Path
    prompt: str
    settings: ClipSettings
    negative_prompt: str = ""
    seed: int = 0
    kind: str | None = None
    further: tuple[FurtherMotion, ...] = ()
    loras: tuple[LoraFile, ...] = ()
    embeddings: tuple[Path, ...] = ()
    motion_loras: tuple[LoraFile, ...] = ()
    video: VideoStart | None = None
    pins: PinnedFrames | None = None
    ramp: ImageRamp | None = None
    controls: tuple[AnyUnit, ...] = ()
    size: tuple[int, int] = (512, 512)
    steps: int = host.STEPS
    cfg: float = host.CFG
    sampler: str = host.SAMPLER
    spacing: str | None = None
    decoder: Path | None = None
    config: Path | None = None
    device: str = "cpu"

    def plan(self) -> ClipPlan:
        """The plan of the clip.

        Raises:
            AnimateDiffError: settings are incompatible, or a line of a prompt is invalid.
        """
        sampling = Sampling(self.prompt, self.negative_prompt, seed=self.seed, steps=self.steps)
        plan = plan_clip(replace(self.settings, model=str(self.motion)), sampling)
        further = (ModuleFile(one.path, effect=one.effect, scale=one.scale) for one in self.further)
        plan = plan.with_files([ModuleFile(self.motion, self.kind), *further], self.motion_loras)
        plan = add_ramp(plan.with_video(self.video).with_pins(self.pins), self.ramp)
        return add_controls(plan, self.controls)


@dataclass(frozen=True)
class Ready:
    """A request that can be rendered, see `prepare`.

    Attributes:
        plan: the plan of the clip.
        method: the method with its motion modules and motion LoRAs loaded.
        config: tokenizer and configs.
    """

    request: Request
    plan: ClipPlan
    method: LoadedMethod
    config: Path

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames."""
        second_pass = self.plan.second_pass
        return second_pass.size(self.request.size) if second_pass else self.request.size

    @property
    def steps(self) -> int:
        """The number of calls of ``on_step`` by `render`."""
        return self.plan.sampled_steps

    def load(self) -> Any:
        """Load the pipeline with its LoRAs and embeddings, which is the slow part.

        Raises:
            AnimateDiffError: a file is damaged or does not fit.
        """
        pipeline = host.load_pipeline(self.request.checkpoint, config=self.config, device=self.request.device)
        networks.add_loras(pipeline, self.request.loras)
        networks.add_embeddings(pipeline, self.request.embeddings)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def render(
        self,
        pipeline: Any,
        on_step: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _line: None,
        states: StateKeeper | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> Sequence[Image]:
        """The rendered frames, each once, decoded when they are read; the arguments are those of the host's `render`.

        Raises:
            AnimateDiffError: the module does not fit, or memory ran out.
        """
        request = self.request
        return render(
            pipeline,
            self.plan,
            self.method,
            size=request.size,
            cfg=request.cfg,
            sampler=request.sampler,
            spacing=request.spacing,
            decoder=None if request.decoder is None else load_decoder(request.decoder),
            on_step=on_step,
            say=say,
            states=states,
            elsewhere=elsewhere,
        )


def prepare(request: Request, load: Callable[[ClipPlan], LoadedMethod] | None = None) -> Ready:
    """Check a request before its checkpoint is loaded, the quick checks first.

    Args:
        load: loads the method of a plan; None: from its files.

    Raises:
        AnimateDiffError: a value is out of range, or a file is missing or does not fit.
    """
    host.check_request(seed=request.seed, size=request.size, steps=request.steps, cfg=request.cfg)
    host.check_sampler(request.sampler, request.spacing, request.steps)
    host.check_host(request.checkpoint, request.device)
    config = host.find_config(request.checkpoint, request.config)
    if request.decoder is not None:
        check_decoder(request.decoder)
    plan = request.plan()
    check_kept_size(plan, request.size)
    plan.output.check_weights()
    check_prompts(plan)
    check_controls(plan, config)
    method = load(plan) if load else load_method(plan.method, plan)
    method.check(plan)
    return Ready(request, plan, method, config)


# --------------------------------------------------------------------------------------------------------------------
# recipes


def recipe_of(request: Request, encoding: Mapping[str, Any]) -> Recipe:
    """The recipe for the clip's files. It contains names and hashes of files but no paths, which may be private."""
    settings = {name: value for name, value in asdict(request.settings).items() if name not in _STORED_ELSEWHERE}
    files: dict[str, Any] = {
        "checkpoint": _named(request.checkpoint),
        "motion": _motion_of(request),
        "loras": [_named(lora.path) | {"strength": lora.strength} for lora in request.loras],
        "embeddings": [_named(path) for path in request.embeddings],
        "motion_loras": [_named(lora.path) | {"strength": lora.strength} for lora in request.motion_loras],
    }
    if request.further:
        files["further"] = [_named(one.path) | {"effect": one.effect, "scale": one.scale} for one in request.further]
    if is_rife_file(request.settings.interpolator):
        files["rife"] = _named(Path(request.settings.interpolator))
        settings["interpolator"] = files["rife"]["name"]
    elif interpolation(request.settings) is not None and request.settings.interpolator != DIS:
        # Which of the interpolators makes the frames depends on whether these weights are installed.
        weights = packaged_weights()
        files["installed_rife"] = None if weights is None else _named(weights)
    if request.decoder is not None:
        files["decoder"] = _named(request.decoder)
    if request.video is not None:
        # The strength and the mask are the clip's, and the rest says what of the file was taken.
        files["video"] = request.video.to_json(_named)
    if request.pins is not None:
        files["pins"] = request.pins.to_json(_named)
    if request.ramp is not None:
        files["ramp"] = request.ramp.to_json(_named)
    if request.controls:
        files["controls"] = [unit.to_json(_named) for unit in request.controls]
    data = {
        "program": PROGRAM,
        "versions": {PROGRAM: __version__} | {name: _version(name) for name in _LIBRARIES},
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "size": list(request.size),
        "steps": request.steps,
        "cfg": request.cfg,
        "sampler": request.sampler,
        "spacing": request.spacing,
        "settings": settings,
        "files": files,
        "encoding": dict(encoding),
    }
    return Recipe(infotext_of(request, files), data)


def request_of(
    data: Mapping[str, Any], find: Callable[[str, str], Path], *, config: Path | None = None, device: str = "cpu"
) -> Request:
    """The request from a recipe.

    Args:
        data: the JSON of a recipe. It may come from an untrusted file, so each value is checked.
        find: finds the file with a name and a hash on this machine.

    Raises:
        ClipError: another program wrote the recipe, or a value is missing or has the wrong type.
    """
    if data.get("program") != PROGRAM:
        raise ClipError(
            "The recipe was not written by this command line. Open the file where it was made: the WebUI reads its own "
            "clips in the PNG Info tab.",
            code="AD-J01",
        )
    files = _read(data, "files", dict)
    width, height = (_checked(side, int, "size") for side in _pair(_read(data, "size", list)))

    def found(entry: Any) -> Path:
        entry = _checked(entry, dict, "files")
        return find(Path(_read(entry, "name", str)).name, _read(entry, "sha256", str))

    def added(name: str) -> tuple[LoraFile, ...]:
        return tuple(LoraFile(found(entry), _number(entry, "strength")) for entry in _read(files, name, list))

    motion = _read(files, "motion", dict)
    name = _read(motion, "name", str)
    has_file = "sha256" in motion or name_without_file(name) is None
    kind = motion.get("kind")
    return Request(
        checkpoint=found(files.get("checkpoint")),
        motion=found(motion) if has_file else Path(name),
        prompt=_read(data, "prompt", str),
        settings=_settings_of(data, str(found(files["rife"])) if "rife" in files else None),
        negative_prompt=_read(data, "negative_prompt", str),
        seed=_read(data, "seed", int),
        kind=None if kind is None else _checked(kind, str, "kind"),
        further=tuple(
            FurtherMotion(found(entry), _number(entry, "effect"), _number(entry, "scale"))
            for entry in _checked(files.get("further", []), list, "further")
        ),
        loras=added("loras"),
        embeddings=tuple(found(entry) for entry in _read(files, "embeddings", list)),
        motion_loras=added("motion_loras"),
        video=video_start_from_json(_checked(files["video"], dict, "video"), found) if "video" in files else None,
        pins=pins_from_json(files["pins"], found) if "pins" in files else None,
        ramp=ramp_from_json(files["ramp"], found) if "ramp" in files else None,
        controls=tuple(
            control_from_json(entry, found) for entry in _checked(files.get("controls", []), list, "controls")
        ),
        size=(width, height),
        steps=_read(data, "steps", int),
        cfg=_number(data, "cfg"),
        sampler=_read(data, "sampler", str),
        spacing=None if (spacing := data.get("spacing")) is None else _checked(spacing, str, "spacing"),
        decoder=found(files["decoder"]) if "decoder" in files else None,
        config=config,
        device=device,
    )


def _settings_of(data: Mapping[str, Any], rife: str | None) -> ClipSettings:
    settings = parse_settings(_read(data, "settings", dict))
    return settings if rife is None else replace(settings, interpolator=rife)


def _motion_of(request: Request) -> dict[str, Any]:
    if name := name_without_file(str(request.motion)):
        return {"name": name}
    return _named(request.motion) | {"kind": request.kind}


def _named(path: Path) -> dict[str, Any]:
    return {"name": path.name, "sha256": file_hash(path)}


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _read(data: Mapping[str, Any], name: str, kind: type) -> Any:
    return _checked(data.get(name), kind, name)


def _number(data: Mapping[str, Any], name: str) -> float:
    value = data.get(name)
    number = float(value if isinstance(value, int) else _checked(value, float, name))
    if not math.isfinite(number):
        raise _damaged(name, number)
    return number


def _checked(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _damaged(name, value)
    return value


def _pair(values: list[Any]) -> list[Any]:
    if len(values) != 2:
        raise _damaged("size", values)
    return values


def _damaged(name: str, value: Any) -> ClipError:
    return ClipError(
        f"The recipe is damaged: {name} is {value!r:.40}. Use the original file of the clip.", code="AD-J02"
    )
