"""Names for files out of texts that anyone may have written, and the promise that they stay in their folder."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from motion_module import ClipError

_LONGEST = 120  # bytes; leaves room for a folder, a number and a suffix within the 255 of most file systems
_HOSTILE = frozenset('<>:"/\\|?*%\x7f')
# Controls, invisible and direction marks, halves of pairs, private and unassigned characters, line separators.
_HOSTILE_KINDS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)\s*(\.|$)", re.IGNORECASE)
_STAND_IN = "_"


def safe_name(text: str, *, otherwise: str = "clip", longest: int = _LONGEST) -> str:
    """A text as one part of a path, which every file system takes and which leads nowhere else.

    Args:
        otherwise: the name where nothing is left of the text.
        longest: bytes of the name in UTF-8.
    """
    text = "".join(_STAND_IN if _is_hostile(sign) else sign for sign in unicodedata.normalize("NFC", text))
    text = _shortened(text.strip(" ."), longest - 1).strip(" .")
    if not text.strip(_STAND_IN + " ."):
        return otherwise
    return f"{_STAND_IN}{text}" if _RESERVED.match(text) else text


def place_within(folder: Path, *parts: str, otherwise: str = "clip") -> Path:
    """A path below ``folder``; each part may name folders of its own, as in ``"2026-01-31/a fox"``.

    Raises:
        ClipError: it would lie elsewhere, by a link that someone put there.
    """
    names = [name for part in parts for name in re.split(r"[/\\]", part) if name.strip(" .")]
    place = folder.joinpath(*(safe_name(name, otherwise=otherwise) for name in names or [otherwise]))
    if not place.resolve().is_relative_to(folder.resolve()):
        raise ClipError(f"{place} leads out of {folder}. Remove the link, or choose another name.")
    return place


def _is_hostile(sign: str) -> bool:
    # Some characters become hostile when a file system or a program makes them compatible: the full-width slash.
    return unicodedata.category(sign) in _HOSTILE_KINDS or any(
        plain in _HOSTILE or (plain == "." and sign != ".") for plain in unicodedata.normalize("NFKC", sign)
    )


def _shortened(text: str, longest: int) -> str:
    return text.encode()[:longest].decode(errors="ignore")
