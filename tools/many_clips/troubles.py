"""What can happen to the place of a run: the disk, the folder, the clock, another run."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .runs import RenderRun, clips_in, differing, failures_in, write_manifest

_ROWS = [{"prompt": "a red disc", "seed": number} for number in range(12)]
_BAD = {"prompt": "a disc", "sampler": "eule"}
_SMALL_DISK = "64k"  # too small for the clips, and for their index

# Imported by each Python process whose path has it: the clock of the day goes back by an hour with every look at it,
# and so do the times of files that are touched.
_CLOCK = """
import os, time
_time, _utime, _looks = time.time, os.utime, [0]
def back():
    _looks[0] += 1
    return _time() - 3600.0 * _looks[0]
def touch(path, times=None, **more):
    return _utime(path, (back(), back()) if times is None and not more else times, **more)
time.time, os.utime = back, touch
"""


def check_troubles(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Each trouble with what happened; the report has a list of problems."""
    manifest = write_manifest(folder / "shots.jsonl", [*_ROWS, _BAD])
    _, alone = RenderRun(manifest, "--output", folder / "alone").wait()
    report: dict[str, Any] = {"alone": alone.get("clips"), "problems": {}}
    for name in names:
        seen, problems = _CHECKS[name](manifest, folder)
        report[name] = seen
        if problems:
            report["problems"][name] = problems
    return report


def _two_runs(manifest: Path, folder: Path) -> tuple[Any, list[str]]:
    place = folder / "two"
    runs = [RenderRun(manifest, "--output", place) for _ in range(2)]
    ended = [run.wait() for run in runs]
    rendered = [summary["rendered"] for _, summary in ended]
    problems = _differences(place, folder)
    if [code for code, _ in ended] != [3, 3]:
        problems.append(f"exit codes {[code for code, _ in ended]}")
    if sum(rendered) != len(_ROWS):
        problems.append(f"{rendered} clips were rendered instead of {len(_ROWS)} together")
    if [one["code"] for one in failures_in(place)] != ["AD-M27"]:
        problems.append("the bad row is not named once")
    return {"rendered by each": rendered}, problems


def _full_disk(manifest: Path, folder: Path) -> tuple[Any, list[str]]:
    with _disk(folder, _SMALL_DISK) as place:
        run = RenderRun(manifest, "--output", place / "clips")
        code, _ = run.wait()
        left = [path.name for path in place.rglob(".animatediff-*.part")]
        there = len(clips_in(place / "clips"))
        subprocess.run(["mount", "-o", "remount,size=16m", str(place)], check=True)
        again, second = RenderRun(manifest, "--output", place / "clips").wait()
        problems = _differences(place / "clips", folder)
    if len(run.errors()) != 1 or code not in (3, 4):
        problems.append(f"exit code {code}, {run.errors()}")
    if left:
        problems.append(f"unfinished files stay: {left}")
    if again != 3 or second.get("rendered") != len(_ROWS) - there:
        problems.append(f"the same command ended with {again}, {second}")
    return {"sentence": run.errors(), "clips before": there, "rendered after": second.get("rendered")}, problems


def _read_only(manifest: Path, folder: Path) -> tuple[Any, list[str]]:
    with _disk(folder, "16m") as place:
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        before = RenderRun(manifest, "--output", place / "clips")
        code, _ = before.wait()
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        during = RenderRun(manifest, "--output", place / "clips")
        while during.is_running and during.ended < 3:
            pass
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=False)
        code_during, summary = during.wait()
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        again, _ = RenderRun(manifest, "--output", place / "clips").wait()
        problems = _differences(place / "clips", folder)
    sentences = [*before.errors(), *during.errors()]
    if code != 4 or len(before.errors()) != 1:
        problems.append(f"before: exit code {code}, {before.errors()}")
    if code_during not in (3, 4) or len(during.errors()) > 1:
        problems.append(f"during: exit code {code_during}, {during.errors()}")
    if again != 3:
        problems.append(f"the same command ended with {again}")
    return {"sentences": sentences, "clips before": summary.get("clips")}, problems


def _clock_back(manifest: Path, folder: Path) -> tuple[Any, list[str]]:
    place = folder / "back"
    with tempfile.TemporaryDirectory() as modules:
        (Path(modules) / "sitecustomize.py").write_text(_CLOCK, encoding="utf-8")
        run = [RenderRun(manifest, "--output", place, environment={"PYTHONPATH": modules}) for _ in range(2)]
        ended = [one.wait() for one in run]
    problems = _differences(place, folder)
    rendered = [summary.get("rendered") for _, summary in ended]
    if [code for code, _ in ended] != [3, 3] or sum(filter(None, rendered)) != len(_ROWS):
        problems.append(f"exit codes {[code for code, _ in ended]}, rendered {rendered}")
    return {"rendered by each": rendered}, problems


_CHECKS: dict[str, Callable[[Path, Path], tuple[Any, list[str]]]] = {
    "two-runs": _two_runs,
    "full-disk": _full_disk,
    "read-only": _read_only,
    "clock-back": _clock_back,
}
TROUBLES = tuple(_CHECKS)


def _differences(place: Path, folder: Path) -> list[str]:
    return [f"other than alone: {name}" for name in differing(place, folder / "alone")]


@contextmanager
def _disk(folder: Path, size: str) -> Iterator[Path]:
    """A small disk in main memory."""
    place = folder / "disk"
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
