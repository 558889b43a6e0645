"""Coverage-guided fuzzing with atheris, where it can be installed: ``pip install atheris``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .worker import Surface, run_once


def fuzz(surface: Surface, minutes: float) -> None:
    """Let atheris change a surface's seeds for some minutes; it prints an input that fails, and exits."""
    import atheris

    atheris.instrument_all()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(surface.seeds(folder)):
        (corpus / str(number)).write_bytes(seed)

    def one_input(data: bytes) -> None:
        what, _ = run_once(surface, data, folder)
        if what:
            raise RuntimeError(what)

    options = [f"-max_total_time={int(60 * minutes)}", "-timeout=10", "-rss_limit_mb=4096", "-max_len=65536"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()
