"""How the delivery of clips tells what it does, and learns that the user has interrupted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class Delivery:
    """A delivery that nobody follows."""

    def rows(self, count: int) -> Sequence[int]:
        """The rows of the request, out of ``count``, that the images show: an interrupt leaves some out."""
        return range(count)

    def report(self, row: int) -> str | None:  # noqa: ARG002
        """What the user has cut short of the batch of a row; None: nothing."""
        return None

    def measured(self, frames: Sequence[Any]) -> Iterable[Any]:
        """The frames of the next clip, while they are measured. May raise `StopWriting`."""
        return frames

    def writing(self, key: str, done: int, count: int) -> None:
        """The number of frames that are written in a format. May raise `StopWriting`."""

    def stopped(self, missing: Iterable[str]) -> None:
        """`StopWriting` has left these formats of a clip out."""
