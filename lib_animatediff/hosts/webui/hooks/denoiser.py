"""The hooks around a sampler and before each of the denoiser's calls: noise, conditions, progress, live preview."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor

from lib_animatediff.engine.inject import Injection
from lib_animatediff.hosts.webui.clip.batching import match_token_lengths
from lib_animatediff.hosts.webui.clip.guides.loaded import GuidedClip
from lib_animatediff.hosts.webui.clip.methods import ClipMethod
from lib_animatediff.hosts.webui.clip.noise import share_noise
from lib_animatediff.hosts.webui.clip.prompts import ClipPrompts
from lib_animatediff.hosts.webui.clip.start.inverted import InvertedVideo
from lib_animatediff.hosts.webui.clip.start.pinned import PinnedImages
from lib_animatediff.hosts.webui.clip.start.video import FirstFrames
from lib_animatediff.hosts.webui.clip.unfinished.request import UnfinishedClips
from lib_animatediff.hosts.webui.compat import a1111, unet_calls
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.hosts.webui.compat.host_models import current_model
from lib_animatediff.request.plan import ClipPlan

from .progress.request import RequestProgress
from .sampling_wrapper import SamplingWrapper


class DenoiserHooks:
    """The hooks of one request's samplers."""

    def __init__(
        self,
        plan: ClipPlan,
        method: ClipMethod,
        prompts: ClipPrompts,
        wrapper: SamplingWrapper,
        progress: RequestProgress,
        first_frames: FirstFrames,
        pinned: PinnedImages,
        inverted: InvertedVideo,
        guided: GuidedClip,
        unfinished: UnfinishedClips,
    ) -> None:
        self._unfinished = unfinished
        self._plan = plan
        self._progress = progress
        self._method = method
        self._prompts = prompts
        self._wrapper = wrapper
        self._first_frames = first_frames
        self._pinned = pinned
        self._inverted = inverted
        self._guided = guided
        self._second_sampler: Callable[[], Any] = _nothing

    def before_sampling(self, p: Processing, noise: Tensor) -> None:
        """Prepare a sampler and its initial noise.

        Forge calls the hook twice before the second pass of hires fix. In between, it replaces the UNet's patcher, so
        the second call sets only what the patcher holds.
        """
        if self._was_prepared(p):
            self._method.before_sampling(p, noise)
            return
        share_noise(p, noise, self._plan)
        self._pinned.begin(p, noise)
        self._inverted.begin(p, self._wrapper.injection, self._progress.before_inversion)
        self._method.before_sampling(p, noise)
        self._first_frames.before_sampling(p)
        self._pinned.keep_images(p)
        self._progress.before_run(p)
        self._unfinished.begin_pass(p, lambda: self._wrapper.injection, self._before_repeating)

    def _was_prepared(self, p: Any) -> bool:
        """Whether the sampler of a second pass is the one of the call before; each second pass has a new sampler."""
        if not getattr(p, "is_hr_pass", False):
            return False
        former, self._second_sampler = self._second_sampler(), weakref.ref(p.sampler)
        return former is p.sampler

    def before_second_pass(self, p: Processing) -> None:
        """Pad the conditions of the second pass of hires fix."""
        p.hr_c = self._prompts.pad_conditionings(p.hr_c, "cond", is_second_pass=True)
        p.hr_uc = self._prompts.pad_conditionings(p.hr_uc, "uncond", is_second_pass=True)

    def before_denoising(self, p: Processing, params: Any) -> None:
        """Set progress and conditions of the denoiser's next call."""
        denoiser = params.denoiser
        share = denoiser.step / max(denoiser.total_steps or 0, 1)
        self._pinned.reach(share)
        if (injection := self._wrapper.injection) is not None:
            injection.share_timestep()
            injection.progress = share
            if self._guided.keeps_residuals:
                injection.timestep = unet_calls.timestep_of(params)
            _follow_run(injection, denoiser)
        self._progress.before_call(params.denoiser)
        self._show_next_frame()
        self._prompts.blend(params, is_second_pass=getattr(p, "is_hr_pass", False))
        if self._wrapper.in_one_call:
            match_token_lengths(params)
        if self._wrapper.leave_out_uncond is not None:
            self._guide(params, is_guided=self._wrapper.needs_uncond and self._plan.guidance.is_guided(share))

    def _before_repeating(self, denoiser: Any) -> None:
        """Follow a call of the denoiser that is repeated from a recording, without the UNet."""
        if self._wrapper.injection is not None:
            _follow_run(self._wrapper.injection, denoiser)
        self._progress.before_call(denoiser)

    def _guide(self, params: Any, *, is_guided: bool) -> None:
        """Make the denoiser's next call use CFG, or compute the rows of cond only."""
        assert self._wrapper.leave_out_uncond is not None
        self._wrapper.leave_out_uncond(params.denoiser, not is_guided)
        images = getattr(params, "image_cond", None)
        has_all_rows = not current_model().calls_whole_streams
        if not is_guided and images is not None and has_all_rows:  # uncond's are left out of everything but these
            params.image_cond = images[: len(images) - params.text_uncond.shape[0]]

    def _show_next_frame(self) -> None:
        """Rotate the rows, so that the live preview, which shows the first row, walks through the clip.

        It counts the previews that were shown, since the WebUI shows none for most steps.
        """
        state = a1111.state()
        if state.current_latent is not None and not self._method.shows_one_image:
            state.current_latent = state.current_latent.roll(-(state.id_live_preview % len(self._plan.rendered)), 0)


def _follow_run(injection: Injection, denoiser: Any) -> None:
    """Tell feature reuse where a run of the sampler begins, and where a prompt's schedule changes the conditions."""
    if denoiser.step == 0:
        steps = getattr(denoiser, "steps", None)
        # Samplers that call the denoiser twice in a step have another number of noise levels than of steps.
        injection.begin_run(steps if steps == denoiser.total_steps else None)
    elif denoiser.step - 1 in a1111.ends_of_prompts(denoiser):
        injection.drop_features()


def _nothing() -> None:
    """Stands for a weak reference whose object is gone."""
