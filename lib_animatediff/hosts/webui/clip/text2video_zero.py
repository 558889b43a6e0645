"""Text2Video-Zero in the WebUI: a first pass denoises frame 0 in part, a second one all frames from its motion field.

Both passes are one run of the user's sampler: the sampler's function is called twice, the second time on the rest of
its schedule. So progress, prompt editing, previews and interrupts work as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lib_animatediff.engine.components.base import Component
from lib_animatediff.engine.components.cross_frame import CrossFrameAttention, first_frames
from lib_animatediff.engine.inject import Injection, inject
from lib_animatediff.engine.patching import patch_next_call
from lib_animatediff.hosts.webui.catalog.files import Caches
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.hosts.webui.compat.host_models import host_model
from lib_animatediff.request.methods import Text2VideoZeroMethod
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.sampling.text2video_zero import Text2VideoZero, levels_of, motion_field
from motion_module import ClipError

from .loras import ClipLoras
from .methods import UNetCalls, clip_method, make_room
from .sampler_schedule import NoiseLevel, SamplerSchedule, sampler_schedule

_ROUNDING = 1e-4  # relative, of a noise level that a sampler computes with another formula

_HYPERTILE = "__webui_hypertile_params"  # attribute of modules that the WebUI's extension Hypertile has wrapped


class Text2VideoZeroClip:
    """Text2Video-Zero for one request.

    Args:
        loras: motion LoRAs of the prompts, which are refused since there is no motion module.
    """

    def __init__(self, method: Text2VideoZero, plan: ClipPlan, loras: ClipLoras) -> None:
        self._method = method
        self._plan = plan
        self._loras = loras
        self._attention: CrossFrameAttention | None = None
        self._pass = ExitStack()

    @property
    def shows_one_image(self) -> bool:
        """Whether the sampler currently computes frame 0 only."""
        return self._attention is not None and self._attention.is_first_frame_only

    def load(self) -> None:
        """Refuse motion LoRAs of the prompts.

        Raises:
            ClipError: the prompts name motion LoRAs or domain adapters.
        """
        if named := self._loras.names:
            raise ClipError(
                f"{self._method.name} uses no motion module, so {', '.join(named)} cannot be applied. Remove the tag "
                "from the prompt, or choose a motion module.",
                code="AD-W15",
            )

    def enter(
        self,
        span: ExitStack,
        p: Processing,
        calls: UNetCalls,
        guides: Sequence[Component] = (),  # noqa: ARG002 - a plan without a motion module has none
        *,
        is_second_pass: bool,  # noqa: ARG002 - both passes are the same
    ) -> Injection | None:
        """Add cross-frame attention for one pass; a single frame is a plain image."""
        if not self._plan.makes_clip:
            return None
        span.callback(setattr, self, "_attention", None)
        self._attention = self._method.component()
        injection = span.enter_context(inject(host_model(p.sd_model).unet, self._attention, **calls))
        self._pass = span.enter_context(ExitStack())
        return injection

    def before_sampling(self, p: Processing, noise: Tensor) -> None:
        """Make the sampler begin all frames at their motion field."""
        if self._attention is not None:
            make_room(p, self._plan, len(noise))
            self._pass.enter_context(untiled(host_model(p.sd_model).unet))
            with_motion_field(p, noise, self._method, self._plan.frames, self._attention)


@clip_method.register
def _(given: Text2VideoZeroMethod, plan: ClipPlan, _caches: Caches, loras: ClipLoras) -> Text2VideoZeroClip:
    return Text2VideoZeroClip(given.text2video_zero, plan, loras)


def with_motion_field(
    p: Any, noise: Tensor, method: Text2VideoZero, frames: int, attention: CrossFrameAttention
) -> None:
    """Make the sampler's next run render a clip by Text2Video-Zero. Called in the hook before every sampling.

    img2img and the second pass of hires fix begin with images and do not change: they use cross-frame attention only.

    Args:
        noise: initial unit noise of the rows ``(b f) c h w``.
        frames: frames of a clip.
        attention: the component in the UNet during the run.
    """
    if p.is_hr_pass or getattr(p, "init_latent", None) is not None or frames == 1:
        return
    rng = p.rng = _RepeatingRng(p.rng)
    field = _MotionField(method, frames, noise.clone(), host_model(p.sd_model).alphas_cumprod, attention, rng)
    patch_next_call(p.sampler, "func", field)


@contextmanager
def untiled(unet: Any) -> Iterator[None]:
    """Disable Hypertile, which splits the queries of a self-attention into tiles, but not the keys of frame 0."""
    found = [tiles for module in unet.modules() if (tiles := vars(module).get(_HYPERTILE)) and tiles.enabled]
    for tiles in found:
        tiles.enabled = False
    try:
        yield
    finally:
        for tiles in found:
            tiles.enabled = True


class _EnoughError(BaseException):
    """Ends the sampler's function when frame 0 is finished; code that catches exceptions does not catch it."""


@dataclass(frozen=True)
class _FirstFrameState:
    """Frame 0 of each clip at a level of the sampler's schedule."""

    level: NoiseLevel
    frame_0: Tensor  # b c h w, image plus sigma times unit noise
    calls: int  # of the denoiser before this level


class _MotionField:
    """Replaces a sampler's function for one run."""

    def __init__(
        self,
        method: Text2VideoZero,
        frames: int,
        noise: Tensor,
        alphas_cumprod: Tensor,
        attention: CrossFrameAttention,
        rng: _RepeatingRng,
    ) -> None:
        self._method = method
        self._frames = frames
        self._noise = noise
        self._alphas_cumprod = alphas_cumprod
        self._attention = attention
        self._rng = rng

    def __call__(self, function: Callable[..., Tensor], denoiser: Any, x: Tensor, **named: Any) -> Tensor:
        """The result of ``function`` for these arguments, for a clip.

        Raises:
            ClipError: the sampler cannot begin in the middle of its schedule.
        """
        schedule = sampler_schedule(function, named, self._alphas_cumprod)
        calls = denoiser.step
        found = self._frame_0(function, denoiser, x, named, schedule)
        self._rng.repeat()
        if len(found) < 2:  # too few steps: none begins at a sufficiently low level
            denoiser.step = calls
            return function(denoiser, x, **named)
        own, first = found
        denoiser.step = own.calls
        noise = self._noise.reshape(-1, self._frames, *self._noise.shape[1:])
        field = motion_field(first.frame_0, own.frame_0, noise, first.level.sigma, own.level.sigma, self._method)
        callback = named["callback"]

        def with_step_offset(report: dict[str, Any]) -> None:
            callback({**report, "i": report["i"] + own.level.done})

        with schedule.resume_kwargs(own.level) as resumed:
            return function(
                denoiser, (field * own.level.scale).to(x), **{**named, "callback": with_step_offset, **resumed}
            )

    def _frame_0(
        self,
        function: Callable[..., Tensor],
        denoiser: Any,
        x: Tensor,
        named: dict[str, Any],
        schedule: SamplerSchedule,
    ) -> list[_FirstFrameState]:
        """Frame 0 at the level from which all frames are denoised, and at the level of the shift."""
        begin, renoised = levels_of(self._alphas_cumprod, self._method)
        found: list[_FirstFrameState] = []

        def is_finished(level: NoiseLevel, latents: Tensor) -> bool:
            for sigma in (renoised, begin)[len(found) :]:
                if level.sigma > sigma * (1 + _ROUNDING):
                    return False
                if not found:
                    self._rng.keep()
                found.append(
                    _FirstFrameState(level, latents[:: self._frames] / level.scale, denoiser.step - level.calls)
                )
            return True

        def callback(report: dict[str, Any]) -> None:
            level = schedule.level(report)
            ends = is_finished(level, report["x"])
            if not found or report["i"] < found[0].level.done:  # later steps are reported when all frames run them
                named["callback"](report)
            if ends:
                raise _EnoughError

        self._rng.keep()
        if is_finished(schedule.begins, x):
            return found
        watch = denoiser.register_forward_pre_hook(lambda _, given: schedule.note(given[1]))
        try:
            with self._attention.first_frame_only():
                function(denoiser, first_frames(x, self._frames), **{**named, "callback": callback})
        except _EnoughError:
            pass
        finally:
            watch.remove()
        return found


class _RepeatingRng:
    """The WebUI's generator of a batch's noise, which repeats for all frames the noise that frame 0 has used before."""

    def __init__(self, rng: Any) -> None:
        self._rng = rng
        self._kept: list[Tensor] | None = None
        self._ahead: list[Tensor] = []

    def keep(self) -> None:
        """Record noise from here on, for `repeat`."""
        self._kept = []

    def repeat(self) -> None:
        """Return the recorded noise once more before new noise."""
        self._ahead, self._kept = self._kept or [], None

    def next(self) -> Tensor:
        """The next noise of all rows."""
        if self._ahead:
            return self._ahead.pop(0)
        drawn: Tensor = self._rng.next()
        if self._kept is not None:
            self._kept.append(drawn)
        return drawn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rng, name)
