"""Where the sampling of one pass is: the run of FreeInit, the inversion of a video, the denoiser's call, the window."""

from __future__ import annotations

from collections.abc import Sequence

from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.sampling.guidance import GuidanceInterval

MOST_LETTERS = 25  # of a text before percent and time left in the page's bar
_LOOKED_AT = 16  # steps whose windows are counted; later ones repeat them
_COMPUTED = 0.12  # of a call that reuses features, by skip connection that it computes: from DeepCache's speed-ups
_WITHOUT_UNCOND = 0.5  # of a call with CFG


def fitting(*texts: str) -> str:
    """The first of these texts that the bar has room for; the last one is cut."""
    return next((text for text in texts if len(text) <= MOST_LETTERS), texts[-1][:MOST_LETTERS])


def frames_of_calls(plan: ClipPlan) -> tuple[float, ...]:
    """Frames that a call on the whole clip computes, for its first steps: overlapping windows compute some twice.

    A frame whose features are reused counts as the part of it that is computed.
    """
    reuse = plan.reuse
    if reuse is None:
        return tuple(float(_frames_at(plan, step)) for step in range(_LOOKED_AT))
    steps = range(_LOOKED_AT // reuse.interval * reuse.interval)
    share = _COMPUTED * (reuse.branch + 1)
    factors = [1.0 if reuse.is_full(step, None) else share for step in steps]
    return tuple(_frames_at(plan, reuse.part(step, None)) * factor for step, factor in zip(steps, factors, strict=True))


def _frames_at(plan: ClipPlan, step: int) -> int:
    frames, windows = len(plan.rendered), plan.windows
    is_whole = windows is None or not windows.apply_to(frames)
    if is_whole or windows is None or (isinstance(windows, ContextWindows) and windows.as_views):
        return frames
    return sum(map(len, windows.plan(frames, step)))


class CallUnits:
    """What calls of the UNet cost, in units of one frame computed once.

    Args:
        frames: of each call, see `frames_of_calls`.
        unit: units of one frame.
        guidance: the steps at which uncond is computed.
    """

    def __init__(self, frames: Sequence[float], unit: float, guidance: GuidanceInterval) -> None:
        self._frames = frames
        self._unit = unit
        self._guidance = guidance

    def of_call(self, call: int, calls: int) -> float:
        """Units of a call in a run of so many."""
        share = 1.0 if self._guidance.is_guided(call / max(calls, 1)) else _WITHOUT_UNCOND
        return self._frames[call % len(self._frames)] * self._unit * share

    def of_run(self, done: int, calls: int) -> float:
        """Units of the first calls of a run."""
        return sum(self.of_call(call, calls) for call in range(done))

    def of_inverting(self, call: int) -> float:
        """Units of a call that inverts a source video, without CFG."""
        return self._frames[call % len(self._frames)] * self._unit * _WITHOUT_UNCOND

    def of_inversion(self, done: int) -> float:
        """Units of the first calls that invert a source video."""
        return sum(map(self.of_inverting, range(done)))


class SamplingPlace:
    """The place in one pass, in units of one frame computed once.

    Args:
        frames: of each call, see `frames_of_calls`.
        unit: units of one frame.
        runs: steps of each run of the sampler.
        calls_at_once: calls of the UNet per call of the denoiser.
        is_second: whether this is the second pass of hires fix.
        guidance: the steps at which uncond is computed; None: all.
        inversions: calls of the UNet that invert a source video before each run; None: none do.

    Attributes:
        is_begun: whether the UNet has been called.
    """

    def __init__(
        self,
        frames: Sequence[float],
        unit: float,
        runs: Sequence[int],
        *,
        calls_at_once: int = 1,
        is_second: bool = False,
        guidance: GuidanceInterval | None = None,
        inversions: Sequence[int] | None = None,
    ) -> None:
        self._units = CallUnits(frames, unit, guidance or GuidanceInterval())
        self._runs = list(runs)  # calls
        self._inversions = [0] * len(self._runs) if inversions is None else list(inversions)
        self._is_second = is_second
        self._run = 0
        self._call = 0
        self._is_sampling = False  # the denoiser has been called in this run
        self.is_begun = False
        self._step, self._steps = 0, runs[0]
        self._window, self._windows = 0, 1
        self._unet_call, self._unet_calls = 0, calls_at_once

    def next_call(self, call: int, steps: int, calls: int) -> None:
        """The denoiser begins a call, counted from 0 in its run of so many steps and calls."""
        self._enter_run(call)
        if self._is_sampling and self._unet_call:
            self._unet_calls = self._unet_call
        self._is_sampling = True
        if calls != self._runs[self._run]:  # samplers of second order call twice in a step
            factor = calls / max(self._runs[self._run], 1)
            self._runs = [round(run * factor) for run in self._runs]
        self._call = call
        self._step, self._steps = min(call * steps // max(calls, 1) + 1, steps), steps
        self._unet_call = self._window = 0

    def next_inversion(self, call: int, calls: int) -> None:
        """The UNet begins a call that inverts a source video, counted from 0, before the denoiser's run begins."""
        self._enter_run(call)
        self._is_sampling = False
        self._inversions[self._run] = calls
        self._call = call
        self._step, self._steps = call + 1, calls
        self._unet_call = self._window = 0

    def next_window(self, done: int, count: int) -> None:
        """The UNet has computed a window, the given number of its call."""
        self._window, self._windows = done, count
        if done == count:
            self._unet_call += 1
            self._window = 0

    @property
    def total(self) -> float:
        """Units of the pass."""
        return self._before_run(len(self._runs))

    @property
    def done(self) -> float:
        """Units that are done."""
        earlier, calls = self._before_run(self._run), self._runs[self._run]
        computed = self._unet_call + self._window / self._windows
        if self._is_inverting:
            part = min(computed, 1.0)
            return earlier + self._units.of_inversion(self._call) + part * self._units.of_inverting(self._call)
        earlier += self._units.of_inversion(self._inversions[self._run])
        part = min(computed / self._unet_calls, 1.0)
        return earlier + self._units.of_run(self._call, calls) + part * self._units.of_call(self._call, calls)

    @property
    def ahead(self) -> float:
        """Units until the next event: the rest of the window, or of the call."""
        if self._is_inverting:
            return self._units.of_inverting(self._call) / self._windows
        return self._units.of_call(self._call, self._runs[self._run]) / (self._windows * self._unet_calls)

    @property
    def where(self) -> str:
        """Step and steps, for a sentence."""
        part = " of the hires pass" if self._is_second else " of the inversion" if self._is_inverting else ""
        return f"step {self._step} of {self._steps}{part}"

    @property
    def text(self) -> str:
        """For the bar."""
        step = f"{self._step}/{self._steps}"
        lead = "Hires step" if self._is_second else "Step"
        if len(self._runs) > 1:
            lead = f"Run {self._run + 1}/{len(self._runs)}, step"
        if self._is_inverting:
            lead = "Inverting"
        plain = (f"{lead} {step}", f"{lead.replace(', step', ',')} {step}", f"Step {step}", step)
        if self._windows < 2:
            return fitting(*plain)
        window = f"{min(self._window + 1, self._windows)}/{self._windows}"
        return fitting(f"{lead} {step}, window {window}", f"{lead} {step} ({window})", *plain)

    @property
    def _is_inverting(self) -> bool:
        return self.is_begun and not self._is_sampling

    def _enter_run(self, call: int) -> None:
        """The first call after one of the denoiser, if it is the first of its kind, belongs to the next run."""
        if call == 0 and self._is_sampling and self._run + 1 < len(self._runs):
            self._run += 1
        self.is_begun = True

    def _before_run(self, run: int) -> float:
        """Units of the runs before one, with their inversions."""
        runs = zip(self._inversions[:run], self._runs[:run], strict=True)
        return sum(self._units.of_inversion(inverting) + self._units.of_run(calls, calls) for inverting, calls in runs)
