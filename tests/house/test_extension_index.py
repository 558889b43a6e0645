"""The entry for the WebUI's list of extensions is one that its index takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TAGS = {"script", "tab", "models", "prompting", "manipulations", "animation"}  # those of its tags.json that can be ours


def test_the_entry_is_what_the_index_asks_for():
    entry = json.loads((ROOT / "docs" / "extension-index.json").read_text(encoding="utf-8"))
    assert list(entry) == ["name", "url", "description", "tags"], "the index itself adds the date"
    assert set(entry["tags"]) <= TAGS
    assert re.fullmatch(r"https://[^ ]+\.git", entry["url"])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert ("OWNER/REPO" in entry["url"]) == ("OWNER/REPO" in readme), "the README says where the placeholder is"
