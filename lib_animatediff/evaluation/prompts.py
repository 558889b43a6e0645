"""The prompts of an evaluation, each with where what it names should go."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .direction import HEADINGS, STILL
from .errors import EvaluationError

NAMED = (*HEADINGS, STILL)
_MARK = "|"


@dataclass(frozen=True)
class Prompt:
    """A prompt.

    Attributes:
        text: what the clip shows.
        heading: where it goes: right, left, up, down, still; None where nothing is to be said about that.

    Raises:
        EvaluationError: there is no text, or no such heading.
    """

    text: str
    heading: str | None = None

    def __post_init__(self) -> None:
        if not self.text:
            raise EvaluationError("A prompt of the evaluation is empty. Write what the clip shows.")
        if self.heading is not None and self.heading not in NAMED:
            raise EvaluationError(
                f"{self.heading!r} is no heading (prompt {self.text!r}). Choose one of {', '.join(NAMED)}, or none."
            )


# Of the built-in model's world: two for each heading, one of them a combination that it was not trained on, and two
# that stand.
BUILT_IN = (
    Prompt("a red disc moving right", "right"),
    Prompt("a blue square moving right", "right"),
    Prompt("a yellow cross moving left", "left"),
    Prompt("a green disc moving left", "left"),
    Prompt("a blue disc moving up", "up"),
    Prompt("a red cross moving up", "up"),
    Prompt("a green square moving down", "down"),
    Prompt("a yellow disc moving down", "down"),
    Prompt("a red square standing still", "still"),
    Prompt("a blue cross standing still", "still"),
)


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Prompts of a file: JSON, or text with one to a line, ``a red fox running to the right | right``.

    JSON is a list of texts or of objects with ``prompt`` and ``heading``. In a text, empty lines and lines that begin
    with # do not count.

    Raises:
        EvaluationError: the file cannot be read or holds no prompts, or one of them is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path} cannot be read as text ({error}). Check the path.") from error
    read = _of_json(path, text) if path.suffix.lower() == ".json" else _of_lines(text)
    if not read:
        raise EvaluationError(f"{path} holds no prompts. Write one to a line.")
    repeated = {
        prompt.text for number, prompt in enumerate(read) if prompt.text in {each.text for each in read[:number]}
    }
    if repeated:
        raise EvaluationError(
            f"{path} says a prompt twice: {min(repeated)!r}. Take one away; --seeds makes more clips."
        )
    return read


def _of_lines(text: str) -> tuple[Prompt, ...]:
    lines = [line.strip() for line in text.splitlines()]
    return tuple(_of_line(line) for line in lines if line and not line.startswith("#"))


def _of_line(line: str) -> Prompt:
    text, mark, heading = line.rpartition(_MARK)
    # A bar in brackets is part of the prompt: [fox|cat].
    is_heading = mark and heading.strip().isalpha()
    return Prompt(text.strip(), heading.strip().lower()) if is_heading else Prompt(line)


def _of_json(path: Path, text: str) -> tuple[Prompt, ...]:
    try:
        listed = json.loads(text)
    except ValueError as error:
        raise EvaluationError(
            f"{path} is no JSON ({error}). Mend it, or write one prompt to a line of a text."
        ) from error
    if not isinstance(listed, list):
        raise EvaluationError(f"{path} must be a list of prompts, not {type(listed).__name__}.")
    return tuple(_of_entry(path, entry) for entry in listed)


def _of_entry(path: Path, entry: Any) -> Prompt:
    given = {"prompt": entry} if isinstance(entry, str) else entry
    if not isinstance(given, dict) or set(given) - {"prompt", "heading"} or not isinstance(given.get("prompt"), str):
        raise EvaluationError(f'{path}: write {{"prompt": "...", "heading": "right"}}, not {entry!r:.60}.')
    heading = given.get("heading")
    if heading is not None and not isinstance(heading, str):
        raise EvaluationError(f"{path}: a heading must be a text, not {heading!r:.40}.")
    return Prompt(given["prompt"].strip(), heading)
