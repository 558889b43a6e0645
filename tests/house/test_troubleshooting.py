"""docs/troubleshooting.md has a line for every sentence that a person can meet in the WebUI."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from support.messages import GAP, raised, says, sentences

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
OURS, _, WEBUIS = PAGE.partition("## Sentences of the WebUI itself")
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
QUOTED = [message for message, _, _ in ROW.findall(OURS)]

WEBUI = sorted((REPOSITORY / "lib_animatediff" / "hosts" / "webui").rglob("*.py"))
# Without writing clips to disk: whatever goes wrong there stands within "was not written", which has a row.
LIBRARY = [
    path
    for folder in ("engine", "sampling", "prompts", "request")
    for path in sorted((REPOSITORY / "lib_animatediff" / folder).rglob("*.py"))
]
FILES = sorted((REPOSITORY / "motion_module").rglob("*.py"))
RAISING = [*WEBUI, *LIBRARY, *FILES]

# Errors that nobody meets in the WebUI, and why.
ELSEWHERE = {
    "convert.py": "the command line converts",
    "There is no filter": "the settings are checked before",
    "There is no noise of the kind": "the same",
    "No interpolation … of prompts": "the same",
    "No easing": "the same",
    "A prompt can hold for": "the same",
    "Line … of the …, …": "the beginning of a message that has a row",
    "…, …: …": "the same",
    "context_windows.py": "the settings are checked before windows are planned from them",
    "A clip needs at least one frame": "the settings' 0 stands for a whole context",
    "Gradient checkpointing computes parts": "only training has it",
    "kind=… is not known.": "only the command line and Python name a kind",
    "it cannot be loaded as": "the same",
    "…: a folder. Check the path": "the list holds files",
    "Then refresh the list.": "the end of a message that has a row",
    "Choose one of the list, for example": "the same",
    "Or choose …, which needs no file.": "the same",
    "Call unfuse_qkv_projections() first.": "only Python has it",
    "… begins at a timestep from 0": "the same",
    "could be set. Leave the amount out": "the same",
    "A motion module makes no frame alone": "the same",
    "This plan is damaged": "the same",
    "would have no effect on this call": "the same",
}

# Texts in lib_animatediff/hosts/webui that are long and no messages.
NO_MESSAGES = (
    "AnimateDiff: part … of … of step …",  # the progress bar's
    "AnimateDiff: FreeInit, … of …",  # likewise
    "(page, ...values) =>",
    "What each frame gets: …",
    "Those in the folders of LoRAs",
    "Drop a clip here",
    "Formats that are ticked",
    "File name of clips",
    "GIF: 256 colours for each frame",
    "GIF: mix missing colours",
    "WebP: without loss",
    "MP4: CRF",
    "MP4: preset",
    "MP4: odd sizes",
    "WebM: CRF",
    "Another folder with motion modules",
    "How long the clip lasts.",
    "Then press the refresh button.",
    "… [no file, any checkpoint]",
    "motion without a motion module",
)


@cache
def all_that_is_said() -> tuple[str, ...]:
    """Every sentence of the sources."""
    writing = REPOSITORY / "lib_animatediff" / "video" / "write.py"
    return tuple(text for path in (*RAISING, writing) for text in (*sentences(path), *raised(path)))


def is_covered(text: str) -> bool:
    """Whether a row of the page quotes this message."""
    return any(says(message, text) for message in QUOTED)


def is_elsewhere(path: Path, text: str) -> bool:
    """Whether this message is one that the WebUI does not show."""
    return any(path.name == known or says(known, text) for known in ELSEWHERE)


def test_the_page_is_made_of_rows():
    lines = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(lines) == len(ROW.findall(PAGE)) > 60


@pytest.mark.parametrize("message", QUOTED)
def test_every_message_of_the_page_is_one_that_the_code_says(message):
    assert any(says(message, text) for text in all_that_is_said()), f"nothing says {message!r} any more"


def test_no_message_of_the_page_stands_for_everything():
    pieces = {message: re.findall(r"\w+", message.replace(GAP, " ")) for message in QUOTED}
    assert not [message for message, words in pieces.items() if len(words) < 2]


@pytest.mark.parametrize("path", RAISING, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_every_error_of_the_webui_has_a_row(path):
    missing = [text for text in raised(path) if not is_covered(text) and not is_elsewhere(path, text)]
    assert not missing, f"docs/troubleshooting.md lacks a row for: {missing}"


@pytest.mark.parametrize("path", WEBUI, ids=lambda path: path.name)
def test_every_sentence_of_the_panel_has_a_row(path):
    texts = [text for text in sentences(path) if not any(says(known, text) for known in (*NO_MESSAGES, *ELSEWHERE))]
    missing = [text for text in texts if not is_covered(text)]
    assert not missing, f"docs/troubleshooting.md lacks a row for, or NO_MESSAGES should name: {missing}"


def test_what_is_said_to_be_elsewhere_is_there():
    said = [*all_that_is_said(), *(path.name for path in RAISING)]
    assert not [known for known in (*ELSEWHERE, *NO_MESSAGES) if not any(says(known, text) for text in said)]
