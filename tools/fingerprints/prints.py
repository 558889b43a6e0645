"""What is kept of a request, and how it is hashed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Fingerprint:
    """What one request made.

    Attributes:
        frames: hashes of frames, in an order that the host's module documents.
        text: what the request said: infotexts, JSON blocks, messages.
        files: hashes of whole files by name. Only hosts whose files are the same in every run have some.
    """

    frames: list[str] = field(default_factory=list)
    text: str = ""
    files: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As it stands in the file of fingerprints."""
        text = of_bytes(self.text.encode())
        return {"frames": self.frames, "text": text, "text_plain": self.text, "files": self.files}


def of_bytes(data: bytes) -> str:
    """SHA-256."""
    return hashlib.sha256(data).hexdigest()


def of_tensor(tensor: Any) -> str:
    """Of a tensor's or an array's bytes, type and shape."""
    array = tensor.detach().contiguous().numpy() if hasattr(tensor, "detach") else tensor
    return of_bytes(f"{array.dtype} {array.shape}\n".encode() + array.tobytes())


def of_rows(batch: Any) -> Iterator[str]:
    """Of each row of a batch."""
    return map(of_tensor, batch)


def of_picture(picture: Any) -> str:
    """Of a Pillow picture's pixels, mode and size."""
    return of_bytes(f"{picture.mode} {picture.size}\n".encode() + picture.tobytes())


# Kinds of files whose bytes differ in each run of the same code. Their frames and texts are compared alone.
NEVER_THE_SAME = {".webm": "FFmpeg gives each a random number", ".avif": "libavif writes the time"}


def of_files(folder: Path) -> dict[str, str]:
    """Of whole files below a folder, by their names."""
    names = {path: path.relative_to(folder).as_posix() for path in files_below(folder)}
    return {
        DATE.apply(name): of_bytes(path.read_bytes())
        for path, name in names.items()
        if path.suffix not in NEVER_THE_SAME
    }


def files_below(folder: Path) -> list[Path]:
    """All files, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


# --------------------------------------------------------------------------------------------------------------------
# texts


@dataclass(frozen=True)
class Rule:
    """One thing in a text that differs between runs of the same code, and what stands in its place.

    Attributes:
        name: stands in the text, in angle brackets.
        reason: why it differs.
    """

    name: str
    reason: str
    pattern: re.Pattern[str]
    replacement: Callable[[re.Match[str]], str] | None = None

    def apply(self, text: str) -> str:
        """The text with the rule applied."""
        return self.pattern.sub(self.replacement or f"<{self.name}>", text)


DATE = Rule("date", "clips are filed by the day", re.compile(r"(?<=AnimateDiff/)\d{4}-\d\d-\d\d"))
SECONDS = Rule("seconds", "how long it took", re.compile(r"(?<= frames per second, in )\d+ s"))
FREE = Rule("free", "free memory of the machine", re.compile(r"\d+\.\d GB(?= are free)"))
PICTURE = Rule(
    "picture",
    "it does not differ, but is long: its hash stands for it",
    re.compile(r"data:image/[\w+]+;base64,([\w+/=]+)"),
    lambda found: f"<picture {of_bytes(found[1].encode())}>",
)


def folder_rule(folder: Path) -> Rule:
    """For the temporary folder of a run."""
    return Rule("folder", "it is another one in each run", re.compile(re.escape(str(folder))))


def normalised(text: str, rules: Iterable[Rule]) -> str:
    """A text as it is compared."""
    for rule in rules:
        text = rule.apply(text)
    return text
