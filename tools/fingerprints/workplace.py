"""A temporary folder that a host works in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def workplace() -> Iterator[Path]:
    """The folder. It is the current one, so that a relative path is all that a text can hold of it."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="fingerprints-") as name:
        os.chdir(name)
        try:
            yield Path(name).resolve()
        finally:
            os.chdir(before)
