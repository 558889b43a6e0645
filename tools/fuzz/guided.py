"""Lets atheris choose the inputs by coverage, where it can be installed: ``pip install atheris``.

    python -m tools.fuzz.guided prompt --minutes 5

It stops at the first input that fails, and writes it to the current folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Fuzz the surface that the arguments name."""
    import atheris

    parser = argparse.ArgumentParser(prog="python -m tools.fuzz.guided", description=__doc__.partition("\n")[0])
    parser.add_argument("surface")
    parser.add_argument("--minutes", type=float, default=10)
    given = parser.parse_args()
    with atheris.instrument_imports(include=["lib_animatediff", "motion_module"]):
        from .surfaces import SURFACES
        from .worker import run_once
    surface = SURFACES[given.surface]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate([*surface.seeds(folder), *surface.corpus]):
        (corpus / str(number)).write_bytes(seed)

    def one_input(data: bytes) -> None:
        what, _ = run_once(surface, data, folder)
        if what:
            raise RuntimeError(what)

    options = [f"-max_total_time={int(60 * given.minutes)}", "-timeout=10", "-rss_limit_mb=4096", "-max_len=65536"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
