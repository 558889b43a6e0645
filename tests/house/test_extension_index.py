"""The entry for the WebUI's list of extensions is one that its index takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
ENTRY = json.loads((REPOSITORY / "docs" / "extension-index.json").read_text(encoding="utf-8"))
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PLACEHOLDER = "OWNER/REPO"  # as in the index's own template

# Those of its tags.json that a person may give; "installed" is for the WebUI's own use.
TAGS = {"script", "localization", "tab", "dropdown", "ads", "training", "models", "UI related", "prompting", "editing"}
TAGS |= {"manipulations", "online", "animation", "query", "science", "extras"}


def test_the_entry_has_the_fields_that_the_index_asks_for():
    assert list(ENTRY) == ["name", "url", "description", "tags"], "the index itself adds the date"
    assert all(isinstance(ENTRY[field], str) and ENTRY[field].strip() for field in ("name", "url", "description"))


def test_its_tags_are_those_of_the_index():
    assert ENTRY["tags"]
    assert set(ENTRY["tags"]) <= TAGS
    assert len(set(ENTRY["tags"])) == len(ENTRY["tags"])


def test_its_address_is_one_that_the_webui_can_clone():
    assert re.fullmatch(r"https://[^ ]+\.git", ENTRY["url"])


def test_the_readme_says_so_while_the_address_is_a_placeholder():
    assert "docs/extension-index.json" in README
    assert (PLACEHOLDER in ENTRY["url"]) == (PLACEHOLDER in README)


def test_the_description_fits_into_the_list_and_names_the_bases():
    assert len(ENTRY["description"]) <= 300
    assert "Stable Diffusion 1.5" in ENTRY["description"]
    assert "SDXL" in ENTRY["description"]
