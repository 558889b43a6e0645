"""Errors in the WebUI's hooks, which swallow exceptions. They are stored until ``p.sample``, which can raise them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lib_animatediff.hosts.webui.compat import a1111


class Problems:
    """Errors in the hooks of one request."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self._refusal = refusal
        self._failure: Exception | None = None

    @property
    def has_refusal(self) -> bool:
        """Whether the request will be refused when sampling begins."""
        return self._refusal is not None

    @contextmanager
    def refusing_later(self) -> Iterator[None]:
        """Raise an error of this block when sampling begins."""
        try:
            yield
        except Exception as error:  # the WebUI would swallow any exception and render something else
            self._refusal = self._refusal or error

    @contextmanager
    def failing_later(self) -> Iterator[None]:
        """Let an error of this block end the sampling, and raise it afterwards."""
        try:
            yield
        except Exception as error:
            self._failure = error
            a1111.state().interrupted = True

    def raise_refusal(self) -> None:
        """Raise the error of a hook before sampling, if there is one."""
        refusal, self._refusal = self._refusal, None  # a stored traceback would keep p alive
        if refusal is not None:
            raise refusal

    def raise_failure(self) -> None:
        """Raise the error of a hook during sampling, if there is one."""
        failure, self._failure = self._failure, None  # likewise
        if failure is not None:
            raise failure

    def forget(self) -> None:
        """Discard stored errors, whose tracebacks would keep ``p`` alive."""
        self._failure = self._refusal = None
