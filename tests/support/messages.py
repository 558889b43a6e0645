"""The sentences that the code says to a person, read from its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ERRORS = ("AnimateDiffError", "ClipError", "IncompatibleModelError", "MotionFileError")
GAP = "…"  # stands for what is filled in
FEWEST_WORDS = 5


def sentences(path: Path) -> Iterator[str]:
    """Every text of a file that is long enough for a sentence, but for docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        outermost = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and id(node) not in inner)
        if outermost and id(node) not in docstrings and len((text := template(node)).split()) >= FEWEST_WORDS:
            yield text


def raised(path: Path) -> Iterator[str]:
    """The messages of the errors that a file raises; what a function of the file puts together is looked up there."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS and node.args:
            maker = functions.get(getattr(getattr(node.args[0], "func", None), "id", ""))
            made = (
                [inner.value for inner in ast.walk(maker) if isinstance(inner, ast.Return)] if maker else node.args[:1]
            )
            yield from (text for text in map(template, made) if re.search(r"\w", text))


def template(node: ast.AST) -> str:
    """A text with a gap for everything that is filled in."""
    if isinstance(node, ast.Constant):
        return " ".join(str(node.value).split())
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else GAP for part in node.values]
        return " ".join("".join(parts).split())
    return GAP


def says(message: str, text: str) -> bool:
    """Whether a message as the page quotes it is found in a text: its pieces between the gaps, in their order."""
    pieces = [re.escape(piece.strip()) for piece in message.split(GAP) if piece.strip()]
    return bool(re.search(".*".join(pieces), text))
