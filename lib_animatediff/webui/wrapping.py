"""Methods of the WebUI's objects that are replaced for a while, on the one object concerned."""

from __future__ import annotations

from typing import Any


def take_off(owner: Any, name: str, ours: Any, original: Any) -> None:
    """Take our method off an object again, unless somebody has put theirs over it."""
    if owner.__dict__.get(name) is ours:
        delattr(owner, name)
        if getattr(owner, name) != original:  # another extension's method stood there before
            setattr(owner, name, original)
