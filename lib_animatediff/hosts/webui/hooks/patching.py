"""Methods of the WebUI's objects that are replaced for a while, on the one object concerned."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def restore(owner: Any, name: str, ours: Any, original: Any) -> None:
    """Take our method off an object again, unless somebody has put theirs over it."""
    if owner.__dict__.get(name) is ours:
        delattr(owner, name)
        if getattr(owner, name, None) != original:  # another extension's method stood there before, or no method does
            setattr(owner, name, original)


def patch_next_call(owner: Any, name: str, ours: Callable[..., Any]) -> None:
    """Have the next call of a method go to ``ours``, which gets the method first and then the call's arguments."""
    original = getattr(owner, name)
    spent = False

    def once(*args: Any, **kwargs: Any) -> Any:
        nonlocal spent
        restore(owner, name, once, original)
        if spent:  # left over inside another extension's wrapper
            return original(*args, **kwargs)
        spent = True
        return ours(original, *args, **kwargs)

    functools.update_wrapper(once, original)  # the WebUI reads the signature of its samplers' functions
    setattr(owner, name, once)
