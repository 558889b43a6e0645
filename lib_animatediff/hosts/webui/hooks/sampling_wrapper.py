"""The wrapper around ``p.sample``: components are in the UNet while it samples, and only then.

By then the request's checkpoint is loaded, and exceptions reach the user, unlike those in a script hook.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.inject import Injection
from lib_animatediff.engine.patching import restore
from lib_animatediff.engine.reuse.schedule import FEWEST_STEPS
from lib_animatediff.hosts.webui.clip.batching import parts_of, row_order, splits_clips
from lib_animatediff.hosts.webui.clip.control.units import ControlOfClip
from lib_animatediff.hosts.webui.clip.guides.loaded import GuidedClip
from lib_animatediff.hosts.webui.clip.methods import ClipMethod, UNetCalls
from lib_animatediff.hosts.webui.clip.prompts import ClipPrompts
from lib_animatediff.hosts.webui.clip.start.pinned import PinnedImages
from lib_animatediff.hosts.webui.clip.start.ramp import InitRamp
from lib_animatediff.hosts.webui.clip.start.video import FirstFrames
from lib_animatediff.hosts.webui.clip.unfinished.request import UnfinishedClips
from lib_animatediff.hosts.webui.compat import a1111, controlnet
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.hosts.webui.compat.denoiser import can_leave_out_uncond, optional_uncond
from lib_animatediff.hosts.webui.compat.errors import as_http_422
from lib_animatediff.hosts.webui.compat.host_models import host_model
from lib_animatediff.hosts.webui.ui.plan_view import estimate_line
from lib_animatediff.request.effects import Note
from lib_animatediff.request.plan import ClipPlan

from .errors import explain_out_of_memory, refuse_model, refuse_request
from .problems import Problems
from .progress.request import RequestProgress
from .progress.tasks import runs_of

_log = logging.getLogger(__name__)

BATCHING_FIELD = "AnimateDiff batching"


class SamplingWrapper:
    """Samples the clips of one request.

    Attributes:
        injection: the injection of the pass under way; None between passes.
        notes: about extensions that do not act on the clip.
        leave_out_uncond: makes the denoiser's calls leave out uncond, or not; None: CFG acts at every step.
        needs_uncond: whether uncond changes the images of the pass at all.
        in_one_call: whether all rows of the denoiser are in one call, since its own batching would split clips.
    """

    def __init__(
        self,
        plan: ClipPlan,
        method: ClipMethod,
        prompts: ClipPrompts,
        problems: Problems,
        progress: RequestProgress,
        first_frames: FirstFrames,
        pinned: PinnedImages,
        control: ControlOfClip,
        guided: GuidedClip,
        unfinished: UnfinishedClips,
    ) -> None:
        self._unfinished = unfinished
        self.injection: Injection | None = None
        self.leave_out_uncond: Callable[[Any, bool], None] | None = None
        self.needs_uncond = True
        self.in_one_call = False
        self.notes: list[Note] = []
        self._plan = plan
        self._method = method
        self._prompts = prompts
        self._problems = problems
        self._progress = progress
        self._first_frames = first_frames
        self._pinned = pinned
        self._control = control
        self._guided = guided
        self._ramp = InitRamp(plan)
        self._estimate = ""

    def sample(self, p: Processing, original: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """The result of ``p.sample``, on clips.

        Raises:
            AnimateDiffError: the request is refused, or a hook failed during sampling.
        """
        with self._animated(p):
            for name, stream in (("conditioning", "cond"), ("unconditional_conditioning", "uncond")):
                if name in kwargs:
                    kwargs[name] = self._prompts.pad_conditionings(kwargs[name], stream, is_second_pass=False)
            self._unfinished.begin_batch(p)
            try:
                sampled = original(*args, **kwargs)
            finally:
                self._unfinished.end_batch()
            self._problems.raise_failure()
            return sampled

    @contextmanager
    def _animated(self, p: Processing) -> Iterator[None]:
        with as_http_422(), explain_out_of_memory(lambda: self._estimate), ExitStack() as span:
            self._problems.raise_refusal()
            refuse_request(p)
            self._control.refuse_failed(p)
            self.notes = []
            refuse_model(p.sd_model, self._plan.method)
            self._method.load()
            self._guided.load(p)
            self.notes += self._guided.notes
            self._first_frames.load(p)
            with controlnet.switched_off(p):  # images are inverted with the checkpoint alone
                self._pinned.load(p)
            span.enter_context(self._ramp.mixed(p))
            span.enter_context(self._pass(p, p.prompts))
            original = getattr(p, "sample_hr_pass", None)
            if original is None:  # img2img has one pass
                span.enter_context(a1111.renewed_sampler(p))
                yield
                return

            def sample_hr_pass(*args: Any, **kwargs: Any) -> Any:
                decoded = kwargs.get("decoded_samples", args[1] if len(args) > 1 else None)
                if (images := self._progress.leave_between_passes(decoded)) is not None:
                    return images
                # The second pass may use another checkpoint, which was loaded after the first pass began.
                span.pop_all().close()
                refuse_model(p.sd_model, self._plan.method)
                span.enter_context(self._pass(p, p.hr_prompts, is_second=True))
                try:
                    return original(*args, **kwargs)
                except a1111.InterruptedSampling:  # while the images of the first pass were encoded
                    p.is_hr_pass = False
                    return self._progress.leave_between_passes(decoded)

            span.callback(restore, p, "sample_hr_pass", sample_hr_pass, original)
            p.sample_hr_pass = sample_hr_pass  # type: ignore[attr-defined]
            yield

    @contextmanager
    def _pass(self, p: Processing, prompts: list[str], *, is_second: bool = False) -> Iterator[None]:
        parts, frames = parts_of(prompts), len(self._plan.rendered)
        model = host_model(p.sd_model)
        self.in_one_call = splits_clips(model, parts)
        with ExitStack() as span:
            span.enter_context(_preview_of_one_frame())
            if self.in_one_call:
                span.enter_context(a1111.options_for_one_run(batch_cond_uncond=True))
                p.extra_generation_params[BATCHING_FIELD] = "all rows in one call"
            calls: UNetCalls = {
                "frames": frames,
                "windows": self._plan.windows,
                "one_clip_per_call": self.in_one_call,
                "row_order": row_order(model, parts, frames),
                "between_windows": self._progress.after_window,
                "reuse": self._plan.reuse,
            }
            self.needs_uncond = _needs_uncond(p, parts)
            if not (self._plan.guidance.is_everywhere and self.needs_uncond):
                span.callback(setattr, self, "leave_out_uncond", None)
                self.leave_out_uncond = span.enter_context(optional_uncond(p))
            self.notes += _notes_of_reuse(p, self._plan, is_second=is_second)
            span.enter_context(self._pinned.held(p, calls["row_order"]))
            span.enter_context(self._control.in_calls(p, self._call_under_way))
            span.enter_context(model.numbering_rows())
            span.callback(setattr, self, "injection", None)
            guides = self._guided.components(p, is_second_pass=is_second)
            self.injection = self._method.enter(span, p, calls, guides, is_second_pass=is_second)
            self._print_estimate(p, prompts, is_second=is_second)
            self._progress.begin_pass(p, is_second=is_second)
            yield

    def _call_under_way(self) -> UNetCall | None:
        return None if self.injection is None else self.injection.call

    def _print_estimate(self, p: Processing, prompts: list[str], *, is_second: bool) -> None:
        try:
            size = (p.hr_upscale_to_x, p.hr_upscale_to_y) if is_second else None
            self._estimate = estimate_line(p, self._plan, prompts, size)
        except Exception:  # the clip does not depend on the estimate
            _log.warning("AnimateDiff could not estimate time and memory of this clip.", exc_info=True)
            return
        print(self._estimate)  # to the console, like the WebUI's own reports


def _needs_uncond(p: Processing, parts: Sequence[int]) -> bool:
    """Whether uncond changes the images: at CFG 1, u + 1 (c - u) is c, unless a prompt has parts with weights."""
    return p.cfg_scale != 1 or set(parts) != {1} or not can_leave_out_uncond()


def _notes_of_reuse(p: Processing, plan: ClipPlan, *, is_second: bool) -> list[Note]:
    """A note if a pass has too few steps, which img2img and the second pass decide."""
    steps = max(runs_of(p, plan, is_second=is_second))
    if plan.reuse is None or steps >= FEWEST_STEPS:
        return []
    which = "the hires pass" if is_second else "this clip"
    text = f"has no effect in {which}, since {steps} steps are too few to share features ({FEWEST_STEPS} are needed)."
    return [Note("reuse", text)]


@contextmanager
def _preview_of_one_frame() -> Iterator[None]:
    """Decode one row for the live preview, which continues until the images are decoded."""
    with a1111.options_for_one_run(show_progress_grid=False):
        try:
            yield
        finally:
            state = a1111.state()
            if state.current_latent is not None:
                state.current_latent = state.current_latent[:1]
