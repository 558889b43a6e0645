"""Emphasis in prompts, as the WebUI reads it: ``(word)``, ``[word]``, ``(word:1.5)``, ``\\(`` and ``BREAK``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from motion_module import ClipError
from motion_module.limits import OPEN_BRACKETS

_MORE = 1.1  # of each pair of round brackets; square ones divide by it
_TOKEN = re.compile(
    r"\\(?P<escaped>[()\[\]\\])|(?P<opens>[(\[])|:\s*(?P<weight>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)|(?P<closes>[)\]])"
    r"|(?P<breaks>(?<!\s)\s*\bBREAK\b\s*)"
)


@dataclass
class Part:
    """A piece of a prompt with its weight. ``begins_chunk``: it follows BREAK."""

    text: str
    weight: float = 1.0
    begins_chunk: bool = False


def has_emphasis(prompt: str) -> bool:
    """Whether a prompt is more than plain text."""
    return _TOKEN.search(prompt) is not None


def weighted_parts(prompt: str) -> list[Part]:
    """The pieces of a prompt in order. Brackets that are not closed reach to the end, as in the WebUI.

    Raises:
        ClipError: too many brackets are open at once.
    """
    parts: list[Part] = []
    opened: list[tuple[str, int]] = []

    def multiply(start: int, factor: float) -> None:
        for part in parts[start:]:
            part.weight *= factor

    for text, token in _pieces(prompt):
        if text:
            parts.append(Part(text))
        if token is None:
            break
        bracket = "(" if token["weight"] or token["closes"] == ")" else "["
        if token["escaped"]:
            parts.append(Part(token["escaped"]))
        elif token["opens"]:
            opened.append((token["opens"], len(parts)))
            if len(opened) > OPEN_BRACKETS:  # each of them multiplies all weights that follow
                raise ClipError(
                    f"The prompt opens more than {OPEN_BRACKETS} brackets within each other. Close some, or write \\( "
                    "for a bracket of the text.",
                    code="AD-D28",
                )
        elif token["breaks"] is not None:
            parts.append(Part("", begins_chunk=True))
        elif opened and opened[-1][0] == bracket:
            multiply(opened.pop()[1], _factor(token["weight"], bracket))
        else:
            parts.append(Part(token[0]))
    for bracket, start in opened:
        multiply(start, _factor(None, bracket))
    return list(_joined(parts)) or [Part("")]


def _pieces(prompt: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    begin = 0
    for token in _TOKEN.finditer(prompt):
        yield prompt[begin : token.start()], token
        begin = token.end()
    yield prompt[begin:], None


def _factor(weight: str | None, bracket: str) -> float:
    if weight:
        return float(weight)
    return _MORE if bracket == "(" else 1 / _MORE


def _joined(parts: list[Part]) -> Iterator[Part]:
    """Neighbours of the same weight are one text: a word may go on behind an escaped bracket."""
    group: list[Part] = []
    for part in [*parts, None]:
        if group and (part is None or part.weight != group[0].weight or part.begins_chunk or group[0].begins_chunk):
            yield Part("".join(one.text for one in group), group[0].weight, group[0].begins_chunk)
            group = []
        if part is not None:
            group.append(part)
