"""Where the sampling of one pass is: the run of FreeInit, the call of the denoiser, the context window."""

from __future__ import annotations

from collections.abc import Sequence

from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.request.plan import ClipPlan

MOST_LETTERS = 25  # of a text before percent and time left in the page's bar
_LOOKED_AT = 16  # steps whose windows are counted; later ones repeat them


def fitting(*texts: str) -> str:
    """The first of these texts that the bar has room for; the last one is cut."""
    return next((text for text in texts if len(text) <= MOST_LETTERS), texts[-1][:MOST_LETTERS])


def frames_of_calls(plan: ClipPlan) -> tuple[int, ...]:
    """Frames that a call on the whole clip computes, for its first steps: overlapping windows compute some twice."""
    frames, windows = len(plan.rendered), plan.windows
    is_whole = windows is None or not windows.apply_to(frames)
    if is_whole or windows is None or (isinstance(windows, ContextWindows) and windows.as_views):
        return (frames,)
    return tuple(sum(map(len, windows.plan(frames, step))) for step in range(_LOOKED_AT))


class SamplingPlace:
    """The place in one pass, in units of one frame computed once.

    Args:
        frames: of each call, see `frames_of_calls`.
        unit: units of one frame.
        runs: steps of each run of the sampler.
        calls_at_once: calls of the UNet per call of the denoiser.
        is_second: whether this is the second pass of hires fix.

    Attributes:
        is_begun: whether the denoiser has been called.
    """

    def __init__(
        self,
        frames: Sequence[int],
        unit: float,
        runs: Sequence[int],
        *,
        calls_at_once: int = 1,
        is_second: bool = False,
    ) -> None:
        self._frames = frames
        self._unit = unit
        self._runs = list(runs)  # calls
        self._is_second = is_second
        self._run = 0
        self._call = 0
        self.is_begun = False
        self._step, self._steps = 0, runs[0]
        self._window, self._windows = 0, 1
        self._unet_call, self._unet_calls = 0, calls_at_once

    def next_call(self, call: int, steps: int, calls: int) -> None:
        """The denoiser begins a call, counted from 0 in its run of so many steps and calls."""
        if call == 0 and self.is_begun and self._run + 1 < len(self._runs):
            self._run += 1
        self.is_begun = True
        if self._unet_call:
            self._unet_calls = self._unet_call
        if calls != self._runs[self._run]:  # samplers of second order call twice in a step
            factor = calls / max(self._runs[self._run], 1)
            self._runs = [round(run * factor) for run in self._runs]
        self._call = call
        self._step, self._steps = min(call * steps // max(calls, 1) + 1, steps), steps
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
        return sum(self._of_run(calls) for calls in self._runs)

    @property
    def done(self) -> float:
        """Units that are done."""
        earlier = sum(self._of_run(calls) for calls in self._runs[: self._run])
        part = min((self._unet_call + self._window / self._windows) / self._unet_calls, 1.0)
        return earlier + self._of_run(self._call) + part * self._of_call(self._call)

    @property
    def ahead(self) -> float:
        """Units until the next event: the rest of the window, or of the call."""
        return self._of_call(self._call) / (self._windows * self._unet_calls)

    @property
    def where(self) -> str:
        """Step and steps, for a sentence."""
        return f"step {self._step} of {self._steps}{' of the hires pass' if self._is_second else ''}"

    @property
    def text(self) -> str:
        """For the bar."""
        step = f"{self._step}/{self._steps}"
        lead = "Hires step" if self._is_second else "Step"
        if len(self._runs) > 1:
            lead = f"Run {self._run + 1}/{len(self._runs)}, step"
        plain = (f"{lead} {step}", f"{lead.replace(', step', ',')} {step}", f"Step {step}", step)
        if self._windows < 2:
            return fitting(*plain)
        window = f"{min(self._window + 1, self._windows)}/{self._windows}"
        return fitting(f"{lead} {step}, window {window}", f"{lead} {step} ({window})", *plain)

    def _of_call(self, call: int) -> float:
        return self._frames[call % len(self._frames)] * self._unit

    def _of_run(self, calls: int) -> float:
        whole, rest = divmod(calls, len(self._frames))
        return (whole * sum(self._frames) + sum(self._frames[:rest])) * self._unit
