"""A process that gives inputs to one surface and watches what they do."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import click

from motion_module import AnimateDiffError

from .mutators import Mutator

_ADDRESS_SPACE = 6 * 2**30  # beyond it, allocations fail instead of stopping the machine
_OPEN_FILES = 50  # more than at the beginning: they are not closed
_LONGEST = 4000  # characters of a message
_OF_CLICK = (click.ClickException, click.exceptions.Exit, click.Abort)
_WRITES = ("open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
_FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "socket.bind")


@dataclass(frozen=True)
class Limits:
    """What one input may cost: seconds, and bytes of memory."""

    seconds: float = 10.0
    memory: int = 2 * 2**30


@dataclass(frozen=True)
class Surface:
    """One door for what comes from outside.

    Attributes:
        name: its name on the command line.
        seeds: makes the valid inputs that are changed; it may write into the folder.
        change: makes an input from them.
        run: gives an input to the code. It may write into the folder.
        corpus: further inputs that each run begins with, and that are not changed.
    """

    name: str
    seeds: Callable[[Path], Sequence[bytes]]
    change: Mutator
    run: Callable[[bytes, Path], None]
    corpus: Sequence[bytes] = ()

    def input(self, number: int, seed: int, seeds: Sequence[bytes]) -> bytes:
        """The input with this number; the first ones are the seeds and the corpus themselves."""
        known = [*seeds, *self.corpus]
        return known[number] if number < len(known) else self.change(Random(f"{self.name} {seed} {number}"), seeds)


@dataclass(frozen=True)
class Finding:
    """What an input did that it must not do."""

    surface: str
    number: int
    what: str
    data: bytes


class Watch:
    """Notes writes outside a folder, programs that are started, connections, memory and open files of this process.

    An audit hook cannot be removed: only a process that ends afterwards may have one.
    """

    def __init__(self, folder: Path, memory: int) -> None:
        self._most = memory
        self._folder = str(folder.resolve())
        self._seen: list[str] = []
        self._memory = peak_memory()
        self._files = open_files()
        sys.addaudithook(self._note)

    def problem(self) -> str | None:
        """The first thing noticed since the last call."""
        if self._seen:
            seen = self._seen[0]
            self._seen.clear()
            return seen
        if (used := peak_memory() - self._memory) > self._most:
            self._memory += used
            return f"{used >> 20} MiB of memory"
        if (left := open_files() - self._files) > _OPEN_FILES:
            self._files += left
            return f"{left} files are left open"
        return None

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _FORBIDDEN:
            self._seen.append(f"{event} {arguments!r:.200}")
        elif event in _WRITES and not _changes_nothing(event, arguments):
            paths = [os.fsdecode(path) for path in arguments[:2] if isinstance(path, (str, bytes, os.PathLike))]
            paths = paths[:1] if event in ("open", "os.mkdir", "os.chmod") else paths
            outside = [path for path in paths if path != os.devnull and not self._holds(path)]
            self._seen.extend(f"{event} outside: {path}" for path in outside)

    def _holds(self, path: str) -> bool:
        return Path(self._folder) in (real := Path(os.path.realpath(path)), *real.parents)


def work(surface: Surface, seed: int, first: int, seconds: float, memory: int, counts: Any, pipe: Connection) -> None:
    """Give inputs to a surface until the time is over; the first ones again if ``first`` is 0.

    Args:
        surface: the door.
        seed: another one gives other inputs.
        first: number of the first input.
        seconds: how long.
        memory: bytes that one input may cost.
        counts: shared: number of the input under way, when it began (ns), inputs taken, inputs refused,
            how many are run in any case.
        pipe: takes a `Finding`, or None at the end.
    """
    _limit_address_space()
    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    tempfile.tempdir = str(folder)
    os.chdir(folder)
    try:
        seeds = surface.seeds(folder)
        run_once(surface, seeds[0], folder)  # imports what it needs: that is not the inputs' memory
        counts[4] = len(seeds) + len(surface.corpus)
        watch = Watch(folder, memory)
        end = time.monotonic() + seconds
        for number in count(first):
            if number >= counts[4] and time.monotonic() > end:
                break
            data = surface.input(number, seed, seeds)
            counts[:2] = number, time.monotonic_ns()
            what, taken = run_once(surface, data, folder)
            counts[2 if taken else 3] += 1
            if what := what or watch.problem():
                pipe.send(Finding(surface.name, number, what, data))
        counts[1] = 0
        pipe.send(None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_once(surface: Surface, data: bytes, folder: Path) -> tuple[str | None, bool]:
    """What went wrong, and whether the input was taken."""
    try:
        surface.run(data, folder)
    except AnimateDiffError as error:
        return (f"a message of {len(str(error))} characters" if len(str(error)) > _LONGEST else None), False
    except _OF_CLICK:
        return None, False
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "_animatediff" in frame.filename or "motion_module" in frame.filename]
        place = (ours or frames)[-1]
        return f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:200]!r}", False
    return None, True


def peak_memory() -> int:
    """The most memory that this process has had so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def open_files() -> int:
    """How many files this process has open; 0 where the system does not tell."""
    folder = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def _limit_address_space() -> None:
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _changes_nothing(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a file is only read, or a folder is made that there is."""
    return (event == "open" and not _writes(arguments)) or (event == "os.mkdir" and Path(arguments[0]).is_dir())


def _writes(arguments: tuple[Any, ...]) -> bool:
    _path, mode, flags = arguments
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
