"""Errors for clients of the WebUI's API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from motion_module import AnimateDiffError


def add_sentence(error: BaseException, sentence: str) -> None:
    """Add a sentence to an error's message, of which the page shows ``str(error)``, and the API ``detail`` as well."""
    message = f"{error} {sentence}".strip()
    if isinstance(error, AnimateDiffError):
        error.message = f"{error.message} {sentence}"
    elif isinstance(error, OSError) and error.strerror:
        error.strerror = f"{error.strerror}. {sentence}"
    else:
        error.args = (message,)
    error.detail = message if sentence not in str(error) else str(error)  # type: ignore[attr-defined]


@contextmanager
def as_http_422() -> Iterator[None]:
    """Make the WebUI's API respond with status 422: it uses an exception's ``status_code`` and ``detail``."""
    try:
        yield
    except AnimateDiffError as error:
        error.status_code = 422  # type: ignore[attr-defined]
        error.detail = str(error)  # type: ignore[attr-defined]
        raise
