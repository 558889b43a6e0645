"""Writes what the end-to-end tests have shown as a page: each item with its outcome, a skipped one as not proven."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

OUTCOMES = {"passed": "proven", "failed": "**FAILED**", "skipped": "not proven"}
INTRODUCTION = """\
# What was seen on a real WebUI

Written by `make test-webui`, which starts a WebUI 1.10, uses it through its API and in a browser, and reads the files
that it makes. Checkpoints, motion modules, LoRA, embedding and hypernetwork are small and random, save for the built-in
model, which was trained: the page shows what works, not how it looks. An item that did not run is not proven.
"""


@dataclass
class Item:
    """One test: what it says it shows, and what came of it."""

    group: str
    name: str
    claim: str
    outcome: str = "skipped"
    reason: str = ""

    def row(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"| {OUTCOMES[self.outcome]}{reason} | {self.claim} | `{self.name}` |"


def _webui_version() -> str:
    """What the installation at WEBUI_DIR calls itself; outside of git its change log is all that tells."""
    changes = Path(os.environ.get("WEBUI_DIR", "")) / "CHANGELOG.md"
    version = re.search(r"^## (\S+)", changes.read_text(encoding="utf-8"), re.MULTILINE) if changes.is_file() else None
    return f"WebUI {version[1]}" if version else "no WebUI"


class Report:
    """A pytest plugin that collects outcomes and writes them at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._items: dict[str, Item] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            claim = " ".join((item.function.__doc__ or item.name).split())
            group = (item.module.__doc__ or item.module.__name__).strip().splitlines()[0]
            self._items[item.nodeid] = Item(group, item.name, claim.replace("|", "\\|"))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        item = self._items[report.nodeid]
        if report.failed:
            item.outcome = "failed"
        elif report.skipped:
            item.outcome, item.reason = "skipped", report.longrepr[2].removeprefix("Skipped: ")
        elif report.when == "call":
            item.outcome = "passed"

    def pytest_sessionfinish(self) -> None:
        if self._items:
            self._path.write_text("\n".join(self._lines()) + "\n", encoding="utf-8")

    def _lines(self) -> Iterator[str]:
        items = list(self._items.values())
        count = {outcome: sum(item.outcome == outcome for item in items) for outcome in OUTCOMES}
        yield INTRODUCTION
        told = (f"{count[outcome]} {word.strip('*').lower()}" for outcome, word in OUTCOMES.items())
        yield f"{date.today():%Y-%m-%d}, {_webui_version()}: {', '.join(told)}."
        for group in dict.fromkeys(item.group for item in items):
            yield from ("", f"## {group}", "", "| Outcome | What | Test |", "|---|---|---|")
            yield from (item.row() for item in items if item.group == group)
