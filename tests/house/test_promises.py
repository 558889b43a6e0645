"""What docs/webui-tests.md promises of the WebUI is what the tests of a real one say that they show."""

from __future__ import annotations

import ast
from pathlib import Path

from tools import hosts_page
from tools.webui_report import NOT_SHOWN, rows_of

ROOT = Path(__file__).parents[2]


def shown() -> set[str]:
    """The sentences of all marks: `@pytest.mark.shows("...")`."""
    calls = [
        node
        for path in (ROOT / "tests" / "hosts" / "webui" / "real").glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.shows"
    ]
    return {ast.literal_eval(argument) for call in calls for argument in call.args}


def test_every_promise_has_a_test_or_a_reason_and_none_is_forgotten():
    promised = rows_of((ROOT / "docs" / "webui-tests.md").read_text(encoding="utf-8")).keys()
    assert shown() | NOT_SHOWN.keys() == promised, "run `make test-webui`, or put the sentence into the page"
    assert not shown() & NOT_SHOWN.keys()


def test_the_table_of_hosts_is_that_of_the_pages():
    page = hosts_page.PAGE.read_text(encoding="utf-8")
    assert page == hosts_page.written(page), "run `python -m tools.hosts_page`"
