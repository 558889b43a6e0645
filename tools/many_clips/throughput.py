"""How many clips two workers finish in a second, beside one. Each of them computes with one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .runs import RenderRun, write_manifest

LEAST = 1.8  # times as many
_SIZE = {"frames": 16, "steps": 4}  # long enough that writing and handing out do not decide
_DONE = 0


def check_throughput(folder: Path, rows: int) -> dict[str, Any]:
    """Render with one worker and with two; returns a report with a list of problems."""
    rates, problems = list[float](), list[str]()
    for workers, devices in ((1, "cpu"), (2, "cpu:2")):
        shots = [{"prompt": "a red disc", "seed": number, **_SIZE} for number in range(rows)]
        manifest = write_manifest(folder / f"{workers}.jsonl", shots)
        run = RenderRun(manifest, "--output", folder / str(workers), "--devices", devices)
        code, _ = run.wait()
        if code != _DONE:
            problems.append(f"{workers} workers: exit code {code}")
        rates.append(run.clips_per_second)
    ratio = rates[1] / rates[0]
    if ratio < LEAST:
        problems.append(f"two workers finish {ratio:.2f} times as many clips as one")
    return {
        "rows": rows,
        "clips per second": [round(rate, 3) for rate in rates],
        "ratio": round(ratio, 2),
        "problems": problems,
    }
