"""What long tests have found so far, one line of JSON each, so that an interrupted run counts and another goes on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from support.webui_real.places import REPOSITORY

PACKAGES = ("lib_animatediff", "motion_module", "scripts")


def digest_of_code() -> str:
    """Of the extension's Python files."""
    digest = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")):
        digest.update(path.relative_to(REPOSITORY).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


class Results:
    """Findings by their names, kept in a file.

    Args:
        path: of the file; it goes on if there is one.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._code = path, digest_of_code()
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._found = {entry["name"]: entry for entry in map(json.loads, lines)}

    def __len__(self) -> int:
        return len(self._found)

    @property
    def entries(self) -> list[dict[str, Any]]:
        return list(self._found.values())

    @property
    def versions(self) -> int:
        """Of the extension's code, that were running."""
        return len({entry["code"] for entry in self._found.values()})

    @property
    def wrong(self) -> list[str]:
        """The names of what was not as it should be."""
        return [name for name, entry in self._found.items() if entry["wrong"]]

    def has_passed(self, name: str) -> bool:
        return name in self._found and not self._found[name]["wrong"]

    def total(self, field: str) -> int:
        return sum(entry[field] for entry in self._found.values())

    def add(self, name: str, **found: Any) -> None:
        """Note a finding, whose field ``wrong`` is 0 if all is well."""
        entry = {"name": name, "code": self._code, **found}
        self._found[name] = entry
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
