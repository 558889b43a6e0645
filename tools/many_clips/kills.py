"""Workers that are killed at random: each good row is one whole file, and each bad one is named."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from .runs import RenderRun, WatchedFiles, clips_in, differing, failures_in, write_manifest

_BAD: tuple[dict[str, object] | str, ...] = (
    {"prompt": "a disc", "sampler": "eule"},
    '{"prompt": ',
    {"promt": "a disc"},
    {"prompt": "a disc", "steps": 0},
    {"prompt": "a disc", "checkpoint": "nothing.safetensors", "motion": "nothing.ckpt"},
)
_SOON = 1.0  # seconds after a clip in which a worker is killed
_LOOK = 0.05  # seconds


def check_kills(folder: Path, rows: int, bad: float, kills: int, workers: int, seed: int) -> dict[str, Any]:
    """Render with workers that are killed, then alone; returns a report with a list of problems."""
    chance = random.Random(seed)
    bad_rows = round(rows * bad)
    good = [{"prompt": f"a {chance.choice(['red', 'blue'])} disc", "seed": number} for number in range(rows - bad_rows)]
    mixed = [*good, *(_BAD[number % len(_BAD)] for number in range(bad_rows))]
    chance.shuffle(mixed)
    manifest = write_manifest(folder / "shots.jsonl", mixed)

    watched, begun = WatchedFiles(folder / "killed"), time.monotonic()
    run = RenderRun(manifest, "--output", folder / "killed", "--devices", f"cpu:{workers}")
    killed = _kill(run, sorted(chance.randrange(len(good) - workers) for _ in range(kills)), chance)
    code, summary = run.wait()
    seconds = time.monotonic() - begun
    written = watched.stop()

    alone = RenderRun(manifest, "--output", folder / "alone", "--devices", "cpu")
    alone_code, _ = alone.wait()

    named = sorted(str(one["row"]) for one in failures_in(folder / "killed"))
    # The first line has the defaults.
    wrong = sorted(f"line {number}" for number, row in enumerate(mixed, 2) if row in _BAD)
    problems = {
        "exit codes": [] if (code, alone_code) == (3, 3) else [code, alone_code],
        "kills that were not made": [kills - killed] if killed < kills else [],
        "files": [] if len(clips_in(folder / "killed")) == len(good) else [len(clips_in(folder / "killed"))],
        "written twice": [name for name, times in written.items() if times > 1],
        "said twice": _twice(run.lines),
        "bad rows": [] if named == wrong else [sorted(set(named) ^ set(wrong))],
        "other than alone": differing(folder / "killed", folder / "alone"),
        "claims left": [path.name for path in (folder / "killed" / ".animatediff-claims").glob("*")],
    }
    return {
        "rows": rows,
        "good": len(good),
        "bad": bad_rows,
        "workers": workers,
        "kills": killed,
        "seconds": round(seconds),
        "summary": {name: value for name, value in summary.items() if name not in ("folder", "files")},
        "problems": {name: found for name, found in problems.items() if found},
    }


def _kill(run: RenderRun, after: list[int], chance: random.Random) -> int:
    """Kill a worker a moment after each of these numbers of clips; returns how many were killed."""
    killed = 0
    while run.is_running and killed < len(after):
        alive = run.workers()
        if alive and run.ended >= after[killed]:
            time.sleep(chance.uniform(0, _SOON))
            try:
                os.kill(chance.choice(run.workers() or alive), signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed += 1
        time.sleep(_LOOK)
    return killed


def _twice(lines: list[str]) -> list[str]:
    """Files of which a run says twice that they are there."""
    said = [line.partition("] ")[2].partition(" (")[0] for line in lines if line.startswith("[")]
    return sorted({name for name in said if said.count(name) > 1})
