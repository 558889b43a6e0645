"""Replace a method of one object temporarily, and remove the replacement even if other code has patched over it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from motion_module import IncompatibleModelError

Run = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""Runs instead of ``forward``, with the former ``forward`` and the arguments of the call."""


class _PatchedForward:
    """Replaces ``unet.forward``. If another patch still refers to it after the block, it passes calls through."""

    def __init__(self, unet: nn.Module, run: Run) -> None:
        self._unet = unet
        self._former: Callable[..., Any] = unet.forward
        self._was_set = "forward" in vars(unet)
        self._run: Run | None = run
        functools.update_wrapper(self, self._former, updated=())  # hosts read the signature

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._run is not None:
            return self._run(self._former, args, kwargs)
        self._restore()
        return self._former(*args, **kwargs)

    def close(self) -> None:
        self._run = None
        self._restore()

    def _restore(self) -> None:
        attributes = vars(self._unet)
        if attributes.get("forward") is not self:
            return
        if self._was_set:
            attributes["forward"] = self._former
        else:
            del attributes["forward"]


@contextmanager
def patch_forward(unet: nn.Module, run: Run) -> Iterator[None]:
    """Run ``run`` instead of the ``forward`` of this UNet object inside the block.

    Raises:
        IncompatibleModelError: the object's ``forward`` cannot be replaced.
    """
    forward = _PatchedForward(unet, run)
    try:
        _replace(unet, forward)
        yield
    finally:
        forward.close()


def _replace(unet: nn.Module, forward: _PatchedForward) -> None:
    try:
        unet.forward = forward
        replaced = vars(unet).get("forward") is forward
    except (AttributeError, TypeError, RuntimeError):
        replaced = False
    if not replaced:
        raise IncompatibleModelError(
            f"The forward method of this {type(unet).__name__} cannot be replaced, which context windows, feature "
            "reuse and Text2Video-Zero require. Use a motion module, and render a clip that fits into one window in "
            "one call.",
            code="AD-G25",
        )


def restore(owner: Any, name: str, ours: Any, original: Any) -> None:
    """Remove our method from an object, unless other code has patched over it."""
    if owner.__dict__.get(name) is ours:
        delattr(owner, name)
        if getattr(owner, name, None) != original:  # it was another extension's method, or an inherited one
            setattr(owner, name, original)


def patch_next_call(owner: Any, name: str, ours: Callable[..., Any]) -> None:
    """Replace the next call of a method by ``ours``, which receives the method and then the call's arguments."""
    original = getattr(owner, name)
    spent = False

    def once(*args: Any, **kwargs: Any) -> Any:
        nonlocal spent
        restore(owner, name, once, original)
        if spent:  # still referenced by another extension's wrapper
            return original(*args, **kwargs)
        spent = True
        return ours(original, *args, **kwargs)

    functools.update_wrapper(once, original)  # the WebUI reads the signature of its samplers' functions
    setattr(owner, name, once)
