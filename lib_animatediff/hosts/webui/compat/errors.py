"""Errors for clients of the WebUI's API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from motion_module import AnimateDiffError

_ENDS = (".", "!", "?")  # of sentences


def add_sentence(error: BaseException, sentence: str) -> None:
    """Add a sentence to an error's message, of which the page shows ``str(error)``, and the API ``detail`` as well."""
    if isinstance(error, AnimateDiffError):
        error.message = _followed(error.message, sentence)
    elif isinstance(error, OSError) and error.strerror:
        error.strerror = _followed(error.strerror, sentence)
    else:
        error.args = (_followed(str(error), sentence),)
    error.detail = str(error)  # type: ignore[attr-defined]


def _followed(text: str, sentence: str) -> str:
    text = text.strip()
    return f"{text}{'' if text.endswith(_ENDS) else '.'} {sentence}" if text else sentence


@contextmanager
def as_http_422() -> Iterator[None]:
    """Make the WebUI's API respond with status 422: it uses an exception's ``status_code`` and ``detail``."""
    try:
        yield
    except AnimateDiffError as error:
        error.status_code = 422  # type: ignore[attr-defined]
        error.detail = str(error)  # type: ignore[attr-defined]
        raise
