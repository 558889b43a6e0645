"""How the rows of the UNet call under way fall into clips: what every hook of an injection goes by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from motion_module import ClipError


class Clip:
    """Frames that lie side by side in the rows ``(k b f) c h w`` of a call: the whole clip's, or a window's.

    Without ``frames`` no call is under way that the hooks could serve: a clip that needs context windows is only
    served inside one.
    """

    def __init__(self, frames: int | None) -> None:
        self._window: Sequence[int] | None = None if frames is None else range(frames)

    @contextmanager
    def of(self, window: Sequence[int]) -> Iterator[None]:
        """For the time of the block, a clip is these of its frames."""
        former, self._window = self._window, window
        try:
            yield
        finally:
            self._window = former

    @property
    def window(self) -> Sequence[int]:
        """The clip's frames that the call under way has.

        Raises:
            ClipError: no context window is under way, but should be.
        """
        if self._window is None:
            raise ClipError(
                "The UNet ran past the context windows: another extension has put its own forward in their place. "
                "Switch that extension off, or make a clip that fits into one window."
            )
        return self._window

    @property
    def frames(self) -> int:
        """f of the call under way.

        Raises:
            ClipError: no context window is under way, but should be.
        """
        return len(self.window)

    def frames_of(self, rows: int) -> int:
        """f, for a tensor of so many rows.

        Raises:
            ClipError: the rows are not whole clips, or no context window is under way that should be.
        """
        count_clips(rows, self.frames)
        return self.frames


def count_clips(rows: int, frames: int) -> int:
    """Streams times clips in a call of so many rows.

    Raises:
        ClipError: the rows are not whole clips.
    """
    if not rows or rows % frames:
        raise ClipError(
            f"The UNet was called with {rows} rows, which are not whole clips of {frames} frames. "
            "Pass all frames of a clip in one call."
        )
    return rows // frames
