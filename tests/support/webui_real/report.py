"""Writes what the end-to-end tests have shown as a page: each item with its outcome, a skipped one as not proven."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from support.webui_real.promises import PROMISES, Promise

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


ROW = re.compile(r"^\| (proven|not proven|\*\*FAILED\*\*)(?:: (.*?))? \| (.*) \| `(.*)` \|$")


def items_of(page: str) -> list[Item]:
    """The items of a page that was written before, so that a run of some tests can renew theirs alone."""
    found = []
    outcomes = {word: outcome for outcome, word in OUTCOMES.items()}
    chapters = page.partition("## Sentence by sentence")[2].split("\n## ")[1:]
    for chapter in chapters:
        group, _, rows = chapter.partition("\n")
        for row in filter(None, map(ROW.match, rows.splitlines())):
            word, reason, claim, name = row.groups()
            found.append(Item(group, name, claim, outcomes[word], reason or ""))
    return found


class Report:
    """A pytest plugin that collects outcomes and writes them at the end.

    Args:
        path: of the page.
        renew: keep what the page says of tests that are not in this run.
    """

    def __init__(self, path: Path, *, renew: bool = False) -> None:
        self._path = path
        self._renew = renew
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
        items = self._with_former(list(self._items.values()))
        count = {outcome: sum(item.outcome == outcome for item in items) for outcome in OUTCOMES}
        yield INTRODUCTION
        told = (f"{count[outcome]} {word.strip('*').lower()}" for outcome, word in OUTCOMES.items())
        yield f"{date.today():%Y-%m-%d}, {_webui_version()}: {', '.join(told)}."
        yield from self._promised(items)
        for group in dict.fromkeys(item.group for item in items):
            yield from ("", f"## {group}", "", "| Outcome | What | Test |", "|---|---|---|")
            yield from (item.row() for item in items if item.group == group)

    def _with_former(self, items: list[Item]) -> list[Item]:
        if not self._renew or not self._path.exists():
            return items
        renewed = {(item.group, item.name): item for item in items}
        former = items_of(self._path.read_text(encoding="utf-8"))
        kept = [renewed.pop((item.group, item.name), item) for item in former]
        return [*kept, *renewed.values()]

    def _promised(self, items: list[Item]) -> Iterator[str]:
        """Every sentence with its outcome: proven if all its tests have passed and none is missing."""
        yield from ("", "## Sentence by sentence", "", "| Outcome | Promise | Shown by |", "|---|---|---|")
        by_test: dict[str, list[Item]] = {}
        for item in items:
            by_test.setdefault(item.name.partition("[")[0], []).append(item)
        for promise in PROMISES:
            yield self._promise(promise, by_test)

    @staticmethod
    def _promise(promise: Promise, by_test: dict[str, list[Item]]) -> str:
        found = [item for name in promise.tests for item in by_test.get(name, [])]
        missing = [name for name in promise.tests if name not in by_test]
        outcomes = {item.outcome for item in found}
        told = "**FAILED**" if "failed" in outcomes else "proven"
        if promise.not_shown:
            told = f"not proven: {promise.not_shown}"
        elif told == "proven" and (missing or outcomes != {"passed"}):
            reasons = sorted({item.reason for item in found if item.reason}) or ["its tests did not run"]
            told = f"not proven: {'; '.join(reasons)}"
        names = ", ".join(f"`{name}`" for name in promise.tests)
        return f"| {told} | {promise.chapter}: {promise.sentence} | {names} |"
