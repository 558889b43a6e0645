"""Runs of the command `render`, from outside, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEFAULTS = {"steps": 2, "frames": 2, "format": "apng"}
_OF_THE_RUN = ("contact-sheet", "index")
_LOOK = 0.2  # seconds between looks at the files


def write_manifest(path: Path, rows: Sequence[Mapping[str, object] | str]) -> Path:
    """A manifest of small clips of the built-in model. A row that is text is a line as it is."""
    lines = [{"defaults": DEFAULTS}, *rows]
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in lines), encoding="utf-8")
    return path


class RenderRun:
    """A run that is under way.

    Args:
        words: the options of `render`.
        environment: beside that of this process.
    """

    def __init__(self, manifest: Path, *words: object, environment: Mapping[str, str] | None = None) -> None:
        line = [sys.executable, "-m", "lib_animatediff", "render", manifest, "--json", *words]
        own = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})}
        if environment and "PYTHONPATH" in environment:
            own["PYTHONPATH"] = f"{environment['PYTHONPATH']}:{ROOT}"
        self.begun = time.monotonic()
        self._process = subprocess.Popen(
            list(map(str, line)), env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []  # what it has said so far
        self._ends: list[float] = []  # when clips have ended
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def ended(self) -> int:
        """How many clips have ended."""
        return sum(line.startswith("[") for line in self.lines)

    @property
    def clips_per_second(self) -> float:
        """From the first clip that has ended to the last, so that models are loaded."""
        return (len(self._ends) - 1) / (self._ends[-1] - self._ends[0])

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def workers(self) -> list[int]:
        """The processes that it has started to render, on Linux."""
        try:
            listed = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        except OSError:
            return []
        return [int(child) for child in listed if b"spawn_main" in _command_line(child)]

    def wait(self) -> tuple[int, dict[str, object]]:
        """The exit code, and the summary, once it has ended."""
        assert self._process.stdout is not None
        out = self._process.stdout.read()
        code = self._process.wait()
        self._reader.join()
        return code, json.loads(out) if out.strip() else {}

    def errors(self) -> list[str]:
        """The sentences with which it ended."""
        return [line for line in self.lines if line.startswith("Error: ")]

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.startswith("["):
                self._ends.append(time.monotonic())
            self.lines.append(line.rstrip("\n"))


class WatchedFiles:
    """Counts how often each clip of a folder was put in its place: each time it is another file.

    Args:
        folder: of the clips.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, set[int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, int]:
        """How often each file was written."""
        self._stop.set()
        self._thread.join()
        self._look()
        return {name: len(files) for name, files in self._seen.items()}

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK):
            self._look()

    def _look(self) -> None:
        for path in clips_in(self._folder):
            try:
                self._seen.setdefault(path.name, set()).add(path.stat().st_ino)
            except FileNotFoundError:
                continue


def clips_in(folder: Path) -> list[Path]:
    """The files of the clips."""
    return sorted(path for path in folder.glob("*.png") if not path.name.startswith((".", *_OF_THE_RUN)))


def failures_in(folder: Path) -> list[dict[str, object]]:
    """The rows of failed.jsonl."""
    path = folder / "failed.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def differing(one: Path, other: Path) -> list[str]:
    """The names of clips that only one of two folders has, or that differ in a byte."""
    first, second = ({path.name: path for path in clips_in(folder)} for folder in (one, other))
    both = first.keys() & second.keys()
    return sorted(
        [
            *(first.keys() ^ second.keys()),
            *(name for name in both if first[name].read_bytes() != second[name].read_bytes()),
        ]
    )


def _command_line(process: str) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
