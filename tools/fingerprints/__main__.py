"""The command line: `render` and `compare`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from .comparing import Prints, differences, total

ROOT = Path(__file__).resolve().parents[2]
HOSTS = {"core": "core_host", "cli": "cli_host", "double": "double_host", "webui": "webui_host"}
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "PYTHONHASHSEED": "0",
    # glibc fills new memory with one byte. x264 reads memory that it has not written, and its bytes differ otherwise.
    "MALLOC_PERTURB_": "171",
}
VERSION = "0"  # stands in recipes, so that another version of the package is no difference


def main() -> int:
    """Run the command; the exit status is 1 where something differs."""
    parser = argparse.ArgumentParser(prog="python -m tools.fingerprints", description=__doc__)
    commands = parser.add_subparsers(required=True)
    render = commands.add_parser("render", help="Render the requests and write their fingerprints.")
    render.add_argument("out", type=Path)
    render.add_argument("--host", action="append", choices=HOSTS, help="May be repeated. Default: all.")
    render.add_argument("--only", action="append", metavar="NAME", help="Only this request. May be repeated.")
    render.add_argument("--add", action="store_true", help="Keep the other requests that the file holds.")
    render.set_defaults(run=lambda given: _render(given.out, given.host or list(HOSTS), given.only, add=given.add))
    compare = commands.add_parser("compare", help="Say what differs between two files.")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    compare.set_defaults(run=lambda given: _compare(given.before, given.after))
    given = parser.parse_args()
    return int(given.run(given))


def _render(out: Path, hosts: Sequence[str], only: Sequence[str] | None, *, add: bool) -> int:
    _prepare()
    prints: Prints = json.loads(out.read_text(encoding="utf-8")) if add and out.exists() else {}
    rendered = 0
    for host in hosts:
        if host == "webui" and not os.environ.get("WEBUI_DIR"):
            print("webui: left out, WEBUI_DIR is not set", flush=True)
            continue
        module, started = import_module(f".{HOSTS[host]}", __package__), time.monotonic()
        names = [name for name in module.NAMES if only is None or name in only]
        made = {name: fingerprint.as_json() for name, fingerprint in module.render(names)} if names else {}
        if made:
            prints[host] = prints.get(host, {}) | made
            print(f"{host}: {total({host: made})}, {time.monotonic() - started:.0f} s", flush=True)
        rendered += len(made)
    if not rendered:
        print("Nothing was rendered.", file=sys.stderr)
        return 1
    unfinished = out.with_name(f"{out.name}.unfinished")
    unfinished.write_text(json.dumps(prints, indent=1, ensure_ascii=False), encoding="utf-8")
    unfinished.replace(out)
    return 0


def _prepare() -> None:
    """One thread, no network, the packages of this checkout."""
    if os.environ | ENVIRONMENT != os.environ:  # read when a process starts
        command = [sys.executable, "-m", __package__, *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | ENVIRONMENT)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import torch

    import lib_animatediff

    torch.set_num_threads(1)
    if ROOT not in Path(lib_animatediff.__file__).resolve().parents:
        sys.exit(f"lib_animatediff is that of another checkout: {lib_animatediff.__file__}. Start this in {ROOT}.")
    lib_animatediff.__version__ = VERSION


def _compare(before: Path, after: Path) -> int:
    one, other = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    found = 0
    for line in differences(one, other):
        print(line)
        found += 1
    print(f"{total(one)}: {f'{found} differences' if found else 'identical'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
