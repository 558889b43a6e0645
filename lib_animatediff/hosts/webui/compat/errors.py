"""Errors for clients of the WebUI's API, and for the page of reForge."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

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


def keep_for_page(error: BaseException) -> None:
    """Let the page of reForge show what ends its request.

    Its thread for the page's requests only prints what they raise. The page then reads a result that is None, and shows
    ``'NoneType' object is not iterable``. Here the task gets a result that raises the error where the page reads it.
    Elsewhere errors reach the page by themselves, and nothing is done.
    """
    if (task := _task_of_page(sys._getframe())) is not None:
        task.result = _Unreadable(error)


def _task_of_page(frame: FrameType | None) -> Any:
    """The task that reForge's thread works on, from its frame: nothing else refers to it. Forge's keep the error."""
    while frame is not None:
        if frame.f_code.co_name == "work" and frame.f_globals.get("__name__") == "modules_forge.main_thread":
            task = frame.f_locals.get("self")
            return None if hasattr(task, "exception") else task
        frame = frame.f_back
    return None


class _Unreadable:
    """Raises an error of the same name and words when it is iterated. The WebUI keeps it, so it holds nothing else."""

    def __init__(self, error: BaseException) -> None:
        self._name, self._words = type(error).__name__, str(error)

    def __iter__(self) -> NoReturn:
        raise type(self._name, (Exception,), {})(self._words)
