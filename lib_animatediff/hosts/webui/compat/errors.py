"""Errors for clients of the WebUI's API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from motion_module import AnimateDiffError


@contextmanager
def as_http_422() -> Iterator[None]:
    """Make the WebUI's API respond with status 422: it uses an exception's ``status_code`` and ``detail``."""
    try:
        yield
    except AnimateDiffError as error:
        error.status_code = 422  # type: ignore[attr-defined]
        error.detail = str(error)  # type: ignore[attr-defined]
        raise
