"""Add components, such as motion modules, to a UNet and remove them again.

Inside the block every call of the UNet is a call on clips. Afterwards the UNet is bit for bit what it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol

from torch import nn

from motion_module import ClipError, IncompatibleModelError, MotionModule

from .batch import BatchPermutation, RowOrder
from .call import UNetCall
from .components.base import Component
from .components.motion import MotionComponent
from .context_windows import Chunks, ContextWindows
from .motion_scale import MotionScale
from .patching import patch_forward
from .reuse.forward import ReusingForward, attach_reuse
from .reuse.schedule import FeatureReuse
from .unet import UNetView, is_compiled, require_unet
from .windowed_forward import Evaluate, WindowedForward

_log = logging.getLogger(__name__)

_OWNER = "_carries_motion_module"  # while injected, in the UNet's __dict__
_FEWEST_FRAMES = 8  # the official modules were trained on 16 frames, HotShot-XL on 8


class Method(Protocol):
    """A description of a method, such as `Text2VideoZero`, that creates its component."""

    def component(self) -> Component:
        """A new component for one injection."""


Injected = MotionModule | Component | Method
"""Accepted by `inject` as a component. A motion module alone is one component."""


class Injection:
    """The object that ``inject`` yields to its block.

    Attributes:
        call: the UNet call under way: its frames, timesteps and progress.
    """

    def __init__(self, call: UNetCall, reusing: ReusingForward | None = None) -> None:
        self.call = call
        self._reusing = reusing
        self._step: int | None = None
        self._progress: float | None = None
        self._timestep: float | None = None

    @property
    def step(self) -> int | None:
        """The sampling step, from 0, by which context windows are planned; None: follow the timesteps."""
        return self._step

    @step.setter
    def step(self, step: int | None) -> None:
        """Set the step of the calls that follow."""
        self._step = step
        self._tell()

    @property
    def progress(self) -> float | None:
        """The completed share of the sampling, 0 to 1, that the motion scale follows; None: follow the timesteps."""
        return self._progress

    @progress.setter
    def progress(self, progress: float | None) -> None:
        """Set the completed share for the calls that follow."""
        self._progress = progress
        self._tell()

    @property
    def timestep(self) -> float | None:
        """The timestep of the calls that follow, if the host knows it without reading the device; None: read it."""
        return self._timestep

    @timestep.setter
    def timestep(self, timestep: float | None) -> None:
        """Set the timestep of the calls that follow. Step and progress are derived from it unless they are set."""
        self._timestep = timestep
        self._tell()

    @property
    def step_numbers(self) -> list[tuple[tuple[float, ...], int]]:
        """The timesteps met so far and their numbers, by which context windows are planned where no step is set."""
        return self.call.place.numbers

    @step_numbers.setter
    def step_numbers(self, numbers: Iterable[tuple[tuple[float, ...], int]]) -> None:
        """Set what another sampling has met, which goes on here."""
        self.call.place.numbers = list(numbers)

    def share_timestep(self) -> None:
        """Tell that all calls until this is called again have one timestep, which is then read once at most."""
        self.call.place.share_timestep()

    def _tell(self) -> None:
        self.call.place.set_host(self._step, self._progress, self._timestep)

    def begin_run(self, steps: int | None) -> None:
        """Tell the feature reuse that a run of the sampler begins.

        Args:
            steps: noise levels at which it calls the UNet, so that the last one is full; None: unknown.
        """
        if self._reusing is not None:
            self.call.place.begin_run()
            self._reusing.begin_run(steps)

    def drop_features(self) -> None:
        """Make the next calls compute everything, since the streams or conditions change."""
        if self._reusing is not None:
            self._reusing.drop()


@contextmanager
def inject(
    unet: nn.Module,
    *components: Injected,
    frames: int,
    windows: ContextWindows | Chunks | None = None,
    scale: MotionScale | None = None,
    one_clip_per_call: bool = False,
    row_order: RowOrder | None = None,
    between_windows: Callable[[int, int], None] | None = None,
    reuse: FeatureReuse | None = None,
    evaluate_windows: Evaluate | None = None,
    motion: Injected | None = None,
    amount: MotionScale | None = None,
) -> Iterator[Injection]:
    """Make every call of ``unet`` inside the block a call on clips, and leave the UNet bit for bit as it was.

    Rows of a call are ``(k b f) c h w``: streams (cond, uncond, ...; any number, in one call or in several) times
    clips times ``frames``. The frames of a clip are adjacent.

    A motion module follows the device and dtype of the activations. A module with trainable weights is never copied:
    gradients reach it. With gradient checkpointing, go backward inside the block; with context windows it is refused.

    Args:
        unet: the UNet of Stable Diffusion 1.5 or SDXL: LDM's or sgm's ``UNetModel``, or diffusers'
            ``UNet2DConditionModel``. Text2Video-Zero works on any UNet with self-attentions.
        components: in the order in which they act on the output of a layer: motion modules (as `load_motion_module`
            returns them, or as `MotionComponent` with their own scale), `Text2VideoZero`, `DomainAdapterComponent`,
            `ControlComponent` after the motion modules, or any other `Component`.
        frames: frames of a clip; without ``windows`` at most a motion module's trained length.
        windows: context windows for longer clips. One call becomes a call for each window, on the window's rows of
            every tensor whose first dimension is the rows, and the outputs are averaged. As views, the windows apply
            inside the temporal attention only. A clip that fits into one window is computed as without, except that
            a closed loop rolls the positions of its frames at each step.
        scale: scale and effect of the motion modules that are given without a component; None: as trained.
        one_clip_per_call: compute each clip of each stream in separate UNet calls. Slower; needs less memory.
        row_order: for a host with another layout of rows, see `RowOrder`.
        between_windows: called after each of several UNet calls with the number of finished calls and the total, for
            progress and to interrupt. An exception from it ends the call.
        reuse: compute the deep layers at some of the steps only, and reuse their features at the others. Context
            windows stay in place between full steps. Call `Injection.begin_run` before each run of a sampler, and
            `Injection.drop_features` where the streams of a call or the prompts change. None: compute everything.
        evaluate_windows: computes the context windows of a call elsewhere, where the same UNet has the same components:
            see `WindowCall.run`. No gradients go through it. None: here, one after the other.
        motion: an earlier name for the first component.
        amount: an earlier name for ``scale``.

    Raises:
        IncompatibleModelError: a component does not fit the UNet; the UNet is compiled, already has components, or its
            forward cannot be replaced.
        ClipError: ``frames`` is out of range, ``scale`` is given without a motion module, or features would have to be
            reused where windows are computed elsewhere; inside the block, a call whose rows are not whole clips, or one
            in context windows with gradient checkpointing.
    """
    require_unet(unet)
    given = components if motion is None else (motion, *components)
    attached = _as_components(given, scale if amount is None else amount)
    for component in attached:
        _check_component(component, frames, windows)
    if evaluate_windows is not None and reuse is not None:
        raise ClipError(
            "Features are kept where they were computed, so that context windows elsewhere cannot reuse them. Set "
            "reuse to 1, or compute the windows here.",
            code="AD-G45",
        )
    if is_compiled(unet):
        raise IncompatibleModelError(
            "This UNet is compiled and would ignore the motion module. Inject first, then compile.", code="AD-G23"
        )
    applied = windows if windows is not None and windows.apply_to(frames) else None
    is_whole = applied is not None and (applied.as_views or frames <= applied.length)
    views = applied if is_whole and isinstance(applied, ContextWindows) else None
    cut = None if views else _cut(applied, attached)
    call = UNetCall(frames, windowed=cut is not None, views=views)
    with ExitStack() as undo:
        undo.enter_context(_owned(unet))
        for component in attached:  # first, so that windows and reuse are outside
            if around := getattr(component, "around_call", None):
                undo.enter_context(patch_forward(unet, partial(around, call)))
        reusing = None if reuse is None else attach_reuse(unet, call, reuse, undo)
        if reusing is not None and between_windows is not None:
            between_windows = reusing.dropping_on_error(between_windows)
        is_parted = cut is not None or one_clip_per_call
        if is_parted:
            parted = WindowedForward(
                call,
                cut,
                one_clip_per_call=one_clip_per_call,
                between=between_windows,
                unet=unet,
                evaluate=evaluate_windows,
            )
            undo.enter_context(patch_forward(unet, parted))
        view = UNetView(unet)
        for component in attached:
            component.attach(view, call, undo)
        if row_order is not None:
            undo.enter_context(patch_forward(unet, BatchPermutation(row_order, None if is_parted else call)))
        elif not is_parted:
            if views is None:
                undo.callback(unet.register_forward_pre_hook(_BeginCallHook(call), with_kwargs=True).remove)
            else:  # a call that bypasses the views must be detected, as with windows around the UNet
                undo.enter_context(patch_forward(unet, _RecordedForward(call)))
        yield Injection(call, reusing)


class _BeginCallHook:
    """Forward pre-hook of the UNet: records the arguments of the call."""

    def __init__(self, call: UNetCall) -> None:
        self._call = call

    def __call__(self, _unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._call.begin(args, kwargs)


class _RecordedForward:
    """Records the arguments of a call while it runs."""

    def __init__(self, call: UNetCall) -> None:
        self._call = call

    def __call__(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._call.begin(args, kwargs)
        try:
            return forward(*args, **kwargs)
        finally:
            self._call.end()


def _as_components(given: Sequence[Injected], scale: MotionScale | None) -> list[Component]:
    if not given:
        raise ClipError(
            "There is nothing to inject. Pass a motion module, as load_motion_module returns it.", code="AD-G17"
        )
    if scale is not None and not any(isinstance(one, MotionModule) for one in given):
        raise ClipError("A motion scale needs a motion module. Leave it out, or pass a motion module.", code="AD-G18")
    return [as_component(one, scale) for one in given]


def as_component(given: Injected, scale: MotionScale | None = None) -> Component:
    """The component for a motion module, a method such as `Text2VideoZero`, or a component itself.

    Args:
        scale: of a motion module.

    Raises:
        IncompatibleModelError: it is none of these.
    """
    if isinstance(given, MotionModule):
        return MotionComponent(given, scale)
    if hasattr(given, "component"):
        return given.component()
    if hasattr(given, "attach"):
        return given
    raise IncompatibleModelError(
        f"{type(given).__name__} is not a motion module. Pass the result of load_motion_module, or a component.",
        code="AD-G19",
    )


def check_frames(motion: Injected, frames: int, windows: ContextWindows | Chunks | None = None) -> None:
    """Check that ``motion`` supports clips of this many frames; log a warning for lengths with poor results.

    Raises:
        ClipError: there is no frame, or more at once than the motion module was trained on.
    """
    _check_component(as_component(motion), frames, windows)


def _check_component(component: Component, frames: int, windows: ContextWindows | Chunks | None) -> None:
    if frames < 1:
        raise ClipError(f"A clip needs at least one frame, not {frames}.", code="AD-G20")
    limit = component.frames_at_once
    if limit is None:
        return
    windowed = windows is not None and frames > windows.length
    at_once = windows.length if windows is not None and windowed else frames
    if at_once > limit and windowed:
        raise ClipError(
            f"{component.name} was trained on clips of {limit} frames; context windows of {at_once} are "
            f"too long. Lower the context length to {limit} or less.",
            code="AD-G21",
        )
    if at_once > limit:
        raise ClipError(
            f"{component.name} was trained on clips of {limit} frames; {frames} are too many. "
            f"Lower the number of frames to {limit} or less. Alternatively, use context windows.",
            code="AD-G22",
        )
    if windowed and at_once < _FEWEST_FRAMES:
        _log.warning("Context windows of %d frames are short: expect little motion. Try 16.", at_once)
    best = getattr(component, "best_frames", None)
    if best is not None and at_once > best:
        _log.warning("%s is at its best with %d frames at a time, not %d.", component.name, best, at_once)


def _cut(windows: ContextWindows | Chunks | None, components: Sequence[Component]) -> ContextWindows | Chunks | None:
    """How calls are split: into context windows, or into chunks if a component needs frame 0 in each call."""
    if windows is not None and any(getattr(component, "needs_first_frame", False) for component in components):
        return Chunks(windows.length, windows.fuse_on_cpu)
    return windows


@contextmanager
def _owned(unet: nn.Module) -> Iterator[None]:
    """One injection at a time, also from several threads and from a second copy of this package."""
    ours = object()
    attributes = vars(unet)
    if attributes.setdefault(_OWNER, ours) is not ours:  # one operation, so that no other thread can interleave
        raise IncompatibleModelError(
            "This UNet already has a motion module. Leave the other inject block first.", code="AD-G24"
        )
    try:
        yield
    finally:
        del attributes[_OWNER]
