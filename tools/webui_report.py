"""Writes what the end-to-end tests have shown as a page: each promise with its outcome, a skipped one as not proven.

A test says which promises it shows: `@pytest.mark.shows("Batching: batch count")`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest

NO_GPU = "needs a graphics card; the tests ran on a CPU"
NOT_SHOWN = {
    "Batching: image CFG (InstructPix2Pix) refused": (
        "needs such a checkpoint; the refusal is held by tests/hosts/webui/double/test_refusals.py"
    ),
    "Passes: xformers, half precision on the card, MPS": NO_GPU,
    "Panel: says: missing codec": (
        "every library is there; tests/hosts/webui/double/test_panel.py holds the line on a double of the WebUI"
    ),
    "Install, update, disable, uninstall: Windows paths and locks": (
        "needs Windows; tests/video/test_faults.py holds the retry of a locked file with a simulated one"
    ),
    "Files: codecs and speeds of graphics cards": NO_GPU,
}
INTRODUCTION = """\
# What was seen on a real {program}

Written by `{command}`, which starts {started}, uses it through its API and in a browser, and reads the files
that it makes. Checkpoints, motion modules, LoRA, embedding and hypernetwork are small and random, save for the built-in
model, which was trained: the page shows what works, not how it looks. An item that did not run is not proven.
"""
WEBUI = "WebUI"  # AUTOMATIC1111's
_HEADLINE = re.compile(r"^[-0-9]{10}, .*: tests.*$", re.MULTILINE)
_FAILED = re.compile(r"^Failed: `(.*)`$", re.MULTILINE)
_LEVEL_TABLE = re.compile(r"\n## Noise levels\n.*(?:\|\n)", re.DOTALL)
Levels = dict[tuple[str, str], float]  # (sampler and schedule type, pass): largest difference
ROW = re.compile(r"^\| (proven|not proven(?:: .*?)?|\*\*FAILED\*\*) \| (.*?) \| (.*?) \|$", re.MULTILINE)


@dataclass
class Promise:
    """A sentence, the tests that show it, and what came of those that ran."""

    tests: list[str] = field(default_factory=list)
    outcomes: set[str] = field(default_factory=set)
    reasons: set[str] = field(default_factory=set)

    def outcome(self) -> str:
        if "failed" in self.outcomes:
            return "**FAILED**"
        if self.outcomes == {"passed"}:
            return "proven"
        return f"not proven: {'; '.join(sorted(self.reasons)) or 'its tests did not run'}"


def rows_of(page: str) -> dict[str, tuple[str, str]]:
    """Of a page that was written before: outcome and tests of each sentence."""
    return {sentence: (outcome, tests) for outcome, sentence, tests in ROW.findall(page)}


def _version(program: str) -> str:
    """What the installation at WEBUI_DIR calls itself; outside of git its change log is all that says it.

    The change log of Forge and reForge is the WebUI's.
    """
    if program != WEBUI:
        return program
    changes = Path(os.environ.get("WEBUI_DIR", "")) / "CHANGELOG.md"
    version = re.search(r"^## (\S+)", changes.read_text(encoding="utf-8"), re.MULTILINE) if changes.is_file() else None
    return f"WebUI {version[1]}" if version else "no WebUI"


def _introduction(program: str, path: Path) -> str:
    if program == WEBUI:
        return INTRODUCTION.format(program=program, command="make test-webui", started="a WebUI 1.10")
    command = f"python -m pytest tests/hosts/webui/real --report-to docs/{path.name}"
    return INTRODUCTION.format(program=program, command=command, started=f"the {program} in `WEBUI_DIR`")


def _renewed(promise: Promise, outcome: str, tests: str) -> tuple[str, str]:
    """The row of a promise of which some tests, or none, ran again."""
    others = [name for name in tests.replace("`", "").split(", ") if name and name not in promise.tests]
    names = ", ".join(f"`{name}`" for name in [*others, *promise.tests])
    keeps_failure = others and outcome != "proven"
    return (outcome if keeps_failure or not promise.outcomes else promise.outcome()), names


LEVELS = "noise levels"  # a test's property: ((sampler and schedule type, pass), largest difference)


class Report:
    """A pytest plugin that collects outcomes and writes them at the end.

    Args:
        path: of the page.
        renew: keep what the page says of promises whose tests are not in this run.
        program: that ran: the WebUI, Forge or reForge.
    """

    def __init__(self, path: Path, *, renew: bool = False, program: str = WEBUI) -> None:
        self._path = path
        self._program = program
        self._renew = renew
        self._promises: dict[str, Promise] = {}
        self._shown_by: dict[str, list[Promise]] = {}
        self._ended: dict[str, str] = {}
        self._levels: Levels = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            name = item.name.partition("[")[0]
            for mark in item.iter_markers("shows"):
                for sentence in mark.args:
                    promise = self._promises.setdefault(sentence, Promise())
                    promise.tests += [] if name in promise.tests else [name]
                    self._shown_by.setdefault(item.nodeid, []).append(promise)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not (report.failed or report.skipped or report.when == "call"):
            return
        self._ended[report.nodeid] = report.outcome
        self._levels.update(dict(value for name, value in report.user_properties if name == LEVELS))
        for promise in self._shown_by.get(report.nodeid, ()):
            promise.outcomes.add(report.outcome)
            if report.skipped:
                promise.reasons.add(report.longrepr[2].removeprefix("Skipped: "))

    def pytest_sessionfinish(self) -> None:
        if self._ended:
            self._path.write_text("\n".join(self._lines()) + "\n", encoding="utf-8")

    def _lines(self) -> Iterator[str]:
        page = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        former = rows_of(page)
        yield _introduction(self._program, self._path)
        yield from self._headlines(page)
        yield from ("", "## Sentence by sentence", "", "| Outcome | Promise | Shown by |", "|---|---|---|")
        sentences = dict.fromkeys([*former, *self._promises, *NOT_SHOWN])
        chapters = list(dict.fromkeys(sentence.partition(":")[0] for sentence in sentences))
        for sentence in sorted(sentences, key=lambda sentence: chapters.index(sentence.partition(":")[0])):
            promise = self._promises.get(sentence, Promise())
            outcome, tests = promise.outcome(), ", ".join(f"`{name}`" for name in promise.tests)
            if sentence in NOT_SHOWN:
                outcome = f"not proven: {NOT_SHOWN[sentence]}"
            elif self._renew and sentence in former:
                outcome, tests = _renewed(promise, *former[sentence])
            yield f"| {outcome} | {sentence} | {tests} |"
        yield from _level_table({**(_levels_of(page) if self._renew else {}), **self._levels})
        yield from (f"\nFailed: `{test}`" for test, end in self._ended.items() if end == "failed")
        if self._renew:
            yield from (f"\nFailed: `{test}`" for test in _FAILED.findall(page) if test not in self._ended)

    def _headlines(self, page: str) -> Iterator[str]:
        outcomes = list(self._ended.values())
        counts = ", ".join(f"{outcomes.count(end)} {end}" for end in ("passed", "failed"))
        of_whole = f"{date.today():%Y-%m-%d}, {_version(self._program)}: tests"
        if not self._renew:
            yield f"{of_whole}: {counts}."
            return
        yield from _HEADLINE.findall(page)
        files = sorted({Path(test.partition("::")[0]).stem for test in self._ended})
        yield f"{of_whole} of {', '.join(files)}, run again after changes: {counts}."


def _levels_of(page: str) -> Levels:
    """The largest differences in the table of a page that was written before."""
    match = _LEVEL_TABLE.search(page)
    if not match:
        return {}
    head, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in match[0].splitlines() if "|" in line)
    return {(row[0], name): float(cell) for row in rows for name, cell in zip(head[1:], row[1:], strict=True) if cell}


def _level_table(levels: Levels) -> Iterator[str]:
    if not levels:
        return
    passes = list(dict.fromkeys(name for _, name in levels))
    yield from ("", "## Noise levels", "")
    yield "Largest difference between the timestep at the UNet and that of the sampler's noise level in the"
    yield from ("motion module's noise schedule.", "")
    yield from (f"| Sampler, schedule type | {' | '.join(passes)} |", "|---" * (len(passes) + 1) + "|")
    for sampler in dict.fromkeys(name for name, _ in levels):
        found = [levels.get((sampler, name)) for name in passes]
        cells = ["" if value is None else f"{value:.3f}" for value in found]
        yield f"| {sampler} | {' | '.join(cells)} |"
