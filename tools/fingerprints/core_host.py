"""`inject` on small UNets of LDM and diffusers. A frame is a row of the UNet's output, of one step after the other.

The text is what the package warns of.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, redirect_stderr
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from support import hosts
from support.adapter_files import diffusers_layers, random_adapter, write_adapter
from support.motions import OFFICIAL, SDXL_KINDS, shared_motion

from lib_animatediff import ContextWindows, MotionAmount, Text2VideoZero, inject, use_schedule
from lib_animatediff.engine.components.domain_adapter import apply_domain_adapters
from lib_animatediff.engine.motion_scale import BlockScale
from motion_module import load_domain_adapter

from .prints import Fingerprint, of_rows, of_tensor
from .workplace import workplace

STREAMS = 2
STEPS = 2
ZERO = "Text2Video-Zero"


@dataclass(frozen=True)
class Call:
    """UNet calls of a few steps.

    Attributes:
        kind: of the motion module, or `ZERO`.
        host: of the UNet.
        more: for `inject`, whose earlier name of the scale is still accepted.
        method: of Text2Video-Zero.
        dtype: of the UNet and its input.
        adapter: whether a domain adapter is on.
        first_only: whether frame 0 alone is computed, see `CrossFrameAttention`.
    """

    kind: str = "v3"
    host: str = "ldm"
    frames: int = 4
    clips: int = 1
    more: dict[str, Any] = field(default_factory=dict)
    method: Text2VideoZero = field(default_factory=Text2VideoZero)
    dtype: torch.dtype = torch.float32
    adapter: bool = False
    first_only: bool = False


def _long(*, frames: int = 12, **windows: Any) -> Call:
    return Call(frames=frames, more={"windows": ContextWindows(**{"length": 6, "overlap": 2, **windows})})


def _by_frames(clips: int, frames: int) -> Callable[[int], Sequence[int]]:
    """For a host that lays rows out as ``(f b k)``."""
    return lambda rows: torch.arange(rows).reshape(frames, clips, -1).permute(2, 1, 0).flatten().tolist()


def _mask() -> torch.Tensor:
    return torch.linspace(0, 1, 16).repeat(16, 1)


CALLS = {
    **{f"{kind} in {host}": Call(kind, host) for kind in OFFICIAL for host in hosts.HOSTS},
    "v1, trained length": Call("v1", frames=OFFICIAL["v1"].length),
    "bfloat16": Call(host="diffusers", dtype=torch.bfloat16),
    "bfloat16 v1": Call("v1", "diffusers", dtype=torch.bfloat16),
    "two clips": Call(clips=2),
    "two clips, one per call": Call(clips=2, more={"one_clip_per_call": True}),
    "two clips, v1, one per call": Call("v1", clips=2, more={"one_clip_per_call": True}),
    "rows in another order": Call(clips=2, more={"row_order": _by_frames(2, 4)}),
    **{f"windows {kind}": _long(kind=kind) for kind in ("uniform", "looped", "static")},
    "windows batched": _long(kind="batched", overlap=0),
    **{f"fusion {fusion}": _long(fusion=fusion) for fusion in ("flat", "overlap-linear")},
    "windows stride 3": _long(length=4, overlap=1, stride=3),
    "windows looped stride 2": _long(length=4, overlap=1, stride=2, kind="looped"),
    "windows looped, 11 frames": _long(frames=11, overlap=1, kind="looped"),
    "windows closed, 11 frames": _long(frames=11, overlap=1, kind="looped", closed=True),
    "windows fused in main memory": _long(fuse_on_cpu=True),
    "windows sdxl": Call("sdxl", frames=12, more={"windows": ContextWindows(6, 2)}),
    "windows v1 in diffusers": Call("v1", "diffusers", frames=12, more={"windows": ContextWindows(6, 2)}),
    "views": _long(as_views=True),
    "views static stride 2": _long(as_views=True, kind="static", stride=2),
    "views v1": Call("v1", frames=12, more={"windows": ContextWindows(6, 2, as_views=True)}),
    "amount by frame": Call(more={"amount": MotionAmount(scale=(1, 1.5, 2), effect=(1, 0.5))}),
    "amount masked": Call(
        more={"amount": MotionAmount(scale=(1.5,), effect=(0.8,), scale_mask=_mask(), effect_mask=_mask())}
    ),
    "amount by step": Call(
        more={"amount": MotionAmount(scale_steps=((0, 1.0), (1, 1.5)), effect_steps=((0, 1.0), (1, 0.5)))}
    ),
    "amount begins late": Call(more={"amount": MotionAmount(start=0.4)}),
    "amount by block": Call(
        more={"amount": MotionAmount(blocks=(BlockScale("up_blocks.1", effect=0.5), BlockScale("down_blocks", 1.4)))}
    ),
    "amount in views": Call(
        frames=12,
        more={
            "windows": ContextWindows(6, 2, as_views=True),
            "amount": MotionAmount(scale=tuple(1 + frame / 10 for frame in range(12)), effect_mask=_mask()),
        },
    ),
    "domain adapter": Call(adapter=True),
    "domain adapter in diffusers": Call(host="diffusers", adapter=True),
    **{f"zero in {host}": Call(ZERO, host) for host in hosts.HOSTS},
    "zero, two clips": Call(ZERO, clips=2),
    "zero in chunks": Call(ZERO, frames=10, more={"windows": ContextWindows(4, 1)}),
    "zero, frame 0 only": Call(ZERO, first_only=True),
}
PLANS = {
    f"plan {kind}, stride {stride}": ContextWindows(6, 2, stride=stride, kind=kind)
    for kind in ("uniform", "looped", "static", "batched")
    for stride in (1, 2)
}
NAMES = [*CALLS, *PLANS, "schedules"]


def render(names: Sequence[str]) -> Iterator[tuple[str, Fingerprint]]:
    """The fingerprints of requests."""
    for name in names:
        if name in CALLS:
            yield name, _called(CALLS[name])
        elif name in PLANS:
            yield name, Fingerprint(text=_planned(PLANS[name]))
        else:
            yield name, Fingerprint([_schedule(kind) for kind in OFFICIAL])


def _called(call: Call) -> Fingerprint:
    unet = _unet(call.host, call.kind in SDXL_KINDS)
    unet = unet if call.dtype == torch.float32 else torch.nn.Module.to(deepcopy(unet), call.dtype)
    motion = call.method.component() if call.kind == ZERO else shared_motion(call.kind)[0]
    rows = STREAMS * call.clips * call.frames
    given = {
        name: value.to(call.dtype) if value.is_floating_point() else value for name, value in hosts.inputs(rows).items()
    }
    frames: list[str] = []
    with torch.no_grad(), redirect_stderr(io.StringIO()) as said, ExitStack() as span:
        if call.adapter:
            span.enter_context(apply_domain_adapters(unet, [(_adapter(), 0.8)]))
        injection = span.enter_context(inject(unet, motion, frames=call.frames, **call.more))
        if call.first_only:
            span.enter_context(motion.first_frame_only())
        for step in range(STEPS):
            injection.step, injection.progress = step, step / STEPS
            frames += of_rows(hosts.call(unet, given).float())
    return Fingerprint(frames, said.getvalue())


@cache
def _unet(host: str, is_sdxl: bool) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return (hosts.SDXL_HOSTS if is_sdxl else hosts.HOSTS)[host]()


@cache
def _adapter() -> Any:
    changes = random_adapter(diffusers_layers(_unet("diffusers", False)))
    with workplace() as folder:
        return load_domain_adapter(write_adapter(folder / "adapter.safetensors", changes))


def _planned(windows: ContextWindows) -> str:
    lines = [
        f"{frames} frames, step {step}: {window} {windows.weights(window, frames)}"
        for frames in (7, 12, 31)
        for step in range(5)
        for window in windows.plan(frames, step)
    ]
    return "\n".join(lines)


def _schedule(kind: str) -> str:
    """The table that a kind's clips are sampled on."""
    model = torch.nn.Module()
    model.register_buffer("alphas_cumprod", torch.linspace(0.999, 0.005, 1000))
    with use_schedule(model, shared_motion(kind)[0].schedule):
        return of_tensor(model.alphas_cumprod)
