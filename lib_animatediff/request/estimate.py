"""Estimates windows, UNet calls and memory before a clip is rendered, and suggests changes if memory is too small."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from lib_animatediff.engine.context_windows import Chunks, ContextWindows
from lib_animatediff.engine.reuse.schedule import FeatureReuse
from lib_animatediff.request.control.memory import CAMERA, Calls, Steering, in_gigabytes
from lib_animatediff.sampling.guidance import GuidanceInterval

CHUNK = 75  # tokens per call of the text encoder; prompts are padded to multiples of it
FEWEST_FRAMES = 8  # shorter windows show little motion

_CHUNK_WITH_ENDS = CHUNK + 2
_LATENT = 8  # image pixels per latent pixel, in each direction
_SIZE_STEP = 64  # every level of the UNet can halve multiples of it
_SMALLEST_SIZE = 256
_MIB = 2**20

# Peak of live tensors in a call, by base and bytes per number: bytes per row and latent pixel, and per row and token.
# Measured with python -m tools.benchmarks.activation_memory. The fit is exact to 0.1 % for 8 to 32 rows, 32^2 to 96^2.
# Attention is torch's fused kernel, so no tensor holds all positions by all positions. The peak is inside the UNet's
# own layers, so it is the same with every motion module, with views, and without a motion module.
_IN_A_CALL: dict[tuple[str, int], tuple[int, int]] = {
    ("sd15", 4): (32017, 3098),
    ("sd15", 2): (16649, 1552),
    ("sdxl", 4): (19539, 8266),
    ("sdxl", 2): (10890, 4139),
}
# Memory of the host and of the sums of the windows for every frame of every stream, even outside the current call (from
# their code, not measured): latents before and after in float32, and the text conditions twice.
_LATENTS_HELD = 4 * 4 * 4
_TEXTS_HELD = {"sd15": 2 * 768, "sdxl": 2 * 2048}

# Kept features by `FeatureReuse.branch`, the same for both bases: channels, and latent pixels per pixel of the feature
# in each direction.
_KEPT = ((320, 1), (320, 1), (640, 1), (640, 2), (640, 2), (1280, 2))

_LARGEST_COUNT = 200_000  # frames in counted windows; beyond it, the counts of the first steps are repeated


@dataclass(frozen=True)
class ClipEstimate:
    """The UNet calls of one clip, or of several clips that are made together.

    Attributes:
        base: ``"sd15"`` or ``"sdxl"``.
        frames: frames in a clip.
        windows: context windows, or chunks of Text2Video-Zero; None if a clip is processed in one piece.
        width, height: size of the image.
        steps: sampling steps, with one model call by the sampler each.
        clips: clips that are made together.
        streams: streams of a clip: cond and uncond, or more if a prompt has several parts.
        streams_per_call: streams that the host puts into one call.
        one_clip_per_call: whether each clip of each stream has its own calls.
        tokens: tokens of the longest prompt.
        number_bytes: bytes per number in the UNet: 2 or 4.
        reuse: of features over the steps; None: off.
        guidance: the steps at which uncond is computed.
        steering: models that images or a camera steer the clip with.
        free: free bytes in addition to the models; None if unknown.
    """

    base: str
    frames: int
    windows: ContextWindows | Chunks | None = None
    width: int = 512
    height: int = 512
    steps: int = 20
    clips: int = 1
    streams: int = 2
    streams_per_call: int = 2
    one_clip_per_call: bool = False
    tokens: int = CHUNK
    number_bytes: int = 2
    reuse: FeatureReuse | None = None
    guidance: GuidanceInterval = field(default_factory=GuidanceInterval)
    steering: tuple[Steering, ...] = ()
    free: int | None = None

    @property
    def frames_per_call(self) -> int:
        """Frames of a clip in one UNet call."""
        windows = self.windows
        return self.frames if windows is None or self.has_views else min(self.frames, windows.length)

    @property
    def has_views(self) -> bool:
        """Whether the windows apply inside the motion module only."""
        return isinstance(self.windows, ContextWindows) and self.windows.as_views

    @property
    def rows(self) -> int:
        """Rows in the largest call."""
        together = 1 if self.one_clip_per_call else self.clips * min(self.streams, self.streams_per_call)
        return self.frames_per_call * together

    @cached_property
    def window_counts(self) -> tuple[int, ...]:
        """Number of windows at each step."""
        if self.windows is None:
            return (1,) * self.steps
        return _window_counts(self.windows, self.frames, self.steps, self.reuse)

    @property
    def calls(self) -> int:
        """Total number of UNet calls."""
        per_stream, at_once = (self.clips, 1) if self.one_clip_per_call else (1, self.streams_per_call)
        windows = (1,) * self.steps if self.has_views else self.window_counts
        streams = (self.streams - (not self.guidance.is_guided(step / self.steps)) for step in range(self.steps))
        return sum(count * math.ceil(each * per_stream / at_once) for count, each in zip(windows, streams, strict=True))

    @property
    def kept_rows(self) -> int:
        """Rows whose features are kept: each frame once for every window that contains it."""
        if self.reuse is None:
            return 0
        windows = None if self.windows is None or self.has_views else self.windows.plan(self.frames, 0)
        frames = self.frames if windows is None else sum(map(len, windows))
        return frames * self.clips * self.streams

    @property
    def kept_per_row(self) -> int:
        """Bytes of the kept features of one row."""
        if self.reuse is None:
            return 0
        channels, scale = _KEPT[self.reuse.branch]
        pixels = (self.width // _LATENT // scale) * (self.height // _LATENT // scale)
        return channels * pixels * self.number_bytes

    @property
    def memory(self) -> int:
        """Approximate bytes in addition to the weights during the largest call."""
        pixels = (self.width // _LATENT) * (self.height // _LATENT)
        tokens = self.padded_tokens // CHUNK * _CHUNK_WITH_ENDS
        per_pixel, per_token = _IN_A_CALL[self.base, self.number_bytes]
        held = _LATENTS_HELD * pixels + _TEXTS_HELD[self.base] * self.number_bytes * tokens
        kept = 0 if self.reuse is None or self.reuse.on_cpu else self.kept_rows * self.kept_per_row
        held_by_all = self.frames * self.clips * self.streams * held
        return self.rows * (per_pixel * pixels + per_token * tokens) + held_by_all + kept + steering_memory(self)

    @property
    def padded_tokens(self) -> int:
        """Tokens after padding to whole chunks of the text encoder, at least one chunk."""
        return max(math.ceil(self.tokens / CHUNK), 1) * CHUNK

    @property
    def fits(self) -> bool:
        """Whether memory is sufficient; True if the free memory is unknown."""
        return self.free is None or self.memory <= self.free

    def suggestions(self) -> list[tuple[str, ClipEstimate]]:
        """The smallest changes that each make the clip fit into memory, with the estimate after the change."""
        return [
            suggestion
            for changes in (_without_views, _kept_on_cpu, _fewer_clips, _shorter, _smaller)
            if (suggestion := next((change for change in changes(self) if change[1].fits), None))
        ]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


def _without_views(estimate: ClipEstimate) -> Iterator[tuple[str, ClipEstimate]]:
    if isinstance(estimate.windows, ContextWindows) and estimate.windows.as_views:
        yield "views off", replace(estimate, windows=replace(estimate.windows, as_views=False))


def _kept_on_cpu(estimate: ClipEstimate) -> Iterator[tuple[str, ClipEstimate]]:
    if estimate.reuse is not None and not estimate.reuse.on_cpu:
        yield "reuse_on_cpu on", replace(estimate, reuse=replace(estimate.reuse, on_cpu=True))


def _fewer_clips(estimate: ClipEstimate) -> Iterator[tuple[str, ClipEstimate]]:
    for clips in range(estimate.clips - 1, 0, -1):
        yield f"the batch size to {clips}", replace(estimate, clips=clips)


def _shorter(estimate: ClipEstimate) -> Iterator[tuple[str, ClipEstimate]]:
    windows = estimate.windows
    for length in range(estimate.frames_per_call - 1, FEWEST_FRAMES - 1, -1):
        shorter: ContextWindows | Chunks
        if windows is None:
            shorter = ContextWindows(length=length, overlap=length // 4)
        elif isinstance(windows, Chunks):
            shorter = replace(windows, length=length)
        else:
            shorter = replace(windows, length=length, overlap=min(windows.overlap, length - 1))
        yield f"the context length to {length}", replace(estimate, windows=shorter)


def _smaller(estimate: ClipEstimate) -> Iterator[tuple[str, ClipEstimate]]:
    longer = max(estimate.width, estimate.height)
    for side in range((longer - 1) // _SIZE_STEP * _SIZE_STEP, 0, -_SIZE_STEP):
        width, height = (max(round(n * side / longer / _SIZE_STEP), 1) * _SIZE_STEP for n in estimate.size)
        if min(width, height) < min(_SMALLEST_SIZE, *estimate.size):
            return
        yield f"width and height to {width}x{height}", replace(estimate, width=width, height=height)


def steering_memory(plan: ClipEstimate, kind: str = "") -> int:
    """Bytes of the models that steer a clip, their weights included.

    Args:
        kind: of one kind; by default of all.
    """
    chosen = [each for each in plan.steering if kind in ("", each.kind)]
    return sum(each.numbers(_calls_of(plan, each.kind)) for each in chosen) * plan.number_bytes


def _calls_of(plan: ClipEstimate, kind: str) -> Calls:
    """The calls of the UNet as a model of a kind sees them: a camera's windows may be views within one call."""
    windows = plan.windows
    frames = plan.frames_per_call if windows is None or kind != CAMERA else min(plan.frames, windows.length)
    return Calls(plan.rows, frames, max(plan.window_counts, default=1), plan.size)


def one_line(plan: ClipEstimate) -> str:
    """The estimate in a few words, with suggestions if memory is too small."""
    what = f"{_clips(plan)} ({_calls(plan)}), {plan.width}x{plan.height}, prompts of {plan.padded_tokens} tokens"
    return f"AnimateDiff: {what}, about {_needs(plan)} in addition to the models{_verdict(plan)}"


def in_plain_words(plan: ClipEstimate, shown: int, fps: float, *, added: bool = False) -> str:
    """What will be made and whether it fits, for the panel.

    Args:
        shown: frames that the clip shows, which going back and forth are more than are rendered.
        fps: frames per second.
        added: whether frames are added by interpolation.
    """
    clips = f"{plan.clips} clips of " if plan.clips > 1 else ""
    becoming = f", interpolated to {shown} at {fps:g} frames per second" if added else ""
    seconds = f"{round(shown / fps, 1):g} s long"
    frames = _number(plan.frames if added else shown, "frame")
    what = f"{clips}{frames}, {plan.width}x{plan.height}{becoming}, {seconds}."
    if plan.free is None:
        return f"{what} Needs about {_needs(plan)}."
    if plan.fits:
        return f"{what} Needs about {in_gigabytes(plan.memory)} of {in_gigabytes(plan.free)} free{_steered(plan)}."
    return f"{what} Needs about {_needs(plan)}{_verdict(plan)}"


def _needs(plan: ClipEstimate) -> str:
    return f"{in_gigabytes(plan.memory)}{_steered(plan)}"


def _steered(plan: ClipEstimate) -> str:
    kinds = dict.fromkeys(each.kind for each in plan.steering)
    parts = [f"{in_gigabytes(steering_memory(plan, kind))} of it for {kind}" for kind in kinds]
    return f" ({', '.join(parts)})" if parts else ""


def _clips(plan: ClipEstimate) -> str:
    clips = f"{plan.clips} clips of " if plan.clips > 1 else ""
    frames = f"{clips}{_number(plan.frames, 'frame')}"
    if plan.windows is None or plan.frames <= plan.windows.length:
        return f"{frames} at once"
    fewest, most = min(plan.window_counts, default=0), max(plan.window_counts, default=0)
    counted = f"{fewest} to {most}" if fewest < most else str(most)
    if plan.has_views:
        return f"{frames} at once, with {counted} views of {plan.windows.length}"
    kind = "chunk" if isinstance(plan.windows, Chunks) else "window"
    return f"{frames} in {counted} {kind if most == 1 else f'{kind}s'} of {plan.windows.length}"


def _calls(plan: ClipEstimate) -> str:
    calls = f"{_number(plan.calls, 'UNet call')} with up to {_number(plan.rows, 'image')}"
    return f"{_number(plan.steps, 'step')}: {calls}{_reused(plan)}"


def _reused(plan: ClipEstimate) -> str:
    if plan.reuse is None:
        return ""
    full = sum(plan.reuse.is_full(step, plan.steps) for step in range(plan.steps))
    where = "main memory" if plan.reuse.on_cpu else "memory"
    kept = f"{in_gigabytes(plan.kept_rows * plan.kept_per_row)}, {plan.kept_per_row / _MIB:.1f} MB per image"
    return f"; {_number(full, 'full step')}, with features of {kept}, kept in {where}"


def _verdict(plan: ClipEstimate) -> str:
    if plan.free is None:
        return "."
    if plan.fits:
        return f"; {in_gigabytes(plan.free)} are free."
    changes = [change for change, _ in plan.suggestions()]
    others = "set views off" if plan.has_views else "lower the context length"
    if changes:
        advice = f"Set {', or '.join(changes)}."
    else:
        advice = f"No single change is enough: {others}, and lower width and height."
    return f"; only {in_gigabytes(plan.free)} are free. {advice}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


@lru_cache(maxsize=64)
def _window_counts(
    windows: ContextWindows | Chunks, frames: int, steps: int, reuse: FeatureReuse | None
) -> tuple[int, ...]:
    first = windows.plan(frames, 0)
    looked_at = min(steps, max(_LARGEST_COUNT // sum(map(len, first)), 1))
    planned_by = range(looked_at) if reuse is None else [reuse.part(step, steps) for step in range(looked_at)]
    counts = [len(first), *(len(windows.plan(frames, step)) for step in planned_by[1:])]
    return tuple(counts[step % looked_at] for step in range(steps))
