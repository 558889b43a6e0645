"""Errors of both packages. Each message says what is wrong and what to do; nothing has changed when one is raised."""

from collections.abc import Sequence
from pathlib import Path


class AnimateDiffError(Exception):
    """Base of every error that a user can cause and can fix.

    Attributes:
        message: what is wrong and what to do, without the code.
        code: short code such as ``AD-C01`` that docs/troubleshooting.md lists; empty if the message has none.
    """

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" if self.code else self.message


class MotionFileError(AnimateDiffError):
    """A file is missing, broken, or not a motion module that we run.

    Attributes:
        what: what the file is, such as "a motion LoRA"; empty where the message says no more than that.
    """

    def __init__(self, message: str, *, what: str = "", code: str = "") -> None:
        super().__init__(message, code=code)
        self.what = what


class IncompatibleModelError(AnimateDiffError):
    """The motion module cannot go into this UNet."""


class ClipError(AnimateDiffError):
    """The clip asked for cannot be made: frames, rows or settings do not fit together."""


class ClipNotWrittenError(AnimateDiffError):
    """A clip could not be written in some format.

    Attributes:
        frames_at: where its frames were saved without loss: a folder of PNGs or a file; None if that failed, too.
        written: the clip's files in the formats that could be written.
    """

    def __init__(self, message: str, *, frames_at: Path | None, written: Sequence[Path] = (), code: str = "") -> None:
        super().__init__(message, code=code)
        self.frames_at = frames_at
        self.written = list(written)
