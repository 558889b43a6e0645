"""Errors of both packages. A message states what is wrong and what to do; the caller's objects are left unchanged."""

from collections.abc import Sequence
from pathlib import Path

from motion_module.limits import MESSAGE


class AnimateDiffError(Exception):
    """Base class of all errors that a user can cause and fix. ``str(error)`` is the message followed by the code.

    Attributes:
        message: what is wrong and what to do, without the code. Use it to quote an error inside another one.
        code: identifier of this refusal, such as ``"AD-F07"``, listed in docs/troubleshooting.md.
    """

    def __init__(self, message: str = "", *, code: str = "") -> None:
        message = _shortened(message)
        super().__init__(message)
        self.message = message
        self.code = code

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" if self.code else self.message


def _shortened(message: str) -> str:
    """A message without the middle of a long text that it quotes: what to do stands at its end."""
    half = MESSAGE // 2
    return message if len(message) <= MESSAGE else f"{message[:half]} ... {message[-half:]}"


class MotionFileError(AnimateDiffError):
    """A file is missing, damaged, or not a supported motion module, motion LoRA or domain adapter.

    Attributes:
        what: what the file is, with its article, such as ``"a motion LoRA"``; empty if unknown.
        kinds: kinds of motion module that the file may be, if the caller can resolve the error by passing one.
    """

    def __init__(self, message: str, *, what: str = "", kinds: Sequence[str] = (), code: str = "") -> None:
        super().__init__(message, code=code)
        self.what = what
        self.kinds = tuple(kinds)


class IncompatibleModelError(AnimateDiffError):
    """A motion module, LoRA or adapter does not fit the model."""


class ClipError(AnimateDiffError):
    """The requested clip cannot be rendered, read or written: frames, rows or settings do not fit together."""


class ClipNotWrittenError(AnimateDiffError):
    """Writing a clip failed for at least one format.

    Attributes:
        frames_at: lossless copy of the frames, a folder of PNGs or a file; None if saving them failed as well.
        written: files of the formats that succeeded.
    """

    def __init__(self, message: str, *, frames_at: Path | None, written: Sequence[Path] = (), code: str = "") -> None:
        super().__init__(message, code=code)
        self.frames_at = frames_at
        self.written = list(written)
