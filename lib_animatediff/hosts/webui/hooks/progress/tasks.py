"""The work of a request, with the time that it takes before anything was measured."""

from __future__ import annotations

from typing import Any

from lib_animatediff.hosts.webui.clip.start.video import sampled_steps
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.host_models import host_model
from lib_animatediff.request.plan import ClipPlan

from .workload import Task

_LATENT = 8  # image pixels per latent pixel, in each direction
_USUAL = 64 * 64  # latent pixels of 512x512
_ATTENTION = 23_000  # latent pixels at which the attention over all of them takes as long as everything else
_FRAME_SECONDS = {"cuda": 0.05, "mps": 0.4, "xpu": 0.1, "cpu": 6.0}  # cond and uncond of one frame of 512x512
_USUAL_WEIGHTS = 860e6  # of the UNet of Stable Diffusion 1.5
_DECODE, _ENCODE = 1.5, 0.8  # of such a frame's time: the VAE
_MEGAPIXEL = 1e6
# Seconds per megapixel on the CPU, measured: texts and images of the WebUI, then this extension's own.
_IMAGE, _MEASURE = 0.03, 0.006
_WRITE = {"gif": 0.15, "webp": 0.1, "apng": 0.11, "mp4": 0.05, "webm": 0.07, "avif": 0.05, "frames": 0.12}
_PALETTE = 6.0  # megapixels that are written in the time that the palette of a GIF takes, for any size
_END = 0.1  # seconds after the files: names, replies
DECODE, DECODE_FIRST, ENCODE, IMAGE, MEASURE = "decode", "decode first pass", "encode", "image", "measure"


_WRITING = "write "


def unit_of(width: int, height: int) -> float:
    """The time of one frame relative to 512x512."""
    pixels = (width // _LATENT) * (height // _LATENT)
    return pixels * (1 + pixels / _ATTENTION) / (_USUAL * (1 + _USUAL / _ATTENTION))


def runs_of(p: Any, plan: ClipPlan, *, is_second: bool) -> tuple[int, ...]:
    """The steps of each run of the sampler in a pass."""
    if is_second:
        return (max(int(getattr(p, "hr_second_pass_steps", 0) or p.steps), 1),)
    return tuple(max(run, 1) for run in plan.runs_of(sampled_steps(p, plan)))


def inversions_of(p: Any, plan: ClipPlan, *, is_second: bool) -> list[int]:
    """The calls of the UNet that invert the source video before each run of a pass: once for each number of steps."""
    runs = runs_of(p, plan, is_second=is_second)
    video = plan.video
    if is_second or video is None or not video.inversion or not video.strongest:
        return [0] * len(runs)
    return [0 if steps in runs[:number] else steps for number, steps in enumerate(runs)]


def pass_kind(*, is_second: bool) -> str:
    """The kind of work of a pass."""
    return "second pass" if is_second else "first pass"


def write_kind(name: str) -> str:
    """The kind of work of a format."""
    return _WRITING + name


def write_overhead(name: str) -> float:
    """Units of a format before its first frame."""
    return _PALETTE if name == "gif" else 0.0


def tasks_of(p: Any, plan: ClipPlan, passes: dict[bool, float]) -> list[Task]:
    """All work of a request.

    Args:
        passes: by whether it is the second pass, the units of a pass in one batch.
    """
    rows, size = int(p.batch_size), (int(p.width), int(p.height))
    has_second = True in passes
    large = (int(p.hr_upscale_to_x), int(p.hr_upscale_to_y)) if has_second else size
    device = a1111.device().type
    unet = host_model(p.sd_model).unet
    seconds = _FRAME_SECONDS.get(device, _FRAME_SECONDS["cuda"]) * _time_of(unet)
    name = type(unet).__module__

    def on_device(kind: str, units: float, factor: float, pixels: tuple[int, int]) -> Task:
        like = "" if kind == _FIRST else _FIRST
        place = (device, name, pixels, len(plan.rendered))
        return Task(kind, units, p.n_iter, seconds * factor, like, place=place)

    tasks = [
        on_device(pass_kind(is_second=second), units, 1.0, large if second else size)
        for second, units in passes.items()
    ]
    if has_second and getattr(p, "latent_scale_mode", None) is None:
        tasks.append(on_device(DECODE_FIRST, rows * _plain_unit(size), _DECODE, size))
        tasks.append(on_device(ENCODE, rows * _plain_unit(large), _ENCODE, large))
    tasks.append(on_device(DECODE, rows * _plain_unit(large), _DECODE, large))
    area = large[0] * large[1] / _MEGAPIXEL
    busy = _FIRST if device == "cpu" else ""

    def on_cpu(kind: str, units: float, rounds: int, rate: float) -> Task:
        has_overhead = kind.startswith(_WRITING)
        return Task(kind, units, rounds, rate, busy, is_guess=False, place=large, has_overhead=has_overhead)

    tasks.append(on_cpu(IMAGE, rows * area, p.n_iter, _IMAGE))
    if plan.makes_clip:
        clips = p.n_iter * max(rows // plan.frames, 1)
        played = area * (max(2 * plan.frames - 2, 1) if plan.output.ping_pong else plan.frames)
        shown = area * plan.output.shown_count(plan.frames)
        tasks.append(on_cpu(MEASURE, played, clips, _MEASURE))
        tasks += [
            on_cpu(write_kind(key), write_overhead(key) + shown, clips, _WRITE.get(key, 0.0))
            for key in plan.output.formats
        ]
    return [*tasks, Task("end", 1.0, 1, _END)]


def _time_of(unet: Any) -> float:
    """The time of a UNet relative to Stable Diffusion 1.5's, until it is measured.

    It grows far more slowly than the weights: narrow layers leave a device idle. The exponent is that between the
    UNet of the tests and Stable Diffusion 1.5's on a CPU.
    """
    weights = sum(weight.numel() for weight in unet.parameters()) if hasattr(unet, "parameters") else 0
    return float((weights / _USUAL_WEIGHTS) ** (1 / 3)) if weights else 1.0


def frame_unit(kind: str, p: Any) -> float:
    """The units of one frame of a kind of work that goes frame by frame."""
    has_second = bool(getattr(p, "enable_hr", False))
    large = (int(p.hr_upscale_to_x), int(p.hr_upscale_to_y)) if has_second else (int(p.width), int(p.height))
    if kind in (DECODE, ENCODE):
        return _plain_unit(large)
    if kind == DECODE_FIRST:
        return _plain_unit((int(p.width), int(p.height)))
    return large[0] * large[1] / _MEGAPIXEL


def _plain_unit(size: tuple[int, int]) -> float:
    return (size[0] // _LATENT) * (size[1] // _LATENT) / _USUAL


_FIRST = pass_kind(is_second=False)
