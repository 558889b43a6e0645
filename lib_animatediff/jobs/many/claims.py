"""Claims on jobs, so that several runs in one folder render each clip once.

A claim is a file that exactly one process can create. Its owner touches it now and then. A claim that nobody touches
any more is taken over by a file of the next generation, which again one process can create; the highest generation
counts. Only changes are watched, and the time that passes here, so that clocks which differ or are set back do not
matter.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motion_module.limits import parse_json, read_limited

BEAT = 10.0  # seconds between touches
SILENCE = 120.0  # seconds without a touch, after which the owner is dead
_LONGEST = 1000  # bytes of a claim


@dataclass(frozen=True)
class _Seen:
    """A claim as it was found. The text is different for each claim."""

    generation: int
    text: bytes
    touched: int


class Claims:
    """The claims of one process.

    Args:
        folder: of the claims; all runs on the same clips share it.
        now: seconds, of a clock that only goes forward.
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._now = folder, now
        self._silent: dict[str, tuple[_Seen, float]] = {}  # the claims of others, and since when they look the same
        self._held: set[Path] = set()
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._touch_all, daemon=True)

    def take(self, job: str) -> Claim | None:
        """Claim a job; None while another process has it.

        Raises:
            OSError: the folder is not writable.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        before = self._highest(job)
        if before is not None and not self._is_dead(job, before):
            return None
        generation = 0 if before is None else before.generation + 1
        path = self._folder / f"{job}.{generation}"
        if not _create(path):
            return None
        if not self._counts(job, generation, before):
            path.unlink(missing_ok=True)
            return None
        claim = Claim(path, self._held)
        if not self._beat.is_alive():
            self._beat.start()
        return claim

    def close(self) -> None:
        """Release what is still held."""
        self._stop.set()
        for path in list(self._held):
            Claim(path, self._held).release()

    def _highest(self, job: str) -> _Seen | None:
        generations = [_generation(path) for path in self._folder.glob(f"{job}.*")]
        while generations:
            generation = max(generations)
            if (seen := self._look(job, generation)) is not None:
                return seen
            generations.remove(generation)  # its owner has just finished
        return None

    def _look(self, job: str, generation: int) -> _Seen | None:
        path = self._folder / f"{job}.{generation}"
        try:
            return _Seen(generation, read_limited(path, _LONGEST), path.stat().st_mtime_ns)
        except OSError:
            return None

    def _counts(self, job: str, generation: int, before: _Seen | None) -> bool:
        """Whether ours is the highest generation, and follows the claim that was found dead."""
        highest = self._highest(job)
        if highest is None or highest.generation != generation:
            return False
        now = None if before is None else self._look(job, before.generation)
        return now is None or before is None or now.text == before.text

    def _is_dead(self, job: str, seen: _Seen) -> bool:
        if _has_ended(seen.text):
            return True
        now = self._now()
        known, since = self._silent.get(job, (None, now))
        self._silent[job] = (seen, since if known == seen else now)
        return known == seen and now - since > SILENCE

    def _touch_all(self) -> None:
        while not self._stop.wait(BEAT):
            for path in list(self._held):
                with suppress(OSError):
                    os.utime(path)


class Claim:
    """A claim that this process holds; leaving its block releases it."""

    def __init__(self, path: Path, held: set[Path]) -> None:
        self._path, self._held = path, held
        held.add(path)

    def release(self) -> None:
        """Give the job free, with the claims of the dead below it."""
        self._held.discard(self._path)
        job, own = self._path.stem, _generation(self._path)
        for path in sorted(self._path.parent.glob(f"{job}.*"), key=_generation):
            if _generation(path) <= own:
                with suppress(OSError):
                    path.unlink()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _generation(path: Path) -> int:
    text = path.suffix[1:]
    return int(text) if text.isdecimal() else -1


def _create(path: Path) -> bool:
    """Create a claim; False if another process was faster."""
    try:
        file = path.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(_owner())
    except OSError:  # the disk is full
        path.unlink(missing_ok=True)
        raise
    return True


def _owner() -> bytes:
    owner = {"token": secrets.token_hex(8), "process": os.getpid(), "where": _where()}
    return json.dumps(owner).encode("ascii")


def _has_ended(text: bytes) -> bool:
    """Whether the owner was a process of this machine that has ended. Of others only their silence tells."""
    owner = _parsed(text)
    process, where = owner.get("process"), owner.get("where")
    if where is None or where != _where() or not isinstance(process, int) or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        owner = parse_json(text)
    except ValueError:  # it is being written
        return {}
    return owner if isinstance(owner, dict) else {}


def _where() -> str | None:
    """This machine since it was started, and its container; None where processes cannot be asked after."""
    if os.name != "posix":
        return None
    with suppress(OSError):
        boot = read_limited(Path("/proc/sys/kernel/random/boot_id"), _LONGEST).decode("ascii").strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    return socket.gethostname()
