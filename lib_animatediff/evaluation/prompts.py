"""The prompts of an evaluation, with the direction in which their object should move."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motion_module.limits import parse_json, read_limited

from .direction import HEADINGS, STILL
from .errors import EvaluationError

NAMED = (*HEADINGS, STILL)
_MARK = "|"


@dataclass(frozen=True)
class Prompt:
    """A prompt.

    Attributes:
        text: the prompt itself.
        heading: expected direction: right, left, up, down or still; None if there is none.

    Raises:
        EvaluationError: the text is empty, or the heading is unknown.
    """

    text: str
    heading: str | None = None

    def __post_init__(self) -> None:
        if not self.text:
            raise EvaluationError("A prompt is empty. Describe the clip.", code="AD-E05")
        if self.heading is not None and self.heading not in NAMED:
            raise EvaluationError(
                f"{self.heading!r} is not a heading (prompt {self.text!r}). Choose one of {', '.join(NAMED)}, or none.",
                code="AD-E06",
            )


# By built-in model, from its world: two per heading, one of them a combination that it was not trained on, and two
# still scenes.
BUILT_IN = {
    "pocket": (
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
    ),
}


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Read prompts from JSON, or from text with one per line, such as ``a red fox running to the right | right``.

    JSON is a list of strings, or of objects with ``prompt`` and ``heading``. In text files, empty lines and lines that
    begin with # are ignored.

    Raises:
        EvaluationError: the file cannot be read, contains no prompts, or one of them is invalid.
    """
    try:
        text = read_limited(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path} cannot be read as text ({error}). Check the path.", code="AD-E07") from error
    read = _of_json(path, text) if path.suffix.lower() == ".json" else _of_lines(text)
    if not read:
        raise EvaluationError(f"{path} contains no prompts. Write one per line.", code="AD-E08")
    repeated = [text for text, times in Counter(prompt.text for prompt in read).items() if times > 1]
    if repeated:
        raise EvaluationError(
            f"{path} contains a prompt twice: {min(repeated)!r}. Remove one; for more clips, increase the number of "
            "seeds.",
            code="AD-E09",
        )
    return read


def _of_lines(text: str) -> tuple[Prompt, ...]:
    lines = [line.strip() for line in text.splitlines()]
    return tuple(_of_line(line) for line in lines if line and not line.startswith("#"))


def _of_line(line: str) -> Prompt:
    text, mark, heading = line.rpartition(_MARK)
    # A bar in brackets is part of the prompt, as in [fox|cat].
    is_heading = mark and heading.strip().isalpha()
    return Prompt(text.strip(), heading.strip().lower()) if is_heading else Prompt(line)


def _of_json(path: Path, text: str) -> tuple[Prompt, ...]:
    try:
        listed = parse_json(text)
    except ValueError as error:
        raise EvaluationError(
            f"{path} is not valid JSON ({error}). Correct it, or use a text file with one prompt per line.",
            code="AD-E10",
        ) from error
    if not isinstance(listed, list):
        raise EvaluationError(f"{path} must contain a list of prompts, not {type(listed).__name__}.", code="AD-E11")
    return tuple(_of_entry(path, entry) for entry in listed)


def _of_entry(path: Path, entry: Any) -> Prompt:
    given = {"prompt": entry} if isinstance(entry, str) else entry
    if not isinstance(given, dict) or set(given) - {"prompt", "heading"} or not isinstance(given.get("prompt"), str):
        raise EvaluationError(
            f'{path} contains an invalid prompt: write {{"prompt": "...", "heading": "right"}}, not {entry!r:.60}.',
            code="AD-E12",
        )
    heading = given.get("heading")
    if heading is not None and not isinstance(heading, str):
        raise EvaluationError(
            f"{path} contains a heading that is not a string: {heading!r:.40}. Write one such as right.",
            code="AD-E13",
        )
    return Prompt(given["prompt"].strip(), heading)
