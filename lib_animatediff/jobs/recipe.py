"""A clip as the command line makes it: from a request to pictures, and to the recipe that makes them again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_animatediff import __version__
from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.engine.inject import check_frames
from lib_animatediff.hosts.diffusers import networks
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.hosts.diffusers.networks import Added
from lib_animatediff.prompts.travel import read_travel
from lib_animatediff.request.settings import (
    ClipSettings,
    clip_frames,
    context_windows,
    freeinit_rounds,
    is_text2video_zero,
    parse_settings,
    refuse_with_text2video_zero,
    text2video_zero,
    to_infotext,
)
from lib_animatediff.sampling.text2video_zero import NAME, Text2VideoZero
from lib_animatediff.video import Recipe
from motion_module import ClipError, DomainAdapter, MotionModule, load_motion_module

if TYPE_CHECKING:
    from PIL.Image import Image

PROGRAM = "animatediff"
TEXT2VIDEO_ZERO = Path(NAME)  # no file, and stands where one is expected
_LIBRARIES = ("torch", "diffusers", "transformers")
_CHUNK = 2**20  # bytes
_HASH_LENGTH = 10  # of the hash as the WebUI shows it
_WEBUI_SAMPLERS = {"ddim": "DDIM", "euler": "Euler", "euler-a": "Euler a", "dpm++2m": "DPM++ 2M"}
_ELSEWHERE = ("enable", "model", "formats", "motion_loras", "request_id")  # settings that other fields of a recipe say


@dataclass(frozen=True)
class Request:
    """All that decides the pictures of a clip.

    Attributes:
        checkpoint: Stable Diffusion 1.5 single file.
        motion: motion module file or folder; or `TEXT2VIDEO_ZERO`, however written.
        kind: of the motion module, where its file cannot tell.
        size: width and height in pixels.
        config: tokenizer and configs, see `pipeline.find_config`.
        device: torch's name of it.

    The others are as in `pipeline.animate`.
    """

    checkpoint: Path
    motion: Path
    prompt: str
    settings: ClipSettings
    negative_prompt: str = ""
    seed: int = 0
    kind: str | None = None
    loras: tuple[Added, ...] = ()
    embeddings: tuple[Path, ...] = ()
    motion_loras: tuple[Added, ...] = ()
    size: tuple[int, int] = (512, 512)
    steps: int = 25
    cfg: float = 7.5
    sampler: str = "ddim"
    config: Path | None = None
    device: str = "cpu"

    @property
    def is_zero(self) -> bool:
        """Whether there is no motion module, but Text2Video-Zero."""
        return is_text2video_zero(str(self.motion))


@dataclass(frozen=True)
class Ready:
    """A request that nothing speaks against, see `prepare`.

    Attributes:
        motion: with its motion LoRAs.
        adapters: domain adapters with their strengths.
        reports: a line about each motion LoRA, on how much of it has a place.
    """

    request: Request
    motion: MotionModule | Text2VideoZero
    config: Path
    frames: int
    windows: ContextWindows | None
    adapters: tuple[tuple[DomainAdapter, float], ...] = ()
    reports: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """How often `render` calls back."""
        return sum(freeinit_rounds(self.request.settings, self.request.steps))

    def load(self) -> Any:
        """The pipeline with everything that is added to it: the slow part.

        Raises:
            AnimateDiffError: a file is broken or does not fit.
        """
        pipeline = host.load_pipeline(self.request.checkpoint, config=self.config, device=self.request.device)
        networks.add_loras(pipeline, self.request.loras)
        networks.add_embeddings(pipeline, self.request.embeddings)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def render(
        self, pipeline: Any, on_step: Callable[[], None] = lambda: None, say: Callable[[str], None] = lambda _line: None
    ) -> list[Image]:
        """The clip's frames, in the order in which they were made; for ``on_step`` and ``say`` see `pipeline.animate`.

        Raises:
            AnimateDiffError: the module does not fit, or memory is short.
        """
        request = self.request
        return host.animate(
            pipeline,
            self.motion,
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            seed=request.seed,
            frames=self.frames,
            windows=self.windows,
            settings=request.settings,
            adapters=self.adapters,
            size=request.size,
            steps=request.steps,
            cfg=request.cfg,
            sampler=request.sampler,
            on_step=on_step,
            say=say,
        )


def prepare(request: Request) -> Ready:
    """Look for everything that can be refused before the checkpoint is loaded, the quick checks first.

    Raises:
        AnimateDiffError: a value is out of range, or a file is missing or unfit.
    """
    host.check_request(seed=request.seed, size=request.size, steps=request.steps, cfg=request.cfg)
    if request.sampler not in host.SAMPLERS:
        raise ClipError(f"There is no sampler {request.sampler!r}. Choose one of {', '.join(host.SAMPLERS)}.")
    host.check_host(request.checkpoint, request.device)
    config = host.find_config(request.checkpoint, request.config)
    motion = _motion(request)
    frames, windows = clip_frames(request.settings), context_windows(request.settings)
    check_frames(motion, frames, windows)
    for text, name in ((request.prompt, "prompt"), (request.negative_prompt, "negative prompt")):
        read_travel(text, frames, name)
    if isinstance(motion, Text2VideoZero):
        return Ready(request, motion, config, frames, windows)
    directed = networks.with_motion_loras(motion, request.motion_loras)
    return Ready(request, directed.motion, config, frames, windows, directed.adapters, directed.reports)


def _motion(request: Request) -> MotionModule | Text2VideoZero:
    if not request.is_zero:
        return load_motion_module(request.motion, kind=request.kind)
    loras = ", ".join(added.path.stem for added in request.motion_loras)
    refuse_with_text2video_zero(replace(request.settings, motion_loras=loras))
    return text2video_zero(request.settings)


# --------------------------------------------------------------------------------------------------------------------
# recipes


def recipe_of(request: Request, encoding: Mapping[str, Any]) -> Recipe:
    """What goes into the clip's files: names and hashes of files, but no path, which may name a person."""
    settings = {name: value for name, value in asdict(request.settings).items() if name not in _ELSEWHERE}
    files: dict[str, Any] = {
        "checkpoint": _named(request.checkpoint),
        "motion": {"name": NAME} if request.is_zero else _named(request.motion) | {"kind": request.kind},
        "loras": [_named(lora.path) | {"strength": lora.strength} for lora in request.loras],
        "embeddings": [_named(path) for path in request.embeddings],
        "motion_loras": [_named(lora.path) | {"strength": lora.strength} for lora in request.motion_loras],
    }
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
        "settings": settings,
        "files": files,
        "encoding": dict(encoding),
    }
    return Recipe(_infotext(request, files["checkpoint"]["sha256"], files["motion"].get("sha256", "")), data)


def request_of(
    data: Mapping[str, Any], find: Callable[[str, str], Path], *, config: Path | None = None, device: str = "cpu"
) -> Request:
    """The request that a recipe was made from.

    Args:
        data: the JSON of a recipe; it comes with a file from anyone, so each value is checked.
        find: from a file's name and hash to where it is on this machine.

    Raises:
        ClipError: the recipe is not of this program, or a value is missing or of a wrong type.
    """
    if data.get("program") != PROGRAM:
        raise ClipError(
            "Its recipe is not of this command line. Open it where it was made: the WebUI's PNG Info page reads it."
        )
    files = _taken(data, "files", dict)
    width, height = (_checked(side, int, "size") for side in _pair(_taken(data, "size", list)))

    def found(entry: Any) -> Path:
        entry = _checked(entry, dict, "files")
        return find(Path(_taken(entry, "name", str)).name, _taken(entry, "sha256", str))

    def added(name: str) -> tuple[Added, ...]:
        return tuple(Added(found(entry), _number(entry, "strength")) for entry in _taken(files, name, list))

    motion = _taken(files, "motion", dict)
    is_zero = "sha256" not in motion and is_text2video_zero(_taken(motion, "name", str))
    kind = motion.get("kind")
    return Request(
        checkpoint=found(files.get("checkpoint")),
        motion=TEXT2VIDEO_ZERO if is_zero else found(motion),
        prompt=_taken(data, "prompt", str),
        settings=parse_settings(_taken(data, "settings", dict)),
        negative_prompt=_taken(data, "negative_prompt", str),
        seed=_taken(data, "seed", int),
        kind=None if kind is None else _checked(kind, str, "kind"),
        loras=added("loras"),
        embeddings=tuple(found(entry) for entry in _taken(files, "embeddings", list)),
        motion_loras=added("motion_loras"),
        size=(width, height),
        steps=_taken(data, "steps", int),
        cfg=_number(data, "cfg"),
        sampler=_taken(data, "sampler", str),
        config=config,
        device=device,
    )


def file_hash(path: Path) -> str:
    """SHA-256 of a file, or of all files in a folder, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as content:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
    return digest.hexdigest()


def _named(path: Path) -> dict[str, Any]:
    return {"name": path.name, "sha256": file_hash(path)}


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _infotext(request: Request, checkpoint_hash: str, motion_hash: str) -> str:
    """The clip's recipe as the WebUI writes its own, so that its PNG Info page reads it."""
    settings = replace(request.settings, enable=True, model=NAME if request.is_zero else request.motion.name)
    fields = {
        "Steps": request.steps,
        "Sampler": _WEBUI_SAMPLERS.get(request.sampler, request.sampler),
        "CFG scale": request.cfg,
        "Seed": request.seed,
        "Size": f"{request.size[0]}x{request.size[1]}",
        "Model hash": checkpoint_hash[:_HASH_LENGTH],
        "Model": request.checkpoint.stem,
        "AnimateDiff": json.dumps(to_infotext(settings, mm_hash=motion_hash[:_HASH_LENGTH]), ensure_ascii=False),
        "Version": f"{PROGRAM} {__version__}",
    }
    lines = [request.prompt, f"Negative prompt: {request.negative_prompt}" if request.negative_prompt else ""]
    return "\n".join([*filter(None, lines), ", ".join(f"{name}: {value}" for name, value in fields.items())])


def _taken(data: Mapping[str, Any], name: str, kind: type) -> Any:
    return _checked(data.get(name), kind, name)


def _number(data: Mapping[str, Any], name: str) -> float:
    value = data.get(name)
    number = float(value if isinstance(value, int) else _checked(value, float, name))
    if not math.isfinite(number):
        raise ClipError(f"Its recipe is damaged: {name} is {number}.")
    return number


def _checked(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ClipError(f"Its recipe is damaged: {name} is {value!r:.40}.")
    return value


def _pair(values: list[Any]) -> list[Any]:
    if len(values) != 2:
        raise ClipError(f"Its recipe is damaged: size is {values!r:.40}.")
    return values
