"""What became of a clip."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from lib_animatediff.video.atomic import plain_reason

from .errors import StoppedError

RENDERED, FINISHED, CLAIMED, FAILED, STOPPED = "rendered", "finished", "claimed", "failed", "stopped"
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Outcome:
    """What became of a clip, as text, which goes to another process.

    Attributes:
        kind: ``"rendered"``; ``"finished"`` before; ``"claimed"`` by another run; ``"failed"`` with its sentence; or
            ``"stopped"``, since no clip can be written any more.
        sentence, code: of an error.
        lines: what the user should know about the clip.
    """

    kind: str
    sentence: str = ""
    code: str = ""
    lines: tuple[str, ...] = ()


def stopped_by(error: BaseException | None, folder: Path) -> StoppedError | None:
    """The end of the whole run, if the disk is the reason of an error; None for an error of one clip."""
    while error is not None:
        if getattr(error, "errno", None) in _OF_THE_DISK:  # PyAV's errors have it as well
            return StoppedError(
                f"No clip can be written into {folder}: {plain_reason(error)}. Fix that, and give the same command "
                "again.",
                code="AD-M29",
            )
        error = error.__cause__ or error.__context__
    return None
