"""SparseCtrl in a UNet: given frames steer all frames of a clip (arXiv 2311.16933).

The encoder runs once for each call of the UNet, inside the context windows, on all frames of the window, since its
temporal transformers carry the given frames to the others. What it returns is added to the skip connections and to the
output of the middle block. It does not depend on the latents, so `ResidualCache` keeps it for further runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.call import UNetCall, context_of, count_clips, input_of, planning_step
from lib_animatediff.engine.host_tensor import HostTensor, Kept, copied
from lib_animatediff.engine.unet import UNetView
from motion_module import ClipError, IncompatibleModelError
from motion_module.sparse_ctrl.network import LEVELS, PIXELS_PER_POSITION, SparseCtrl

from .amounts import ControlledRows, acts_within, controlled_rows
from .control import PlacedResiduals, Residuals, add_hooks
from .motion import TemporalRunner, placed_like

NEAREST, NONE = "nearest", "none"
WITHOUT_KEY = (NEAREST, NONE)
CACHE_BYTES = 2 * 2**30
_CARD_BYTES = 16 * 2**30  # 20 steps with CFG of 16 frames of 512x512 take 9 GB in half precision
_SHARE_OF_FREE = 4


@dataclass(frozen=True, eq=False)
class GivenFrames:
    """The frames of a clip that an encoder is given. Two objects are never equal, so that a cache can tell them apart.

    Attributes:
        frames: their numbers in the clip, from 0.
        conditions: one for each of them, ``n c H W``, as `SparseCtrl.embed` takes them.
    """

    frames: Sequence[int]
    conditions: Tensor


class ResidualCache:
    """What an encoder returned, for calls with the same timesteps, texts and frames: further runs and further seeds.

    Two calls are compared where their host knows the timestep. A full cache keeps what it has.

    Args:
        most: bytes that it holds, on the device of the UNet.
    """

    def __init__(self, most: int = CACHE_BYTES) -> None:
        self.hits = 0
        self._left = most
        self._entries: dict[Hashable, list[tuple[tuple[Tensor, ...], Residuals]]] = {}

    def get_or(self, key: Hashable, given: tuple[Tensor, ...], make: Callable[[], Residuals]) -> Residuals:
        """The residuals for these arguments, made if they are not there.

        Args:
            key: of what is known without reading the device.
            given: tensors that must be equal, too.
        """
        for known, residuals in self._entries.get(key, ()):
            if all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(known, given, strict=True)):
                self.hits += 1
                return residuals
        made = make()
        held = (*given, *made.skips, *filter(lambda each: each is not None, [made.middle]))
        size = sum(each.nbytes for each in held if each is not None)
        if size <= self._left:
            self._left -= size
            kept = tuple(each.clone() for each in given)
            self._entries.setdefault(key, []).append((kept, made))
        return made


def room_for_cache(device: torch.device) -> int:
    """Bytes for a cache: on a graphics card at most a quarter of what is free, so that the clip fits as without it."""
    if device.type != "cuda":
        return CACHE_BYTES
    free, _total = torch.cuda.mem_get_info(device)
    return min(_CARD_BYTES, free // _SHARE_OF_FREE)


class SparseCtrlComponent:
    """A SparseCtrl encoder in a UNet. One for images and one for drawings add up.

    It acts after the components before it, so that motion modules come first. The rows of frames with a strength of 0
    stay as they are, bit for bit; so does a clip outside its part of the sampling.

    Args:
        encoder: the encoder.
        given: the frames that it is given, the same in every clip of a batch.
        strengths: one per frame; the last one applies to all further frames.
        start, end: the part of the sampling in which it acts, from 0.0 to 1.0.
        without_key: what a context window has in which no frame is given: ``"nearest"``, the nearest given frame at
            the end of the window that it is nearer to; ``"none"``, no encoder.
        cache: keeps results for further runs; None: nothing is kept.

    Raises:
        ClipError: a strength is not finite, the part of the sampling is empty, or frames and conditions do not fit.
    """

    def __init__(
        self,
        encoder: SparseCtrl,
        given: GivenFrames,
        strengths: Sequence[float] = (1.0,),
        start: float = 0.0,
        end: float = 1.0,
        without_key: str = NEAREST,
        cache: ResidualCache | None = None,
    ) -> None:
        _check(encoder.name, given, strengths, (start, end), without_key)
        self.name = encoder.name
        self.kind = encoder.kind
        self.frames_at_once: int | None = encoder.trained_length
        self._encoder = encoder
        self._given = given
        self._strengths = strengths
        self._start, self._end = start, end
        self._without_key = without_key
        self._cache = cache
        self._placed_residuals = PlacedResiduals()
        self._placed: Kept[_PlacedEncoder] = Kept(most=2)
        self._rows: Kept[ControlledRows] = Kept()
        self._sources: Kept[HostTensor | None] = Kept()
        self._temporal: TemporalRunner | None = None

    def attach(self, unet: UNetView, call: UNetCall, undo: ExitStack) -> None:
        """Add the hooks that add the residuals.

        Raises:
            ClipError: a frame is given that the clip does not have, or this object is attached already.
            IncompatibleModelError: the encoder was made for another UNet.
        """
        if self._temporal is not None:
            raise ClipError(
                f"{self.name} is in use by another injection. Create a new component for each injection.", code="AD-Q02"
            )
        if (last := max(self._given.frames)) >= call.clip_frames:
            raise ClipError(
                f"{self.name} is given frame {last}, and the clip has {call.clip_frames} frames, 0 to "
                f"{call.clip_frames - 1}. Choose an earlier frame, or render more frames.",
                code="AD-Q03",
            )
        _check_fits(self._encoder, unet)
        add_hooks(self._placed_residuals, unet, call, undo)
        self._temporal = TemporalRunner(call, [], None)
        undo.callback(self._detach)

    def around_call(
        self, call: UNetCall, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run the encoder, and then the UNet with its residuals, on the rows of one window.

        Raises:
            ClipError: the rows are not whole clips, or the conditions have another size than the latents.
        """
        follows_steps = self._start > 0 or self._end < 1  # otherwise the progress is not read, which may wait
        if not follows_steps or self.acts_at(call.progress):
            self._run(call, input_of(args, kwargs), context_of(args, kwargs))
        try:
            return forward(*args, **kwargs)
        finally:
            self._placed_residuals.clear()

    def acts_at(self, progress: float) -> bool:
        """Whether it acts at a completed share of the sampling."""
        return acts_within(progress, self._start, self._end)

    def _run(self, call: UNetCall, latents: Tensor, context: Tensor) -> None:
        frames = tuple(call.frames)
        clips = count_clips(call.rows, len(frames))
        rows = self._rows.get_or((frames, clips), lambda: controlled_rows(frames, clips, self._strengths))
        sources = self._sources.get_or((frames, clips), lambda: self._sources_of(frames, clips))
        if not rows.frames or sources is None:
            return
        placed = self._placed.get_or((latents.device, latents.dtype), lambda: self._put(latents))
        placed.check_size(self._given.conditions, latents)
        timesteps = copied(call.timesteps, latents.device)

        def compute() -> Residuals:
            assert self._temporal is not None
            features = placed.features.index_select(0, sources.on(latents.device))
            return Residuals(*placed.encoder(features, timesteps, context.to(latents.dtype), self._temporal.run))

        known = None if self._cache is None else call.place.known_timestep
        if self._cache is None or known is None:
            residuals = compute()
        else:
            residuals = self._cache.get_or(self._key(call, known, latents), (timesteps, context), compute)
        if rows.index is not None:
            index = rows.index.on(latents.device)
            assert residuals.middle is not None
            chosen = [each.index_select(0, index) for each in residuals.skips]
            residuals = Residuals(chosen, residuals.middle.index_select(0, index))
        self._placed_residuals.put(residuals, rows)

    def _key(self, call: UNetCall, timestep: float, latents: Tensor) -> Hashable:
        step = planning_step(call) if call.views is not None and call.views.follows_steps else 0
        views = (call.views, step)
        # The objects themselves: the cache keeps them, so that no other one can take their address.
        own = (self._encoder, self._given, self._without_key)
        return (timestep, tuple(call.frames), own, views, latents.shape[2:], latents.dtype, latents.device)

    def _sources_of(self, frames: Sequence[int], clips: int) -> HostTensor | None:
        """For each row the number of its condition, where the last one is none; None: the window has no condition."""
        places = place_keys(frames, self._given.frames, self._without_key)
        blank = len(self._given.frames)
        if not places:
            return None
        return HostTensor([places.get(place, blank) for place in range(len(frames))] * clips)

    def _put(self, latents: Tensor) -> _PlacedEncoder:
        """The encoder and its embedded conditions on the device and in the dtype of the latents."""
        encoder = placed_like(self._encoder, latents)
        conditions = copied(self._given.conditions, latents.device).to(latents.dtype)
        return _PlacedEncoder(encoder, encoder.embed(conditions))

    def _detach(self) -> None:
        self._temporal = None
        self._placed.clear()


@dataclass(frozen=True)
class _PlacedEncoder:
    """An encoder on the device of a UNet call.

    Attributes:
        encoder: in the dtype of the latents.
        features: of each given frame, and of one without a condition, ``(n + 1) c h w``.
    """

    encoder: SparseCtrl
    features: Tensor

    def check_size(self, conditions: Tensor, latents: Tensor) -> None:
        """Check that the conditions have the size of the latents.

        Raises:
            ClipError: they have another one.
        """
        if self.features.shape[2:] != latents.shape[2:]:
            factor = PIXELS_PER_POSITION[self.encoder.kind]
            height, width = (side * factor for side in latents.shape[2:])
            raise ClipError(
                f"{self.encoder.name} is given images of {conditions.shape[3]}x{conditions.shape[2]}, and this clip "
                f"needs {width}x{height}. Prepare the images for the size of the clip.",
                code="AD-Q04",
            )


def place_keys(window: Sequence[int], keys: Sequence[int], without_key: str = NEAREST) -> Mapping[int, int]:
    """The places of a window that have a condition, with the number of the given frame.

    A window without a given frame takes the nearest one, by the distance to its first or last frame, at the end that it
    is nearer to; in the middle if both ends are equally far. Two equally near ones take an end each. This is what
    ComfyUI-Advanced-ControlNet does.

    Args:
        window: frames of the clip, in their order in the call.
        keys: the given frames.
        without_key: one of `WITHOUT_KEY`.
    """
    own = {place: keys.index(frame) for place, frame in enumerate(window) if frame in keys}
    if own or without_key == NONE:
        return own
    ends = {0: window[0], len(window) - 1: window[-1]}
    distances = [min(abs(key - end) for end in ends.values()) for key in keys]
    nearest = [number for number, distance in enumerate(distances) if distance == min(distances)]
    places: dict[int, int] = {}
    for number in nearest:
        at = [place for place, end in ends.items() if abs(keys[number] - end) == distances[number]]
        is_between = len(at) == 2 and len(nearest) == 1
        place = len(window) // 2 if is_between else next((one for one in at if one not in places), at[0])
        places.setdefault(place, number)
    return places


def _check(
    name: str,
    given: GivenFrames,
    strengths: Sequence[float],
    part: tuple[float, float],
    without_key: str,
) -> None:
    if not strengths or not all(map(math.isfinite, strengths)):
        raise ClipError(f"{name}: the strengths of the frames must be finite numbers.", code="AD-Q05")
    if not 0 <= part[0] < part[1] <= 1:
        raise ClipError(
            f"{name}: SparseCtrl acts from a start of 0 or more to a later end, at most 1, not from {part[0]:g} to "
            f"{part[1]:g}.",
            code="AD-Q06",
        )
    if without_key not in WITHOUT_KEY:
        raise ClipError(
            f"A context window without a given frame has one of {', '.join(WITHOUT_KEY)}, not {without_key!r:.40}.",
            code="AD-Q07",
        )
    frames = list(given.frames)
    if not frames or len(frames) != len(given.conditions) or min(frames) < 0 or len(set(frames)) < len(frames):
        raise ClipError(
            f"{name} needs one image for each given frame, from frame 0, and each frame once; not "
            f"{len(given.conditions)} for the frames {frames!r:.60}.",
            code="AD-Q08",
        )


def _check_fits(encoder: SparseCtrl, unet: UNetView) -> None:
    widths = {site.name: site.channels for site in unet.sites if site.name.startswith("down_blocks.")}
    wanted = {f"down_blocks.{level}.motion_modules.0": encoder.layout.widths[level] for level in range(LEVELS)}
    found = {name: width for name, width in widths.items() if name.endswith(".0")}
    if found != wanted or _context_width(unet) not in (None, encoder.layout.context):
        raise IncompatibleModelError(
            f"{encoder.name} was made for a UNet with layers of {', '.join(map(str, encoder.layout.widths))} channels "
            f"and conditions of {encoder.layout.context} numbers, and this one has others. SparseCtrl encoders exist "
            "for Stable Diffusion 1.5 only; choose a checkpoint of that base.",
            code="AD-Q09",
        )


def _context_width(unet: UNetView) -> int | None:
    for site in unet.sites:
        for name, layer in site.layer.named_modules():
            if name.endswith("attn2.to_k"):
                return getattr(layer, "in_features", None)
    return None
