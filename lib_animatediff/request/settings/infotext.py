"""Convert settings to the infotext of a clip and back."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from typing import Any

from lib_animatediff.request.compat import RAMP

from .table import CANONICAL, SETTINGS, ClipSettings


def to_infotext(settings: ClipSettings, **more: str | None) -> str:
    """Write settings as one line, ``name: value, ...``; values are quoted as JSON where necessary."""
    kept = {
        name: value
        for name, value in asdict(settings).items()
        if not SETTINGS[name].omit_default or value != SETTINGS[name].default
    }
    if kept.keys() & {*RAMP, "last_frame"}:  # which without a latent scale mean that of the existing extension
        kept["latent_scale"] = settings.latent_scale
    pairs = {**kept, **more}
    return ", ".join(f"{name}: {_quoted(value)}" for name, value in pairs.items() if value not in (None, ""))


def pasted_values(text: str) -> dict[str, Any]:
    """Read a whole line with `from_infotext` and add the defaults that the line leaves out."""
    omitted = {s.name: s.default for s in SETTINGS.values() if s.omit_default}
    return {**omitted, **from_infotext(text)} if text else {}


def from_infotext(text: str) -> dict[str, Any]:
    """Read settings by canonical name from a line of ours or of the existing extension; unknown names are dropped."""
    values: dict[str, Any] = {}
    for name, quoted, plain in _PAIR.findall(text):
        canonical = CANONICAL.get(name)
        if canonical is not None:
            try:
                values[canonical] = _read(SETTINGS[canonical].type, json.loads(quoted) if quoted else plain)
            except ValueError:
                continue  # the image was edited by hand: the field keeps its value
    return values


_PAIR = re.compile(r'(?:^|(?<=, ))(\w+): (?:("(?:[^"\\]|\\.)*")|([^,]+))(?:, |$)')


def _quoted(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(value)
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:"\n]', text) else text


def _read(kind: type, text: str) -> Any:
    if kind is bool:
        return text == "True"
    if kind is str:
        return text
    if kind is tuple:
        return re.findall(r"\w+", text)
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return kind(number)
