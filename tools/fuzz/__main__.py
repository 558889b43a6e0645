"""Gives changed inputs to every door for what comes from outside.

    python -m tools.fuzz --minutes 10
    python -m tools.fuzz --minutes 1 --surface clip-gif --surface recipe
    python -m tools.fuzz --replay FILE --surface recipe

`tools.fuzz.guided` lets coverage choose the inputs.

Fails if an input crashes or hangs its process, takes more than 2 GB, raises an error that is not ours, writes outside
its folder, starts a program or leaves files open. Such inputs are written to build/fuzz. Needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .supervisor import Outcome, keep, supervise
from .surfaces import SURFACES
from .worker import run_once


def main() -> None:
    """Run what the arguments name; exits with 1 if anything was found."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--surface", action="append", choices=list(SURFACES), help="this one only; may be repeated")
    parser.add_argument("--workers", type=int, default=2, help="processes at once")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other inputs")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="folder for inputs with findings")
    parser.add_argument("--replay", type=Path, help="give this file to one surface")
    given = parser.parse_args()
    if given.replay:
        with tempfile.TemporaryDirectory() as folder:
            what, _ = run_once(SURFACES[given.surface[0]], given.replay.read_bytes(), Path(folder))
        sys.exit(what)
    else:
        surfaces = [SURFACES[name] for name in given.surface or SURFACES]
        outcomes = supervise(surfaces, 60 * given.minutes, workers=given.workers, seed=given.seed)
        print(table(outcomes))
        for path in keep(outcomes, given.keep):
            print(f"{path}: {path.with_suffix('.txt').read_text(encoding='utf-8').strip()}")
        sys.exit(any(outcome.findings for outcome in outcomes.values()))


def table(outcomes: Mapping[str, Outcome]) -> str:
    """Counts by surface."""
    rows = [
        (name, outcome.inputs, outcome.taken, outcome.refused, sum(outcome.repeated.values()))
        for name, outcome in outcomes.items()
    ]
    total = ("all", *(sum(row[column] for row in rows) for column in range(1, 5)))
    lines = [f"{'surface':20}{'inputs':>10}{'taken':>10}{'refused':>10}{'findings':>10}"]
    return "\n".join(
        [*lines, *(f"{row[0]:20}" + "".join(f"{number:10}" for number in row[1:]) for row in (*rows, total))]
    )


if __name__ == "__main__":
    main()
