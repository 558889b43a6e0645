"""Put a motion module, or what Text2Video-Zero has in its place, into a UNet and take it out again.

Each transformer runs in a forward hook on the layer it follows, which gives the numbers of an inserted layer. Nothing
in the UNet moves: names, weights and indices stay what other code knows them by, and a hook comes off by its handle.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib_animatediff.engine.components.cross_frame import (
    CrossFrameAttentionHook,
    FirstFrameForward,
    context_keyword,
    self_attentions,
)
from lib_animatediff.engine.components.directing import TemporalRunner
from lib_animatediff.engine.components.norms import FoldFramesHook, UnfoldFramesHook, resnet_norms
from lib_animatediff.sampling.text2video_zero import NAME, Text2VideoZero
from motion_module import ClipError, IncompatibleModelError, MotionModule
from motion_module.temporal_transformer import TemporalTransformer

from .bases import require_unet, sites_for
from .call import Clip
from .context_windows import Chunks, ContextWindows
from .motion_scale import MotionScale
from .order import BatchPermutation, RowOrder
from .steps import Steps
from .windowed_forward import Run, WindowedForward, patch_forward

_log = logging.getLogger(__name__)

_OWNER = "_carries_motion_module"  # while injected, in the UNet's __dict__
_FEWEST_FRAMES = 8  # the official modules were trained on 16 frames, HotShot-XL on 8


class Injection:
    """What ``inject`` gives to its block."""

    def __init__(self, steps: Steps, first: FirstFrameForward | None) -> None:
        self._steps = steps
        self._first = first

    @property
    def step(self) -> int | None:
        """Sampling step, counted from 0, that the plan of context windows goes by; None: follow the timesteps."""
        return self._steps.current

    @step.setter
    def step(self, step: int | None) -> None:
        """Say which step the calls that follow belong to."""
        self._steps.current = step

    @property
    def progress(self) -> float | None:
        """How much of the sampling is done, 0 to 1, that the amount of motion goes by; None: follow the timesteps."""
        return self._steps.progress

    @progress.setter
    def progress(self, progress: float | None) -> None:
        """Say how much of the sampling is done, for the calls that follow."""
        self._steps.progress = progress

    @property
    def first_only(self) -> bool:
        """Of Text2Video-Zero: whether calls compute frame 0 of each clip and stream only; other rows get the same."""
        return self._first is not None and self._first.active

    @first_only.setter
    def first_only(self, first_only: bool) -> None:
        """Say so for the calls that follow.

        Raises:
            ClipError: there is a motion module, whose frames make each other.
        """
        if self._first is None:
            raise ClipError(f"A motion module makes no frame alone. Set first_only with {NAME} only.")
        self._first.active = first_only


@contextmanager
def inject(
    unet: nn.Module,
    motion: MotionModule | Text2VideoZero,
    *,
    frames: int,
    windows: ContextWindows | None = None,
    amount: MotionScale | None = None,
    one_clip_per_call: bool = False,
    row_order: RowOrder | None = None,
    between_windows: Callable[[int, int], None] | None = None,
) -> Iterator[Injection]:
    """Make every call of ``unet`` inside the block a call on clips; leave it bit for bit as it was.

    Rows of a call are ``(k b f) c h w``: streams (cond, uncond, ...; any number, together or in calls of their own)
    times clips times ``frames``, the frames of a clip side by side.

    The motion module follows the device and dtype of what flows through the UNet. Where its own differ, a copy is
    made for the time of the block, so that the caller's module keeps its precision. A module with trainable weights
    is never copied: gradients reach it. With gradient checkpointing, which computes parts of the UNet again on the way
    back, go backward inside the block; with context windows it is refused, since by then the windows are over.

    With Text2Video-Zero in the motion module's place, the self-attentions of each frame look at frame 0 of its clip and
    stream. Where the frames begin is for the host to see to: `text2video_zero.motion_field`, ``Injection.first_only``.

    Args:
        unet: the UNet of Stable Diffusion 1.5 or SDXL: LDM's or sgm's ``UNetModel``, or diffusers'
            ``UNet2DConditionModel``. For Text2Video-Zero any with self-attentions, such as Stable Diffusion 2's.
        motion: what ``load_motion_module`` gave, or a `Text2VideoZero`.
        frames: frames of a clip; without ``windows`` at most the module's trained length. Text2Video-Zero has no such.
        windows: for longer clips: one call becomes a call for each context window, on the window's rows of every
            tensor that leads with the rows, and the outputs are averaged. Or, as views, the windows are inside the
            motion module only. A clip that fits into one window is computed as without. With Text2Video-Zero their
            length alone counts: so many frames at a time, and the result is that of one call; as views, it is one.
        amount: how much motion; None is as trained, and all that Text2Video-Zero knows.
        one_clip_per_call: give each clip of each stream UNet calls of its own: slower, for less memory.
        row_order: for a host with another layout of rows: given the number of rows of a call, its rows in the order
            ``(k b f)``, or None if they lie so.
        between_windows: called after each UNet call of several, with how many are done and how many there are;
            whatever it raises ends the call. For progress, and to interrupt.

    Raises:
        IncompatibleModelError: the UNet is of another base, compiled, carries a motion module already, or does not
            let its forward be replaced.
        ClipError: ``frames`` is out of range, or an amount is given to Text2Video-Zero; or, inside, a call whose rows
            are not whole clips, or one in context windows with gradient checkpointing on.
    """
    require_unet(unet)
    check_frames(motion, frames, windows)
    _refuse_compiled(unet)
    long = windows if windows is not None and frames > windows.length else None
    steps = Steps()
    if isinstance(motion, Text2VideoZero):
        carried = _cross_frame_attention(unet, frames, long, amount)
    else:
        carried = _transformers(unet, motion, frames, long, steps, amount)
    run: Run | None = None
    if carried.windows or one_clip_per_call:
        run = WindowedForward(
            carried.clip,
            frames,
            carried.windows,
            steps=steps,
            one_clip_per_call=one_clip_per_call,
            between=between_windows,
            unet=unet,
        )
    first = FirstFrameForward(carried.clip, frames, run) if isinstance(motion, Text2VideoZero) else None
    order = None if row_order is None else BatchPermutation(row_order)
    with ExitStack() as undo:
        undo.enter_context(_owned(unet))
        carried.put_in(undo)
        for call in (first or run, order):
            if call is not None:
                undo.enter_context(patch_forward(unet, call))
        yield Injection(steps, first)


@dataclass(frozen=True)
class _Carried:
    """What a UNet carries for the time of an injection.

    Attributes:
        clip: what its hooks go by.
        windows: those that its calls are to be made in.
        put_in: puts the hooks in, and leaves word of how they come off.
    """

    clip: Clip
    windows: ContextWindows | Chunks | None
    put_in: Callable[[ExitStack], None]


def _transformers(
    unet: nn.Module,
    motion: MotionModule,
    frames: int,
    windows: ContextWindows | None,
    steps: Steps,
    amount: MotionScale | None,
) -> _Carried:
    """A motion module: a transformer at each site, and the kind's own norms."""
    sites = sites_for(motion, unet)
    views, windows = (windows, None) if windows is not None and windows.as_views else (None, windows)
    clip = Clip(None if windows or views else frames)
    director = TemporalRunner(clip, frames, [site.name for site in sites], steps, amount, views)

    def put_in(undo: ExitStack) -> None:
        if director.follows_steps:
            undo.enter_context(patch_forward(unet, director.at_timestep))
        if motion.shared_resnet_norms:
            for norm in resnet_norms(unet):
                undo.callback(norm.register_forward_pre_hook(FoldFramesHook(clip, director.has_motion)).remove)
                undo.callback(norm.register_forward_hook(UnfoldFramesHook(clip, director.has_motion)).remove)
        resident = _Resident(motion)
        for site in sites:
            undo.callback(site.layer.register_forward_hook(_SiteHook(resident, site.name, director)).remove)

    return _Carried(clip, windows, put_in)


def _cross_frame_attention(
    unet: nn.Module, frames: int, windows: ContextWindows | None, amount: MotionScale | None
) -> _Carried:
    """Text2Video-Zero: self-attentions that look at frame 0."""
    if amount is not None:
        raise ClipError(
            f"{NAME} has no motion module whose amount of motion could be set. Leave the amount out: how far the "
            "picture glides is in Text2VideoZero itself."
        )
    attentions = self_attentions(unet)
    chunks = None if windows is None or windows.as_views else Chunks(windows.length, windows.fuse_on_cpu)
    clip = Clip(None if chunks else frames)

    def put_in(undo: ExitStack) -> None:
        hook = CrossFrameAttentionHook(clip, context_keyword(unet))
        for attention in attentions:
            undo.callback(attention.register_forward_pre_hook(hook, with_kwargs=True).remove)

    return _Carried(clip, chunks, put_in)


def check_frames(motion: MotionModule | Text2VideoZero, frames: int, windows: ContextWindows | None = None) -> None:
    """Whether ``motion`` can make clips of so many frames; warns where it will not be at its best.

    Text2Video-Zero makes clips of any length at once.

    Raises:
        ClipError: no frame at all, or more at a time than it was trained on.
    """
    if frames < 1:
        raise ClipError(f"A clip needs at least one frame, not {frames}.")
    if isinstance(motion, Text2VideoZero):
        return
    windowed = windows is not None and frames > windows.length
    at_once = windows.length if windows is not None and windowed else frames
    if at_once > motion.trained_length and windowed:
        raise ClipError(
            f"{motion.name} was trained on clips of {motion.trained_length} frames; context windows of {at_once} are "
            f"too long. Lower the context length to {motion.trained_length} or less."
        )
    if at_once > motion.trained_length:
        raise ClipError(
            f"{motion.name} was trained on clips of {motion.trained_length} frames; {frames} are too many. "
            f"Lower the number of frames to {motion.trained_length} or less. Or use context windows."
        )
    if windowed and at_once < _FEWEST_FRAMES:
        _log.warning("Context windows of %d frames are short: expect little motion. Try 16.", at_once)
    if at_once > motion.best_length:
        _log.warning("%s is at its best with %d frames at a time, not %d.", motion.name, motion.best_length, at_once)


def _refuse_compiled(unet: nn.Module) -> None:
    # A compiled module ignores hooks added later, without a word (torch 2.13).
    if any(_is_compiled(module) for module in unet.modules()):
        raise IncompatibleModelError("This UNet is compiled and would ignore the motion module. Inject, then compile.")


def _is_compiled(module: nn.Module) -> bool:
    return (
        isinstance(module, torch.jit.ScriptModule)
        or type(module).__name__ == "OptimizedModule"
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.forward, "_torchdynamo_orig_callable")
    )


@contextmanager
def _owned(unet: nn.Module) -> Iterator[None]:
    """One injection at a time, also from several threads and from a second copy of this package."""
    ours = object()
    attributes = vars(unet)
    if attributes.setdefault(_OWNER, ours) is not ours:  # one operation, so that no other thread comes between
        raise IncompatibleModelError("This UNet carries a motion module already. Leave the other inject block first.")
    try:
        yield
    finally:
        del attributes[_OWNER]


class _Resident:
    """The transformers as the UNet needs them: on the device and in the dtype of what flows through each site.

    One site at a time, since activations may change their dtype from site to site under autocast. All of a
    transformer's weights count: files have matrices in half precision beside biases and norms in full.
    """

    def __init__(self, motion: MotionModule) -> None:
        self._originals = dict(motion.sites())
        self._in_training = any(weight.requires_grad for weight in motion.parameters())
        self._fitting: dict[tuple[str, torch.device, torch.dtype], TemporalTransformer] = {}

    def transformer(self, site: str, x: Tensor) -> TemporalTransformer:
        original = self._originals[site]
        if self._in_training:
            return original
        key = (site, x.device, x.dtype)
        if key not in self._fitting:
            fits = all((weight.device, weight.dtype) == key[1:] for weight in original.parameters())
            self._fitting[key] = original if fits else deepcopy(original).to(device=x.device, dtype=x.dtype)
        return self._fitting[key]


class _SiteHook:
    """Forward hook: passes a layer's output on through the transformer of its site."""

    def __init__(self, resident: _Resident, site: str, director: TemporalRunner) -> None:
        self._resident = resident
        self._site = site
        self._director = director

    def __call__(self, _layer: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> object:
        x = output[0] if isinstance(output, tuple) else output
        x = self._director.run(self._site, self._resident.transformer(self._site, x), x)
        return (x, *output[1:]) if isinstance(output, tuple) else x
