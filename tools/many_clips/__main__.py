"""Check that a run of many clips loses nothing, whatever happens to it, and write a report as JSON.

`python -m tools.many_clips kills` renders a manifest while its workers are killed at random, and again alone.
`python -m tools.many_clips throughput` compares two workers with one, on an idle machine with two cores.
`python -m tools.many_clips troubles` fills the disk, makes the folder read-only, sets the clock back, and starts two
runs at once. It needs Linux, and root for the first two.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from .kills import check_kills
from .throughput import check_throughput
from .troubles import TROUBLES, check_troubles


def main() -> None:
    """Run a check. The exit code is 1 if something was lost."""
    parser = argparse.ArgumentParser(prog="python -m tools.many_clips", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="for the clips, and kept (default: a temporary one)")
    parser.add_argument("--out", type=Path, help="file of the report (default: the standard output)")
    checks = parser.add_subparsers(dest="check", required=True)
    kills = checks.add_parser("kills", help="kill workers at random")
    kills.add_argument("--rows", type=int, default=600)
    kills.add_argument("--bad", type=float, default=0.05, help="share of rows that cannot be rendered")
    kills.add_argument("--kills", type=int, default=50)
    kills.add_argument("--workers", type=int, default=4)
    kills.add_argument("--seed", type=int, default=0)
    throughput = checks.add_parser("throughput", help="compare two workers with one")
    throughput.add_argument("--rows", type=int, default=120)
    troubles = checks.add_parser("troubles", help="a full disk and more")
    troubles.add_argument("--only", choices=TROUBLES, action="append")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="many-clips-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if given.check == "kills":
            report = check_kills(folder, given.rows, given.bad, given.kills, given.workers, given.seed)
        elif given.check == "throughput":
            report = check_throughput(folder, given.rows)
        else:
            report = check_troubles(folder, given.only or TROUBLES)
    text = json.dumps(report, indent=2)
    print(text) if given.out is None else given.out.write_text(f"{text}\n", encoding="utf-8")
    sys.exit(bool(report["problems"]))


if __name__ == "__main__":
    main()
