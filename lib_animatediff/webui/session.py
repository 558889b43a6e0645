"""One request being animated, from the WebUI's `before_process` to its `postprocess`.

Rows are laid out early, since the WebUI fixes prompts and seeds right afterwards. All that needs the model waits for
`p.sample`: the right checkpoint is loaded then, and an exception there reaches the user, which those in script hooks
do not. So everything that goes wrong is kept until then and raised there.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from modules import sd_models, sd_samplers_common, sd_unet, shared
from torch import Tensor

from lib_animatediff.injection import inject
from lib_animatediff.schedule import use_schedule
from lib_animatediff.settings import ClipSettings, clip_frames, context_windows
from motion_module import AnimateDiffError, ClipError, IncompatibleModelError, MotionModule

from .batching import parts_of, row_order, splits_clips
from .models import MotionModuleCache, find_model
from .options import for_one_run
from .refusal import told_to_clients

BATCHING_FIELD = "AnimateDiff batching"


class Session:
    """Serves one processing object ``p``, and only it: runs nested inside pass through untouched."""

    def __init__(self, p: Any, settings: ClipSettings | AnimateDiffError, cache: MotionModuleCache) -> None:
        self._p = weakref.ref(p)
        self._request = shared.state.time_start
        self._cache = cache
        self._former: dict[str, Any] = {}
        self._refusal = settings if isinstance(settings, AnimateDiffError) else None
        self.settings = ClipSettings() if isinstance(settings, AnimateDiffError) else settings
        self.frames = clip_frames(self.settings)
        self.is_open = True
        self.in_one_call = False

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
        self._set("batch_size", p.batch_size * self.frames)
        for name in ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt", "subseed"):
            if isinstance(value := getattr(p, name, None), list):
                self._set(name, self._repeated(value))
        if len(pictures := getattr(p, "init_images", None) or []) > 1:  # a single one the WebUI repeats by itself
            self._set("init_images", self._repeated(pictures))
        if isinstance(p.seed, list):
            self._set("seed", [seed + frame for seed in p.seed for frame in range(self.frames)])
        self._set("do_not_save_samples", True)  # frames are saved as clips
        self._set("do_not_save_grid", True)

    def share_first_prompts(self) -> None:
        """Another extension may have given each row a prompt of its own; a clip has one, that of its first frame."""
        p: Any = self._p()
        for name in ("prompts", "negative_prompts", "hr_prompts", "hr_negative_prompts"):
            rows = getattr(p, name, None)
            if rows and len(rows) % self.frames == 0:
                rows[:] = self._repeated(rows[:: self.frames])

    def show_next_frame(self) -> None:
        """The live preview shows the first row. Let it walk through the frames, one with each step."""
        latent = shared.state.current_latent
        if latent is not None:
            shared.state.current_latent = latent.roll(-(shared.state.sampling_step % self.frames), 0)

    def _repeated(self, rows: list[Any]) -> list[Any]:
        return [row for row in rows for _ in range(self.frames)]

    def close(self) -> None:
        """Give ``p`` its own values back; nothing is animated from here on."""
        self.is_open = False
        p = self._p()
        while p is not None and self._former:
            name, value = self._former.popitem()
            setattr(p, name, value)

    def _set(self, name: str, value: Any) -> None:
        p: Any = self._p()
        self._former[name] = getattr(p, name)
        setattr(p, name, value)

    def wrap_sampling(self) -> None:
        """Have the next call of ``p.sample`` run on clips. The wrapper comes off by itself when that call ends."""
        p: Any = self._p()
        original = p.sample
        spent = False

        def sample(*args: Any, **kwargs: Any) -> Any:
            nonlocal spent
            if spent or not self.is_open:  # left over, on p or inside another extension's wrapper
                _restore(p, "sample", sample, original)
                return original(*args, **kwargs)
            spent = True
            try:
                with self._animated(p):
                    return original(*args, **kwargs)
            except BaseException:
                self.close()
                raise
            finally:
                _restore(p, "sample", sample, original)

        p.sample = sample

    @contextmanager
    def _animated(self, p: Any) -> Iterator[None]:
        with told_to_clients(), ExitStack() as span:
            motion = self._prepare(p)
            span.enter_context(self._span(p, motion, p.prompts))
            original = getattr(p, "sample_hr_pass", None)
            if original is None:  # img2img has one pass
                yield
                return

            def sample_hr_pass(*args: Any, **kwargs: Any) -> Any:
                # The second pass may run on another checkpoint, which was loaded since the span began.
                span.pop_all().close()
                _refuse_model(p.sd_model)
                span.enter_context(self._span(p, motion, p.hr_prompts))
                return original(*args, **kwargs)

            span.callback(_restore, p, "sample_hr_pass", sample_hr_pass, original)
            p.sample_hr_pass = sample_hr_pass
            yield

    def _prepare(self, p: Any) -> MotionModule:
        refusal, self._refusal = self._refusal, None  # kept, its traceback would keep p alive
        if refusal is not None:
            raise refusal
        _refuse_request(p)
        _refuse_model(p.sd_model)
        return self._cache.load(find_model(self.settings.model))

    @contextmanager
    def _span(self, p: Any, motion: MotionModule, prompts: list[str]) -> Iterator[None]:
        sd_model = p.sd_model
        parts = parts_of(prompts)
        self.in_one_call = splits_clips(parts)
        with ExitStack() as span:
            span.callback(setattr, shared.state, "textinfo", None)
            span.enter_context(_preview_of_one_frame())
            if self.in_one_call:
                span.enter_context(for_one_run(batch_cond_uncond=True))
                p.extra_generation_params[BATCHING_FIELD] = "all rows in one call"
            injection = inject(
                sd_model.model.diffusion_model,
                motion,
                frames=self.frames,
                windows=context_windows(self.settings),
                one_clip_per_call=self.in_one_call,
                row_order=row_order(parts, self.frames),
                between_windows=_heed_interrupt,
            )
            span.enter_context(injection)
            span.enter_context(use_schedule(sd_model, motion.schedule, adjust=_with_options))
            yield


def _restore(p: Any, name: str, ours: Any, original: Any) -> None:
    """Take our method off ``p`` again, unless somebody has put theirs over it."""
    if p.__dict__.get(name) is ours:
        delattr(p, name)
        if getattr(p, name) != original:  # another extension's method stood there before
            setattr(p, name, original)


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


def _refuse_request(p: Any) -> None:
    switch_at = p.refiner_switch_at  # None and 0 switch at the first step, 1 never
    if getattr(p, "refiner_checkpoint_info", None) is not None and (switch_at is None or switch_at < 1):
        raise ClipError("AnimateDiff does not run with a refiner, which swaps the model on the way. Turn it off.")


def _refuse_model(sd_model: Any) -> None:
    if getattr(sd_model, "cond_stage_key", None) == "edit":
        raise IncompatibleModelError(
            "This checkpoint edits pictures by instruction (InstructPix2Pix), for which there are no motion modules. "
            "Choose an ordinary one of Stable Diffusion 1.5 or SDXL."
        )
    for flag, name in (("is_ssd", "SSD-1B"), ("is_sd2", "Stable Diffusion 2"), ("is_sd3", "Stable Diffusion 3")):
        if getattr(sd_model, flag, False):
            raise IncompatibleModelError(
                f"This checkpoint is {name}, for which there are no motion modules. Choose one of Stable Diffusion 1.5 "
                "or SDXL."
            )
    if sd_unet.current_unet is not None:
        raise IncompatibleModelError(
            f"The UNet is replaced by {sd_unet.current_unet.option.label}, which cannot be animated. "
            "Set SD Unet to None in the settings."
        )
