"""Surfaces for fuzzing that do what they must not, one thing each; an input of b"bad" brings it about."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from motion_module import ClipError
from tools.fuzz.worker import Limits, Surface

LIMITS = Limits(seconds=3, memory=2**27)  # small ones: slow machines fill memory slowly
_kept = []


def _hang(_folder: Path) -> None:
    time.sleep(60)


def _end(_folder: Path) -> None:
    os._exit(3)


def _fail(_folder: Path) -> None:
    raise KeyError("key")


def _fill(_folder: Path) -> None:
    _kept.append(b"\1" * (2 * LIMITS.memory))


def _write(folder: Path) -> None:
    (folder.parent / f"{folder.name}-outside").write_text("")
    (folder.parent / f"{folder.name}-outside").unlink()


def _start(_folder: Path) -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def _leave_open(folder: Path) -> None:
    _kept.extend((folder / "file").open("w") for _ in range(60))


def _refuse(_folder: Path) -> None:
    raise ClipError("refused")


def _accept(folder: Path) -> None:
    (folder / "inside").write_text("")


WRONG = {
    "hang": (_hang, "no end after 3 seconds"),
    "end": (_end, "the process ended with 3"),
    "fail": (_fail, "KeyError at bad_surfaces.py"),
    "fill": (_fill, "MiB of memory"),
    "write": (_write, "open outside"),
    "start": (_start, "subprocess.Popen"),
    "leave open": (_leave_open, "files are left open"),
}
RIGHT = {"refuse": _refuse, "accept": _accept}


def _seeds(_folder: Path) -> list[bytes]:
    return [b"good", b"bad", b"good"]


def _run(what, data: bytes, folder: Path) -> None:
    if data == b"bad":
        what(folder)


def _same(_random, seeds) -> bytes:
    return seeds[0]


def surface(name: str) -> Surface:
    """A surface by name."""
    does = RIGHT.get(name) or WRONG[name][0]
    return Surface(name, _seeds, _same, partial(_run, does))
