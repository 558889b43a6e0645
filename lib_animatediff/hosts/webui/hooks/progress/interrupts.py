"""The WebUI's buttons Interrupt and Skip in every phase of a request, and what they have cut short."""

from __future__ import annotations

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.request.effects import Note


class Interrupts:
    """The interrupts of one request.

    A phase heeds what the user has asked for once: what is left of a sampling that was interrupted is decoded and
    written as a whole, unless the user interrupts again.
    """

    def __init__(self) -> None:
        self._is_heeded = False
        self._reports: dict[int, str] = {}
        self._notes: list[Note] = []
        self._was_interrupted = False

    @property
    def is_pending(self) -> bool:
        """Whether the user has interrupted or skipped, and nothing has ended because of it yet."""
        state = a1111.state()
        return not self._is_heeded and (state.interrupted or state.skipped)

    @property
    def is_whole(self) -> bool:
        """Whether the user has interrupted the whole request, not skipped a part."""
        return bool(a1111.state().interrupted)

    @property
    def notes(self) -> list[Note]:
        """What was cut short, for the user."""
        return list(self._notes)

    def report_of(self, batch: int) -> str | None:
        """What was cut short of a batch, for the infotext; None: nothing."""
        return self._reports.get(batch)

    def begin_batch(self) -> None:
        """The WebUI has forgotten a skip, which ends one batch."""
        self._is_heeded = bool(a1111.state().interrupted)

    def heed(self, sentence: str, batch: int | None = None, report: str = "") -> None:
        """Note that a phase has ended. ``sentence``: without its subject; ``report``: for the infotext of a batch."""
        self._is_heeded = True
        self._notes.append(Note("The clip", sentence))
        if batch is not None:
            self._reports[batch] = report

    def begin_delivery(self) -> None:
        """Make the buttons act again, while files are written. `end_delivery` restores the WebUI's own state."""
        state = a1111.state()
        if self._is_heeded:
            self._was_interrupted = state.interrupted
            state.interrupted = state.skipped = self._is_heeded = False

    def end_delivery(self) -> None:
        """Restore what `begin_delivery` has changed."""
        if self._was_interrupted:
            a1111.state().interrupted = True

    def forget_skip(self) -> None:
        """A skip has ended one clip's files; those of the next one are written."""
        state = a1111.state()
        if state.skipped and not state.interrupted:
            state.skipped = self._is_heeded = False
