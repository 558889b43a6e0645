"""The progress of one request while its clips are measured and written, with interrupts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lib_animatediff.hosts.webui.output.following import Delivery
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.video import FORMATS, StopWriting

from .request import RequestProgress
from .sampling_place import fitting
from .tasks import IMAGE, MEASURE, frame_unit, write_kind, write_overhead


class FollowedDelivery(Delivery):
    """Follows the deliveries of one request, one after the other; see `Delivery`."""

    def __init__(self, plan: ClipPlan, progress: RequestProgress) -> None:
        self._frames = len(plan.rendered)
        self._rows_of_batch = self._frames
        self._batches = 1
        self._progress = progress
        self._unit = 0.0
        self._clip = -1
        self._is_over = False
        self._begun = (-1, "")  # the clip and kind of work under way

    def begin(self, p: Any, batch: int | None = None) -> None:
        """A delivery begins.

        Args:
            p: with the user's own batch size.
            batch: the clips of this one are delivered; None: all that are left.
        """
        self._rows_of_batch = int(p.batch_size) * self._frames
        self._batches = int(p.n_iter)
        self._unit = frame_unit(MEASURE, p)
        self._progress.interrupts.begin_delivery()
        self._progress.bar.complete(IMAGE, None if batch is None else batch + 1)

    def rows_of(self, batch: int) -> range:
        """The rows of a batch."""
        return range(self._rows_of_batch * batch, self._rows_of_batch * (batch + 1))

    def rows(self, count: int) -> list[int]:
        """Without the rows that an interrupt has left undecoded."""
        decoded, size = self._progress.decoded, self._rows_of_batch
        of_batches = (range(size * batch, size * batch + decoded.get(batch, size)) for batch in range(self._batches))
        rows = [row for rows in of_batches for row in rows]
        return rows if decoded else list(range(count))

    def report(self, row: int) -> str | None:
        """What the user has cut short of the batch of a row."""
        return self._progress.interrupts.report_of(row // self._rows_of_batch)

    def measured(self, frames: Sequence[Any]) -> Iterator[Any]:
        """Count the frames of the next clip."""
        self._clip += 1
        bar = self._progress.bar
        bar.start(MEASURE, self._unit)
        for done, frame in enumerate(frames, 1):
            self._heed()
            yield frame
            bar.advance(MEASURE, self._clip, done * self._unit, self._unit)
            bar.say(fitting(f"Measuring {done}/{len(frames)}"))
        bar.complete(MEASURE, self._clip + 1)

    def writing(self, key: str, done: int, count: int) -> None:
        """Count the frames in a format."""
        bar, kind = self._progress.bar, write_kind(key)
        if done:
            bar.advance(kind, self._clip, write_overhead(key) + done * self._unit, self._unit)
        elif self._begun != (self._clip, kind):
            self._begun = (self._clip, kind)
            bar.start(kind, write_overhead(key) + self._unit)
        if done == count:
            bar.complete(kind, self._clip + 1)
        name = "PNG" if key == "frames" else FORMATS[key].name
        bar.say(fitting(f"Writing {name} {min(done + 1, count)}/{count}", f"{name} {done}/{count}"))
        self._heed()

    def stopped(self, missing: Iterable[str]) -> None:
        """Note what is missing. After an interrupt so are the files of the clips that follow."""
        names = " and ".join(FORMATS[key].name for key in missing)
        interrupts = self._progress.interrupts
        interrupts.heed(f"was interrupted while it was written. Missing: {names or 'its measurements'}.")
        self._is_over = bool(interrupts.is_whole)
        interrupts.forget_skip()

    def _heed(self) -> None:
        if self._is_over or self._progress.interrupts.is_pending:
            raise StopWriting
