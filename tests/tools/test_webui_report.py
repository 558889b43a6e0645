"""The page of what a real WebUI has shown: written as a whole, and renewed in part."""

from __future__ import annotations

from types import SimpleNamespace

from tools.webui_report import LEVELS, NOT_SHOWN, Report, rows_of

UNSHOWN = {sentence: (f"not proven: {reason}", "") for sentence, reason in NOT_SHOWN.items()}


def run(path, outcomes, *, renew=False, levels=()):
    """A run of tests, each with the sentence that it shows, and what came of it."""
    report = Report(path, renew=renew)
    items = [
        SimpleNamespace(
            name=name,
            nodeid=f"real/test_{name}.py::{name}",
            iter_markers=lambda _kind, said=said: [SimpleNamespace(args=[said])],
        )
        for name, (said, _) in outcomes.items()
    ]
    report.pytest_collection_finish(SimpleNamespace(items=items))
    for item, (_, end) in zip(items, outcomes.values(), strict=True):
        properties = [(LEVELS, level) for level in levels]
        told = SimpleNamespace(nodeid=item.nodeid, outcome=end, when="call", user_properties=properties)
        told.failed, told.skipped = end == "failed", False
        report.pytest_runtest_logreport(told)
    report.pytest_sessionfinish()
    return path.read_text()


def test_a_part_that_runs_again_renews_its_lines_alone(tmp_path):
    path = tmp_path / "page.md"
    one, two, three = "A: one", "A: two", "B: three"
    ran = {"a": (one, "passed"), "b": (two, "failed"), "c": (two, "passed"), "d": (three, "failed")}
    whole = run(path, ran, levels=[(("Euler", "txt2img"), 0.25)])
    assert "tests: 2 passed, 2 failed." in whole
    assert "| Euler | 0.250 |" in whole
    page = run(path, {"d": (three, "passed")}, renew=True)
    shown = {one: ("proven", "`a`"), two: ("**FAILED**", "`b`, `c`"), three: ("proven", "`d`")}
    assert rows_of(page) == shown | UNSHOWN
    assert "tests: 2 passed, 2 failed." in page
    assert "tests of test_d, run again after changes: 1 passed, 0 failed." in page
    assert "| Euler | 0.250 |" in page
    assert "Failed: `real/test_b.py::b`" in page
    assert "Failed: `real/test_d.py::d`" not in page


def test_noise_levels_of_a_part_join_the_others(tmp_path):
    path = tmp_path / "page.md"
    levels = [(("Euler", "txt2img"), 0.25), (("Euler", "img2img"), 0.5), (("DDIM", "txt2img"), 0.125)]
    run(path, {"a": ("A: one", "passed")}, levels=levels)
    page = run(path, {"b": ("A: two", "passed")}, renew=True, levels=[(("Euler", "hires"), 0.1), levels[1]])
    table = page.partition("## Noise levels")[2]
    assert "| txt2img | img2img | hires |" in table
    assert "| Euler | 0.250 | 0.500 | 0.100 |" in table
    assert "| DDIM | 0.125 |  |  |" in table
    assert "txt2img" not in run(path, {"a": ("A: one", "passed")})
