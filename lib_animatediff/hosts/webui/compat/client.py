"""AUTOMATIC1111: what a client of the API has sent, which the WebUI does not pass on."""

from __future__ import annotations

import inspect
from typing import Any


def client_saves_nothing() -> bool:
    """Whether a client of the API has sent ``save_images: false``, which is the value without it, too."""
    request = _request_of_client()
    return request is not None and "save_images" in _fields_of(request) and not request.save_images


def fields_of_client() -> frozenset[str] | None:
    """The names of the fields that a client of the API has sent; None for a request from the page."""
    request = _request_of_client()
    return None if request is None else _fields_of(request)


def _request_of_client() -> Any:
    """A client's request. The WebUI passes on values only, so it is looked up in the API's function that called us."""
    frame = inspect.currentframe()
    while frame is not None:
        for name in ("txt2imgreq", "img2imgreq"):
            if (request := frame.f_locals.get(name)) is not None:
                return request
        frame = frame.f_back
    return None


def _fields_of(request: Any) -> frozenset[str]:
    return frozenset(getattr(request, "__fields_set__", ()))
