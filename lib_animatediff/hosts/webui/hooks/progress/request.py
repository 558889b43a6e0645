"""The progress of one request while it is sampled and decoded, with interrupts in each of these phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lib_animatediff.engine.patching import patch_next_call
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.progress import is_stopped
from lib_animatediff.request.plan import ClipPlan

from .bar import ProgressBar
from .interrupts import Interrupts
from .sampling_place import SamplingPlace, fitting, frames_of_calls
from .tasks import DECODE, DECODE_FIRST, ENCODE, IMAGE, frame_unit, inversions_of, pass_kind, runs_of, unit_of
from .vae_watch import VaeWatch

_WORDS = {DECODE: "Decoding", DECODE_FIRST: "Decoding", ENCODE: "Encoding"}


class RequestProgress:
    """Follows the batches of one request, from the first call of the denoiser to the last image.

    Attributes:
        bar: shows it.
        interrupts: what the user's buttons have cut short.
        decoded: frames of each batch whose decoding was cut short.
    """

    def __init__(self, plan: ClipPlan, bar: ProgressBar) -> None:
        self.bar = bar
        self.interrupts = Interrupts()
        self.decoded: dict[int, int] = {}
        self._plan = plan
        self._frames = frames_of_calls(plan)
        self._place: SamplingPlace | None = None
        self._kind = pass_kind(is_second=False)
        self._batch = self._rows = self._images = 0
        self._watch: VaeWatch | None = None

    def begin_pass(self, p: Any, *, is_second: bool) -> None:
        """A pass begins, with the components in the UNet."""
        if not is_second:
            self.close()
            self._watch = None
            self._batch, self._rows, self._images = p.iteration, p.batch_size, 0
            self.interrupts.begin_batch()
        places = {second: _place_of(p, self._plan, self._frames, is_second=second) for second in _passes(p)}
        self.bar.begin(p, self._plan, {second: place.total for second, place in places.items()})
        self._place, self._kind = places[is_second], pass_kind(is_second=is_second)
        self.bar.say()

    def before_run(self, p: Any) -> None:
        """The sampler of a pass runs with its next call."""
        self.close()
        self._watch = None
        is_from_image = getattr(p, "is_hr_pass", False) or getattr(p, "init_latent", None) is not None

        def run(sample: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            latents = sample(*args, **kwargs)
            self._end_run(p)
            return latents

        patch_next_call(p.sampler, "sample_img2img" if is_from_image else "sample", run)

    def before_call(self, denoiser: Any) -> None:
        """The denoiser begins a call."""
        calls = max(denoiser.total_steps or 0, 1)
        steps = getattr(denoiser, "steps", None) or calls
        self._next(lambda place: place.next_call(denoiser.step, steps, calls))

    def before_inversion(self, call: int, calls: int) -> None:
        """The UNet begins a call that inverts the source video, the given number of so many."""
        self._next(lambda place: place.next_inversion(call, calls))

    def after_window(self, done: int, count: int) -> None:
        """The UNet has computed a context window. Raises the WebUI's own exception if the user interrupts."""
        if self._place is not None:
            self._place.next_window(done, count)
            _show(self.bar, self._kind, self._batch, self._place)
        if is_stopped():
            raise a1111.InterruptedSampling

    def leave_between_passes(self, decoded: Any) -> Any:
        """The images of the first pass, if the user has interrupted before the second one; otherwise None."""
        watch = self._watch
        if decoded is None or watch is None or not (watch.is_cut_short or is_stopped()):
            return None
        if self.interrupts.is_pending and not watch.is_cut_short:
            self.interrupts.heed("was interrupted before the hires pass.", self._batch, "before the hires pass")
        images = watch.with_range_of_vae(decoded)
        return a1111.decoded_samples(images[: watch.decoded] if watch.is_cut_short else images)

    def end_decoding(self, images: int) -> int:
        """A batch of so many images is decoded: how many of them really are."""
        watch = self._watch
        done = min(watch.decoded, images) if watch is not None and watch.is_cut_short else images
        self.close()
        if watch is not None and watch.is_cut_short:
            self.decoded[self._batch] = done
            count = f"{done} of {self._rows} frames"
            self.interrupts.heed(f"was interrupted: {count} were decoded.", self._batch, count)
        self._watch = None
        rounds = None if a1111.state().interrupted else self._batch + 1
        for kind in (pass_kind(is_second=False), pass_kind(is_second=True), DECODE_FIRST, ENCODE, DECODE):
            self.bar.complete(kind, rounds)
        self.bar.start(IMAGE, 0.0)
        self.bar.say()
        return done

    def end_image(self, p: Any) -> None:
        """The WebUI and its extensions have finished one image."""
        self._images += 1
        unit = frame_unit(IMAGE, p)
        self.bar.advance(IMAGE, self._batch, self._images * unit, unit)

    def stop(self) -> None:
        """Restore everything that is replaced, in the checkpoint and in the WebUI's state."""
        self.close()
        self.bar.stop()

    def close(self) -> None:
        """Restore what is replaced in the checkpoint."""
        if self._watch is not None:
            self._watch.close()

    def _end_run(self, p: Any) -> None:
        place = self._place
        if place is not None:
            if self.interrupts.is_pending:
                self.interrupts.heed(f"was interrupted at {place.where}.", self._batch, place.where)
            else:
                self.bar.advance(self._kind, self._batch, place.total, 0.0)
            self.bar.complete(self._kind, None if a1111.state().interrupted else self._batch + 1)
        is_first = bool(getattr(p, "enable_hr", False)) and not getattr(p, "is_hr_pass", False)
        between = is_first and getattr(p, "latent_scale_mode", None) is None
        if is_first and not between and not a1111.state().interrupted:
            return  # the latents are scaled as they are
        units = {kind: frame_unit(kind, p) for kind in _WORDS}  # without p, which the checkpoint must not keep alive

        def on_frames(kind: str, done: int) -> None:
            unit = units[kind]
            self.bar.advance(kind, self._batch, done * unit, unit)
            _say_frame(self.bar, kind, done, self._rows)

        kind = DECODE_FIRST if between else DECODE
        self._watch = VaeWatch(
            p.sd_model, self._rows, lambda: self.interrupts.is_pending, on_frames, between_passes=between
        )
        self.bar.start(kind, units[kind])
        _say_frame(self.bar, kind, 0, self._rows)

    def _next(self, move: Callable[[SamplingPlace], None]) -> None:
        """Move to the next call of the pass."""
        place = self._place
        if place is None:
            return
        is_first = not place.is_begun
        move(place)
        self.bar.resize(self._kind, place.total)
        if is_first:
            self.bar.start(self._kind, place.ahead)
        _show(self.bar, self._kind, self._batch, place)


def _say_frame(bar: ProgressBar, kind: str, done: int, rows: int) -> None:
    bar.say(fitting(f"{_WORDS[kind]} {min(done + 1, rows)}/{rows}"))


def _show(bar: ProgressBar, kind: str, batch: int, place: SamplingPlace) -> None:
    bar.advance(kind, batch, place.done, place.ahead)
    bar.say(place.text)


def _place_of(p: Any, plan: ClipPlan, frames: Sequence[float], *, is_second: bool) -> SamplingPlace:
    size = (p.hr_upscale_to_x, p.hr_upscale_to_y) if is_second else (p.width, p.height)
    clips = max(int(p.batch_size) // len(plan.rendered), 1)
    return SamplingPlace(
        frames,
        unit_of(*map(int, size)) * clips,
        runs_of(p, plan, is_second=is_second),
        calls_at_once=1 if a1111.batches_cond_uncond() else 2,
        is_second=is_second,
        guidance=plan.guidance,
        inversions=inversions_of(p, plan, is_second=is_second),
    )


def _passes(p: Any) -> list[bool]:
    """By whether it is the second one."""
    return [False, True] if getattr(p, "enable_hr", False) else [False]
