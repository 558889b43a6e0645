"""What must be the same where the sampling of an unfinished clip goes on, as hashes by names for messages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lib_animatediff import __version__
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.denoiser_outputs import arguments_of_scripts
from lib_animatediff.request.start.continued import read_infotext

_OURS = "animatediff"  # title of our script, whose settings are in the infotext
_IMAGES = ("init_images", "image_mask")
_ROWS = ("prompts", "negative_prompts", "seeds", "hr_prompts", "hr_negative_prompts")
_VARIATION = ("subseeds",)  # random ones without a strength
_DEEPEST = 8  # of values in arguments of scripts
_EXACT = 2**53  # numbers below it are the same as floats


def identity_of(p: Any, infotext: str, sources: Mapping[str, Any]) -> dict[str, str]:
    """The identity of a batch, whose sampling begins.

    Args:
        infotext: of its first image.
        sources: what recipes say of the clip's video and images.
    """
    return {
        **(read_infotext(infotext).fields or {"infotext": _digest(infotext)}),
        "prompts and seeds": _digest(
            [getattr(p, name, None) for name in (*_ROWS, *(_VARIATION if p.subseed_strength else ()))]
        ),
        "init images": _digest([getattr(p, name, None) for name in _IMAGES]),
        "source": _digest(dict(sources)),
        "AnimateDiff's version": __version__,
        "torch": torch.__version__,
        "device": a1111.device().type,
        **{f"script {title}": _digest(given) for title, given in arguments_of_scripts(p) if title != _OURS},
    }


def key_of(identity: Mapping[str, str]) -> str:
    """The name of the recording of an identity."""
    return hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()[:24]


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """The names of what differs."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    for part in _parts(value, _DEEPEST):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:16]


def _parts(value: Any, depth: int) -> Iterator[bytes]:
    """The bytes of a value that scripts may have: numbers, texts, images, arrays, and objects with such values."""
    if depth == 0 or value is None or (isinstance(value, (str, list, tuple, dict)) and not value):
        yield b"empty"  # the page and clients of the API send nothing in different ways
        return
    if isinstance(value, (bool, int, float, str, bytes)):
        number = float(value) if isinstance(value, (int, float)) and abs(value) < _EXACT else value
        yield value if isinstance(value, bytes) else repr(number).encode()
    elif isinstance(value, Mapping):
        for name in sorted(value, key=str):
            yield str(name).encode()
            yield from _parts(value[name], depth - 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value:
            yield from _parts(each, depth - 1)
    elif isinstance(value, Tensor):
        yield from _parts(value.detach().cpu().numpy(), depth)
    elif callable(getattr(value, "tobytes", None)):  # arrays, and images of Pillow
        yield repr((getattr(value, "shape", None), getattr(value, "size", None), getattr(value, "mode", None))).encode()
        yield value.tobytes()
    elif not callable(value) and hasattr(value, "__dict__"):
        yield from _parts(vars(value), depth - 1)
