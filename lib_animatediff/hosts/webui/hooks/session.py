"""One request being animated, from the WebUI's `before_process` to its `postprocess`.

Rows are laid out early, since the WebUI fixes prompts and seeds right afterwards. All that needs the model waits for
`p.sample`: the right checkpoint is loaded then, and an exception there reaches the user, which those in script hooks
do not. So everything that goes wrong is kept until then and raised there.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from modules import sd_models, sd_samplers_common, shared
from torch import Tensor

from lib_animatediff.engine.components.cross_frame import CrossFrameAttention
from lib_animatediff.engine.inject import Injection, inject
from lib_animatediff.engine.motion_scale import MotionScale
from lib_animatediff.engine.patching import restore
from lib_animatediff.hosts.webui.catalog.loras import LoraCache
from lib_animatediff.hosts.webui.catalog.models import MotionModuleCache, find_model, means_zero
from lib_animatediff.hosts.webui.clip.loras import ClipLoras, with_adapters
from lib_animatediff.hosts.webui.clip.noise import arrange_seeds, share_noise, with_freeinit
from lib_animatediff.hosts.webui.clip.prompt_travel import check_prompts, styled
from lib_animatediff.hosts.webui.clip.prompts import ClipPrompts
from lib_animatediff.hosts.webui.clip.text2video_zero import text2video_zero_of, untiled, with_motion_field
from lib_animatediff.hosts.webui.ui.options import for_one_run
from lib_animatediff.hosts.webui.ui.plan_view import preflight_line
from lib_animatediff.request.settings import ClipSettings, clip_frames, context_windows, frame_seeds, motion_scale
from lib_animatediff.sampling.schedule import use_schedule
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from motion_module import MotionModule

from .batching import match_token_lengths, parts_of, row_order, splits_clips
from .errors import as_http_422, explain_out_of_memory, refuse_model, refuse_request

_log = logging.getLogger(__name__)

BATCHING_FIELD = "AnimateDiff batching"


class Session:
    """Serves one processing object ``p``, and only it: runs nested inside pass through untouched."""

    def __init__(self, p: Any, settings: ClipSettings | Exception, cache: MotionModuleCache, loras: LoraCache) -> None:
        self._p = weakref.ref(p)
        self._request = shared.state.time_start
        self._cache = cache
        self._former: dict[str, Any] = {}
        self._failure: Exception | None = None
        self._refusal: Exception | None = settings if isinstance(settings, Exception) else None
        self.settings = ClipSettings() if isinstance(settings, Exception) else settings
        self.frames = 1 if self.settings.poster else clip_frames(self.settings)
        self.is_open = True
        self.lora_reports: list[str] = []
        self._in_one_call = False
        self._loras = ClipLoras(self.settings.motion_loras, loras)
        self._prompts = ClipPrompts(self.settings, self.frames)
        self._injection: Injection | None = None
        self._zero: Text2VideoZero | None = None
        self._attention: CrossFrameAttention | None = None
        self._pass = ExitStack()
        self._last_alpha_cumprod = 0.0
        self._preflight = ""

    def serves(self, p: Any) -> bool:
        """Whether ``p`` is the one that this session animates."""
        return self.is_open and self._p() is p

    def encloses(self, p: Any) -> bool:
        """Whether another ``p`` runs inside the request that this session serves."""
        served = self._p()
        return self.is_open and served is not None and served is not p and self._request == shared.state.time_start

    def lay_out_rows(self) -> None:
        """Make each picture of the batch a clip: frame i of clip j takes seed s + j * frames + i."""
        p = self._p()
        if p is None or self._refusal is not None:
            return
        with self._refusing_later():
            self._lay_out(p)

    def _lay_out(self, p: Any) -> None:
        check_prompts(p, clip_frames(self.settings))
        for name, value in styled(p).items():
            self._set(name, value)
        for name in ("hr_prompt", "hr_negative_prompt"):  # the WebUI fills in empty ones
            if hasattr(p, name) and name not in self._former:
                self._set(name, getattr(p, name))
        self._set("batch_size", p.batch_size * self.frames)
        for name in ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt", "subseed"):
            if isinstance(value := getattr(p, name, None), list):
                self._set(name, self._repeated(value))
        if len(pictures := getattr(p, "init_images", None) or []) > 1:  # a single one the WebUI repeats by itself
            self._set("init_images", self._repeated(pictures))
        if isinstance(p.seed, list):
            self._set("seed", [seed + frame for seed in p.seed for frame in range(self.frames)])
        if not self.settings.poster:
            self._set("do_not_save_samples", True)  # frames are saved as clips
            self._set("do_not_save_grid", True)

    def arrange_seeds(self) -> None:
        """Give each row its noise, when the WebUI has laid out all seeds."""
        p: Any = self._p()
        if self._refusal is not None:
            return
        with self._refusing_later():
            self._arrange(p)

    def _arrange(self, p: Any) -> None:
        if not self.settings.poster:
            arrange_seeds(p, self.settings, self.frames)
            return
        whole, given = clip_frames(self.settings), frame_seeds(self.settings)
        if given or (not isinstance(p.seed, list) and p.subseed_strength == 0):
            first = given[0] if given else p.all_seeds[0]
            p.all_seeds = [first + clip * whole for clip in range(len(p.all_seeds))]
        elif not isinstance(p.subseed, list):  # a variation has one seed, and a subseed for each frame
            p.all_subseeds = [p.all_subseeds[0] + clip * whole for clip in range(len(p.all_subseeds))]

    def share_first_prompts(self) -> None:
        """Another extension may have given each row a prompt of its own; a clip has one, that of its first frame."""
        p: Any = self._p()
        for name in ("prompts", "negative_prompts", "hr_prompts", "hr_negative_prompts"):
            rows = getattr(p, name, None)
            if rows and len(rows) % self.frames == 0:
                rows[:] = self._repeated(rows[:: self.frames])

    def take_lora_tags(self) -> None:
        """Our tags go out of the prompts, before the WebUI looks for networks in them."""
        with self._refusing_later():
            self._loras.take_tags(self._p())

    def give_frames_their_prompts(self) -> None:
        """Let each row have its own frame's prompt, after extra networks were taken out and before conditions."""
        with self._refusing_later():
            self._loras.put_back(self._p())
            self._prompts.give_frames_their_own(self._p())

    @contextmanager
    def _refusing_later(self) -> Iterator[None]:
        """What a hook finds wrong is told when sampling begins."""
        try:
            yield
        except Exception as error:  # whatever it is, the WebUI would swallow it and paint something else
            self._refusal = self._refusal or error

    def before_second_pass(self) -> None:
        """The second pass of hires fix has its conditions, and is about to begin."""
        p: Any = self._p()
        with self._failing_later():
            p.hr_c = self._prompts.pad_conditionings(p.hr_c, "cond", is_second_pass=True)
            p.hr_uc = self._prompts.pad_conditionings(p.hr_uc, "uncond", is_second_pass=True)

    def before_sampling(self, noise: Tensor) -> None:
        """A sampler is about to begin, from this noise."""
        p: Any = self._p()
        with self._failing_later():
            share_noise(p, noise, self.settings, self.frames)
            if self._zero is not None and self._attention is not None:
                self._pass.enter_context(untiled(p.sd_model.model.diffusion_model))
                with_motion_field(p, noise, self._zero, self.frames, self._attention)
            elif not self.settings.poster:
                with_freeinit(p, self.settings, self.frames, self._last_alpha_cumprod)

    def before_denoising(self, params: Any) -> None:
        """The denoiser is about to call the UNet."""
        p: Any = self._p()
        with self._failing_later():
            if self._injection is not None:
                self._injection.progress = params.denoiser.step / max(params.denoiser.total_steps or 0, 1)
            self._show_next_frame()
            self._prompts.blend(params, is_second_pass=getattr(p, "is_hr_pass", False))
            if self._in_one_call:
                match_token_lengths(params)

    @contextmanager
    def _failing_later(self) -> Iterator[None]:
        """The WebUI swallows what its hooks raise and paints on: end the sampling, and raise it where that is over."""
        try:
            yield
        except Exception as error:
            self._failure = error
            shared.state.interrupted = True

    def _show_next_frame(self) -> None:
        """The live preview shows the first row. Let it walk through the frames, one with each step."""
        latent = shared.state.current_latent
        is_one_picture = self._attention is not None and self._attention.is_first_frame_only
        if latent is not None and not is_one_picture:
            shared.state.current_latent = latent.roll(-(shared.state.sampling_step % self.frames), 0)

    def _repeated(self, rows: list[Any]) -> list[Any]:
        return [row for row in rows for _ in range(self.frames)]

    def close(self) -> None:
        """Give ``p`` its own values back; nothing is animated from here on."""
        self.is_open = False
        self._failure = self._refusal = None  # their tracebacks would keep p alive
        p = self._p()
        while p is not None and self._former:
            name, value = self._former.popitem()
            setattr(p, name, value)

    def _set(self, name: str, value: Any) -> None:
        p: Any = self._p()
        self._former.setdefault(name, getattr(p, name))
        setattr(p, name, value)

    def wrap_sampling(self) -> None:
        """Have the next call of ``p.sample`` run on clips. The wrapper comes off by itself when that call ends."""
        p: Any = self._p()
        original = p.sample
        spent = False

        def sample(*args: Any, **kwargs: Any) -> Any:
            nonlocal spent
            if spent or not self.is_open:  # left over, on p or inside another extension's wrapper
                restore(p, "sample", sample, original)
                return original(*args, **kwargs)
            spent = True
            try:
                with self._animated(p):
                    for name, stream in (("conditioning", "cond"), ("unconditional_conditioning", "uncond")):
                        if name in kwargs:
                            kwargs[name] = self._prompts.pad_conditionings(kwargs[name], stream, is_second_pass=False)
                    sampled = original(*args, **kwargs)
                    failure, self._failure = self._failure, None  # kept, its traceback would keep p alive
                    if failure is not None:
                        raise failure
                    return sampled
            except BaseException:
                self.close()
                raise
            finally:
                restore(p, "sample", sample, original)

        p.sample = sample

    @contextmanager
    def _animated(self, p: Any) -> Iterator[None]:
        with as_http_422(), explain_out_of_memory(lambda: self._preflight), ExitStack() as span:
            motion = self._prepare(p)
            span.enter_context(self._span(p, motion, p.prompts))
            original = getattr(p, "sample_hr_pass", None)
            if original is None:  # img2img has one pass
                yield
                return

            def sample_hr_pass(*args: Any, **kwargs: Any) -> Any:
                # The second pass may run on another checkpoint, which was loaded since the span began.
                span.pop_all().close()
                refuse_model(p.sd_model, any_base=self._zero is not None)
                span.enter_context(self._span(p, motion, p.hr_prompts, second=True))
                return original(*args, **kwargs)

            span.callback(restore, p, "sample_hr_pass", sample_hr_pass, original)
            p.sample_hr_pass = sample_hr_pass
            yield

    def _prepare(self, p: Any) -> MotionModule | Text2VideoZero:
        refusal, self._refusal = self._refusal, None  # kept, its traceback would keep p alive
        if refusal is not None:
            raise refusal
        refuse_request(p)
        is_zero = means_zero(self.settings.model)
        refuse_model(p.sd_model, any_base=is_zero)
        if is_zero:
            self._loras.refuse_all()
            self._zero = text2video_zero_of(self.settings)
            return self._zero
        return self._cache.load(find_model(self.settings.model))

    @contextmanager
    def _span(
        self, p: Any, motion: MotionModule | Text2VideoZero, prompts: list[str], *, second: bool = False
    ) -> Iterator[None]:
        parts = parts_of(prompts)
        self._in_one_call = splits_clips(parts)
        with ExitStack() as span:
            span.callback(setattr, shared.state, "textinfo", None)
            span.enter_context(_preview_of_one_frame())
            if self._in_one_call:
                span.enter_context(for_one_run(batch_cond_uncond=True))
                p.extra_generation_params[BATCHING_FIELD] = "all rows in one call"
            calls: dict[str, Any] = {
                "frames": self.frames,
                "windows": None if self.settings.poster else context_windows(self.settings),
                "one_clip_per_call": self._in_one_call,
                "row_order": row_order(parts, self.frames),
                "between_windows": _heed_interrupt,
            }
            span.callback(setattr, self, "_injection", None)
            if isinstance(motion, MotionModule):
                self._enter_with_module(span, p, motion, calls, second=second)
            elif not self.settings.poster:  # that is a plain picture
                span.callback(setattr, self, "_attention", None)
                self._attention = motion.component()
                self._injection = span.enter_context(inject(p.sd_model.model.diffusion_model, self._attention, **calls))
                self._pass = span.enter_context(ExitStack())
            self._tell_preflight(p, prompts, second=second)
            yield

    def _enter_with_module(
        self, span: ExitStack, p: Any, motion: MotionModule, calls: dict[str, Any], *, second: bool
    ) -> None:
        sd_model = p.sd_model
        unet = sd_model.model.diffusion_model
        loaded = self._loras.load(motion, is_second_pass=second)
        span.enter_context(with_adapters(p, unet, loaded, self.lora_reports))
        amount = MotionScale(effect=(0.0,)) if self.settings.poster else motion_scale(self.settings)
        self._injection = span.enter_context(inject(unet, loaded.motion, amount=amount, **calls))
        span.enter_context(use_schedule(sd_model, motion.schedule, adjust=_with_options))
        self._last_alpha_cumprod = float(sd_model.alphas_cumprod[-1])

    def _tell_preflight(self, p: Any, prompts: list[str], *, second: bool) -> None:
        try:
            size = (p.hr_upscale_to_x, p.hr_upscale_to_y) if second else None
            self._preflight = preflight_line(p, self.settings, self.frames, prompts, size)
        except Exception:  # an estimate is no reason to make no clip
            _log.warning("AnimateDiff could not estimate what this clip will take.", exc_info=True)
            return
        print(self._preflight)  # where the WebUI tells of its own work
        shared.state.textinfo = self._preflight


def _heed_interrupt(done: int, count: int) -> None:
    """The WebUI looks for an interrupt before each step; a step of a long clip has many windows."""
    shared.state.textinfo = f"AnimateDiff: part {done} of {count} of step {shared.state.sampling_step + 1}"
    if shared.state.interrupted or shared.state.skipped:
        raise sd_samplers_common.InterruptedException


@contextmanager
def _preview_of_one_frame() -> Iterator[None]:
    """A live preview decodes all rows for its grid, and goes on until the pictures are decoded themselves."""
    with for_one_run(show_progress_grid=False):
        try:
            yield
        finally:
            if shared.state.current_latent is not None:
                shared.state.current_latent = shared.state.current_latent[:1]


def _with_options(table: Tensor) -> Tensor:
    """The user's noise options on the motion module's table, as the WebUI applies them to the checkpoint's."""
    if shared.opts.use_downcasted_alpha_bar:
        table = table.half()
    if shared.opts.sd_noise_schedule == "Zero Terminal SNR":
        table = sd_models.rescale_zero_terminal_snr_abar(table)
    return table
