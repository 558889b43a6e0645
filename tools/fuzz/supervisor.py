"""Runs surfaces in processes of their own, ends those that hang, starts them again, and keeps what they found."""

from __future__ import annotations

import hashlib
import multiprocessing
import multiprocessing.connection
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .worker import Finding, Limits, Surface, work

_POLL = 0.2
_START = 60.0  # seconds for imports and seeds
# Processes are copied from one that has imported everything: they begin at once, and their memory is their own.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tools.fuzz.surfaces"])


@dataclass
class Outcome:
    """What became of a surface's inputs.

    Attributes:
        taken, refused: numbers of inputs that were accepted, and that were answered with an error of ours.
        findings: one of each sort.
        repeated: how often each sort was seen.
    """

    taken: int = 0
    refused: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)
    repeated: Counter[str] = field(default_factory=Counter)

    @property
    def inputs(self) -> int:
        """All inputs."""
        return self.taken + self.refused + sum(self.repeated[kind] for kind in self.repeated if kind.startswith("!"))

    def add(self, finding: Finding, *, lost: bool = False) -> None:
        """Note a finding; of those that differ in numbers only, the shortest input is kept.

        Args:
            finding: what was found.
            lost: the process ended, so that the input is in neither number.
        """
        kind = ("!" if lost else "") + finding.what.partition(": ")[0]
        self.repeated[kind] += 1
        if kind not in self.findings or len(finding.data) < len(self.findings[kind].data):
            self.findings[kind] = finding


class _Running:
    """A process at work on a surface."""

    def __init__(self, surface: Surface, seed: int, first: int, seconds: float, limits: Limits) -> None:
        self.surface, self.seed, self.limits = surface, seed, limits
        self.counts: Any = _context.RawArray("q", [first, time.monotonic_ns() + int(_START * 1e9), 0, 0, 0])
        self.end = time.monotonic() + seconds
        self.pipe, theirs = _context.Pipe(duplex=False)
        self.process = _context.Process(
            target=work, args=(surface, seed, first, seconds, limits.memory, self.counts, theirs), daemon=True
        )
        self.process.start()
        theirs.close()

    def hangs(self) -> bool:
        """Whether the input under way takes too long."""
        began = self.counts[1]
        return bool(began) and time.monotonic_ns() - began > self.limits.seconds * 1e9

    def stop(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()


def supervise(
    surfaces: Sequence[Surface], seconds: float, *, workers: int = 2, seed: int = 0, limits: Limits | None = None
) -> dict[str, Outcome]:
    """Give each surface an equal share of the time.

    Args:
        surfaces: the doors.
        seconds: time for all of them.
        workers: processes at once.
        seed: another one gives other inputs.
        limits: of one input.
    """
    outcomes = {surface.name: Outcome() for surface in surfaces}
    share = seconds * workers / len(surfaces)
    waiting = [(surface, 0, share) for surface in reversed(surfaces)]
    running: list[_Running] = []
    while waiting or running:
        while waiting and len(running) < workers:
            surface, first, left = waiting.pop()
            running.append(_Running(surface, seed, first, left, limits or Limits()))
        multiprocessing.connection.wait([one.pipe for one in running], timeout=_POLL)
        for one in list(running):
            outcome = outcomes[one.surface.name]
            if not _serve(one, outcome):
                continue
            running.remove(one)
            outcome.taken += one.counts[2]
            outcome.refused += one.counts[3]
            left = one.end - time.monotonic()
            if one.process.exitcode != 0 and (left > 1 or one.counts[0] + 1 < one.counts[4]):
                waiting.append((one.surface, one.counts[0] + 1, left))
    return outcomes


def _serve(one: _Running, outcome: Outcome) -> bool:
    """Take what a process has found; True if it has ended or was ended."""
    try:
        while one.pipe.poll():
            finding = one.pipe.recv()
            if finding is None:
                one.process.join()
                return True
            outcome.add(finding)
    except EOFError:
        one.process.join()
        outcome.add(_about_input(one, f"the process ended with {one.process.exitcode}"), lost=True)
        return True
    if one.hangs():
        one.stop()
        outcome.add(_about_input(one, f"no end after {one.limits.seconds:g} seconds"), lost=True)
        return True
    return False


def _about_input(one: _Running, what: str) -> Finding:
    number = one.counts[0]
    with tempfile.TemporaryDirectory() as folder:
        data = one.surface.input(number, one.seed, one.surface.seeds(Path(folder)))
    return Finding(one.surface.name, number, what, data)


def keep(outcomes: dict[str, Outcome], folder: Path) -> list[Path]:
    """Write the inputs of all findings to ``folder/SURFACE/HASH``, with what they did in a text file beside them."""
    kept = []
    for name, outcome in outcomes.items():
        for finding in outcome.findings.values():
            path = folder / name / hashlib.sha256(finding.data).hexdigest()[:12]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(finding.data)
            path.with_suffix(".txt").write_text(
                f"input {finding.number}: {finding.what}\n", encoding="utf-8", errors="backslashreplace"
            )
            kept.append(path)
    return kept
