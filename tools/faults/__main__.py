"""Puts each fault into a temporary checkout, runs tests, and records whether one of them fails.

    python -m tools.faults check
    python -m tools.faults run --out results.json [--at COMMIT] [--only NAME] [--quick] [--within tests/core]
    python -m tools.faults report results.json [others.json]

Only committed files count. A run continues where an earlier one stopped: a fault that has a result is skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .faults import FAULTS, KINDS, Fault

_ROOT = Path(__file__).parents[2]
_PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not webui")
_NAMED, _SUITE = "named tests", "whole suite"
_LIMIT = {_NAMED: 1800, _SUITE: 4 * 3600}  # seconds; a fault that hangs the tests is noticed
_HANGS = "the tests do not end"
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
_PASSES, _FAILS, _INTERRUPTED = 0, 1, 2  # pytest's exit codes; a module that cannot be imported interrupts it


def main() -> None:
    """Runs the command that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="look whether each fault still has its place in the working tree")
    run = commands.add_parser("run", help="judge the faults one by one")
    run.add_argument("--out", type=Path, required=True, help="JSON file that the results are added to")
    run.add_argument("--at", default="HEAD", help="commit to test (default: HEAD)")
    run.add_argument("--only", action="append", metavar="NAME", help="judge this fault again; may be repeated")
    run.add_argument("--quick", action="store_true", help="run the named tests only, not the whole suite")
    run.add_argument("--within", nargs="+", metavar="PATH", help="run these tests instead of the whole suite")
    report = commands.add_parser("report", help="print a table and totals by kind")
    report.add_argument("files", type=Path, nargs="+")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the temporary checkout goes
    if given.command == "check":
        _check(_ROOT)
        print(f"All {len(FAULTS)} faults have their place.")
    elif given.command == "run":
        _run(given.out, given.at, given.only, None if given.quick else given.within or ["tests"])
    else:
        _report(given.files)


def _check(checkout: Path) -> None:
    problems = [problem for fault in FAULTS if (problem := _misplaced(checkout, fault))]
    if problems:
        raise SystemExit("\n".join(problems))


def _misplaced(checkout: Path, fault: Fault) -> str | None:
    path = checkout / fault.file
    if not path.is_file():
        return f"{fault.name}: there is no {fault.file}."
    count = path.read_text(encoding="utf-8").count(fault.old)
    if count != 1:
        return f"{fault.name}: {fault.file} has {fault.old!r} {count} times instead of once."
    absent = [test for test in fault.tests if not (checkout / test).exists()]
    return f"{fault.name}: there is no {', '.join(absent)}." if absent else None


def _run(out: Path, at: str, only: Sequence[str] | None, fallback: Sequence[str] | None) -> None:
    if unknown := set(only or ()) - {fault.name for fault in FAULTS}:
        raise SystemExit(f"There is no fault {', '.join(sorted(unknown))}.")
    commit = _git("rev-parse", at)
    kept = _read(out) if out.exists() else {"commit": commit, "results": {}}
    if kept["commit"] != commit:
        raise SystemExit(f"{out} holds results of {kept['commit'][:8]}, not of {commit[:8]}. Choose another file.")
    results = kept["results"]
    with _checkout(commit) as checkout:
        _check(checkout)
        for fault in FAULTS:
            if fault.name in only if only else not _is_judged(results.get(fault.name), fallback):
                _announce(fault, _judge(checkout, fault, fallback, results), results)
                out.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _is_judged(result: dict[str, Any] | None, fallback: Sequence[str] | None) -> bool:
    return result is not None and (result["caught"] or fallback is None or result["scope"] == _scope_of(fallback))


def _scope_of(fallback: Sequence[str]) -> str:
    return _SUITE if list(fallback) == ["tests"] else " ".join(fallback)


def _judge(
    checkout: Path, fault: Fault, fallback: Sequence[str] | None, results: dict[str, Any]
) -> dict[str, Any] | None:
    """The result of one fault; None if the test that failed also fails without the fault."""
    begun = time.monotonic()
    scopes = [(_NAMED, fault.tests)]
    if fallback:
        scopes.append((_scope_of(fallback), fallback))
    # The named tests have missed it in an earlier run.
    if fallback and fault.name in results and not results[fault.name]["caught"]:
        del scopes[0]
    for scope, tests in scopes:
        with _applied(checkout, fault):
            by = _first_failure(checkout, tests, _LIMIT.get(scope, _LIMIT[_SUITE]))
        if by is None:
            continue
        if by != _HANGS and _first_failure(checkout, [by], _LIMIT[_NAMED]) is not None:
            print(f"{fault.name}: not judged, since {by} also fails without the fault.", flush=True)
            return None
        return {"caught": True, "by": by, "scope": scope, "seconds": round(time.monotonic() - begun)}
    return {"caught": False, "by": None, "scope": scopes[-1][0], "seconds": round(time.monotonic() - begun)}


def _announce(fault: Fault, result: dict[str, Any] | None, results: dict[str, Any]) -> None:
    if result is None:
        return
    results[fault.name] = result
    print(f"{fault.name}: {result['by'] or 'NOT CAUGHT'} ({result['scope']}, {result['seconds']} s)", flush=True)


@contextmanager
def _checkout(commit: str) -> Iterator[Path]:
    """A temporary git worktree of a commit."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        place = Path(folder) / "checkout"
        _git("worktree", "add", "--detach", str(place), commit)
        try:
            yield place
        finally:
            _git("worktree", "remove", "--force", str(place))


@contextmanager
def _applied(checkout: Path, fault: Fault) -> Iterator[None]:
    path = checkout / fault.file
    former = path.read_text(encoding="utf-8")
    path.write_text(former.replace(fault.old, fault.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(former, encoding="utf-8")


def _first_failure(checkout: Path, tests: Sequence[str], limit: float) -> str | None:
    """The first test that fails; None if all pass."""
    # No bytecode: a file that changes twice within a second would be taken for the former one.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    environment |= {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("WEBUI_DIR", None)
    command = [*_PYTEST, *tests]
    try:
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return _HANGS
    if done.returncode == _PASSES:
        return None
    failed = _FAILED.search(done.stdout)
    if done.returncode not in (_FAILS, _INTERRUPTED) or failed is None:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
    return failed[1]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return done.stdout.strip()


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _report(files: Sequence[Path]) -> None:
    """A row for each fault, a column for each file."""
    columns = [_read(path)["results"] for path in files]
    named = max(len(fault.name) for fault in FAULTS)
    for fault in FAULTS:
        cells = [_told(column.get(fault.name)) for column in columns]
        print(f"{fault.kind:<18}  {fault.name:<{named}}  {'  '.join(cells)}".rstrip())
    print()
    for kind in KINDS:
        _print_total(kind, columns, lambda fault, kind=kind: fault.kind == kind)
    _print_total("total", columns, lambda _fault: True)


def _told(result: dict[str, Any] | None) -> str:
    if result is None:
        return "not judged"
    return result["by"] if result["caught"] else f"NOT CAUGHT by the {result['scope']}"


def _print_total(name: str, columns: Sequence[dict[str, Any]], counts: Callable[[Fault], bool]) -> None:
    chosen = [fault.name for fault in FAULTS if counts(fault)]
    caught = [sum(column.get(fault, {}).get("caught", False) for fault in chosen) for column in columns]
    print(f"{name:<18}  {'  '.join(f'{count} of {len(chosen)}' for count in caught)}")


if __name__ == "__main__":
    main()
