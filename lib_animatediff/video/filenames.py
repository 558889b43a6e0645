"""Safe file names from untrusted text, and paths that cannot leave their folder."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from motion_module import ClipError

_LONGEST = 120  # bytes: with a folder, a number and a suffix this stays below the 255 of most file systems
_HOSTILE = frozenset('<>:"/\\|?*%\x7f')
# Control, invisible and direction characters, surrogates, private and unassigned characters, line separators.
_HOSTILE_KINDS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)\s*(\.|$)", re.IGNORECASE)
_STAND_IN = "_"


def safe_name(text: str, *, otherwise: str = "clip", longest: int = _LONGEST) -> str:
    """Turn text into one path component that is valid on every file system.

    Args:
        otherwise: name to use if no valid character is left.
        longest: limit in bytes of UTF-8.
    """
    text = "".join(_STAND_IN if _is_hostile(sign) else sign for sign in unicodedata.normalize("NFC", text))
    text = _shortened(text.strip(" ."), longest - 1).strip(" .")
    if not text.strip(_STAND_IN + " ."):
        return otherwise
    return f"{_STAND_IN}{text}" if _RESERVED.match(text) else text


def place_within(folder: Path, *parts: str, otherwise: str = "clip") -> Path:
    """Build a path below ``folder``. Each part may contain subfolders, as in ``"2026-01-31/a fox"``.

    Raises:
        ClipError: a symbolic link leads out of the folder.
    """
    names = [name for part in parts for name in re.split(r"[/\\]", part) if name.strip(" .")]
    place = folder.joinpath(*(safe_name(name, otherwise=otherwise) for name in names or [otherwise]))
    if not place.resolve().is_relative_to(folder.resolve()):
        raise ClipError(
            f"{place} is outside {folder}, because of a symbolic link. Remove the link or choose another name.",
            code="AD-V07",
        )
    return place


def _is_hostile(sign: str) -> bool:
    # Compatibility normalisation, which some file systems apply, can create a hostile character: a full-width slash.
    return unicodedata.category(sign) in _HOSTILE_KINDS or any(
        plain in _HOSTILE or (plain == "." and sign != ".") for plain in unicodedata.normalize("NFKC", sign)
    )


def _shortened(text: str, longest: int) -> str:
    return text.encode()[:longest].decode(errors="ignore")
