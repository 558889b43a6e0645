"""The unfinished clips of one request: its denoiser's outputs are recorded, and repeated where a clip goes on.

A sampler keeps its state in local variables, so that it cannot be stored. But all that it does follows from its noise
and from what the denoiser gives. So a sampling goes on if it begins again and gets the recorded outputs, up to the call
at which it was interrupted: with every sampler, its random noise, FreeInit's runs and hires fix, to the same bits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from lib_animatediff.engine.inject import Injection
from lib_animatediff.hosts.webui.catalog.recording import CallFacts, Header, Recorder, Recording
from lib_animatediff.hosts.webui.catalog.unfinished import (
    make_room,
    most_bytes,
    recording_path,
    unfinished_clips,
)
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.denoiser_outputs import (
    DenoiserOutput,
    gives_all,
    output_of,
    repeat_call,
    wrap_denoiser,
)
from lib_animatediff.request.effects import Note
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.video.atomic import plain_reason

from .identity import differences, identity_of, key_of
from .recordings import Recordings

Forward = Callable[..., Tensor]
_log = logging.getLogger(__name__)

SETTING = "resume"
MOST_TIME = 0.02  # share of the time since sampling began that may pass with recording
FIRST_SECONDS = 0.02  # that the first writing is expected to take; the others as long as the one before


class UnfinishedClips:
    """What is recorded of one request.

    Attributes:
        notes: for the user.
        recordings: the files.

    Args:
        plan: of its clips.
        resumes: whether they go on from recordings.
        tab: txt2img or img2img.
        sources: what recipes say of the clip's video and images.
        now: seconds, of a clock that only goes forward.
    """

    def __init__(
        self,
        plan: ClipPlan,
        *,
        resumes: bool = False,
        tab: str = "",
        sources: Mapping[str, Any] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.notes: list[Note] = []
        self._plan, self._resumes, self._tab, self._sources, self._now = plan, resumes, tab, sources or {}, now
        self._begun, self._spent, self._expected = now(), 0.0, FIRST_SECONDS
        self.recordings = Recordings()
        self._path = Path()  # of the batch under way
        self._recorder: Recorder | None = None
        self._found: Recording | None = None
        self._repeated = self._calls = 0  # calls to repeat, and calls so far
        self._waiting: list[tuple[DenoiserOutput, CallFacts]] = []

    def begin_batch(self, p: Any) -> None:
        """The sampling of a batch begins. A recording that cannot be used or made is no error."""
        self._recorder, self._found, self._repeated, self._calls, self._waiting = None, None, 0, 0, []
        if not self._plan.makes_clip or not most_bytes():
            return
        try:
            infotext = a1111.first_infotext(p)
            header = Header(identity_of(p, infotext, self._sources), self._tab, infotext)
            path = recording_path(key_of(header.identity))
            if self._resumes:
                self._find(path, header)
            self._recorder = Recorder(path, header, self._found, self._repeated)
            self._path = path
            self.recordings.add(p.iteration, path, is_resumed=self._found is not None)
        except Exception as error:  # the clip does not depend on it
            _log.exception("AnimateDiff cannot keep the state of this clip.")
            self._say(f"cannot go on with this clip if it is interrupted, because of an error: {error}")

    def begin_pass(self, p: Any, injected: Callable[[], Injection | None], follow: Callable[[Any], None]) -> None:
        """A sampler begins; its denoiser is ready.

        Args:
            injected: returns the injection under way; None: the sampler renders plain images.
            follow: called before each call that is repeated, with the denoiser.
        """
        if self._recorder is None:
            return

        def call(denoiser: Any, forward: Forward, x: Tensor, sigma: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if not gives_all(kwargs):
                self._recorder, self._repeated = None, 0
                return forward(x, sigma, *args, **kwargs)
            number, injection = self._calls, injected()
            self._calls += 1
            if number < self._repeated and (found := self._recorded(number, x)) is not None:
                output, facts = found
                follow(denoiser)
                denoised = repeat_call(denoiser, x, sigma, output)
                if injection is not None:
                    injection.step_numbers = facts.numbers
                return denoised
            is_whole = self._is_whole(denoiser)
            denoised = forward(x, sigma, *args, **kwargs)
            numbers = [] if injection is None else injection.step_numbers
            self._record(output_of(denoiser, denoised), CallFacts(is_whole, numbers))
            return denoised

        wrap_denoiser(p, call)

    def end_batch(self) -> None:
        """The sampling of a batch has ended, in any way: write what waits."""
        if self._waiting:
            self._write()

    def remove(self) -> None:
        """Remove the recordings, since the clips are written."""
        self.recordings.remove()
        self._recorder = None

    def _find(self, path: Path, header: Header) -> None:
        if path.exists():
            self._found = Recording(path)
            self._repeated = self._usable(self._found)
            return
        newest = next((each for each in unfinished_clips() if each.header.tab == self._tab), None)
        if newest is None:
            self._say("has no effect, since no clip is unfinished.")
            return
        names = ", ".join(differences(newest.header.identity, header.identity))
        self._say(f"has no effect, since this is another clip than the unfinished one: {names} differ.")

    def _usable(self, found: Recording) -> int:
        """How many calls are repeated: those before one that needs no features of earlier ones."""
        if self._plan.reuse is None:
            return found.count
        with suppress(ValueError):
            return next((call for call in reversed(range(found.count)) if found.facts(call).is_whole), 0)
        return 0

    def _recorded(self, number: int, x: Tensor) -> tuple[DenoiserOutput, CallFacts] | None:
        """The record of a call; None from the first one that is damaged."""
        assert self._found is not None
        try:
            output, facts = self._found.call(number)
            if output.denoised.shape == x.shape:
                return output, facts
        except (OSError, ValueError):
            _log.warning("AnimateDiff: the state of this clip is damaged from call %s on.", number)
        assert self._recorder is not None
        self._repeated = number
        self._recorder = Recorder(self._found.path, self._found.header, self._found, number)
        return None

    def _is_whole(self, denoiser: Any) -> bool:
        """Whether the next call needs nothing of those before it."""
        reuse, step = self._plan.reuse, denoiser.step
        if reuse is None or step == 0:
            return True
        # Samplers that call the denoiser twice in a step have another number of noise levels than of steps.
        return denoiser.steps == denoiser.total_steps and reuse.is_full(step, denoiser.steps)

    def _record(self, output: DenoiserOutput, facts: CallFacts) -> None:
        if self._recorder is None:
            return
        self._waiting.append((output, facts))
        if self._spent + self._expected <= MOST_TIME * (self._now() - self._begun):
            self._write()

    def _write(self) -> None:
        assert self._recorder is not None
        begun = self._now()
        try:
            if self._spent == 0:
                make_room(self._path)
            self._recorder.append(self._waiting)
            self._waiting = []
            if self._recorder.size > most_bytes():
                self._recorder = None  # what is written is whole
        except (OSError, RuntimeError) as error:
            self._recorder, self._waiting = None, []
            self._say(f"cannot go on from here if this clip is interrupted: {plain_reason(error)}.")
        self._expected = self._now() - begun
        self._spent += self._expected

    def _say(self, text: str) -> None:
        self.notes.append(Note(SETTING, text))
