"""What the pages say is what the code does."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from lib_animatediff.cli.animate import animate
from lib_animatediff.prompts.travel import read_travel
from lib_animatediff.request.settings import SETTINGS, parse_settings
from tools.settings_page import HEAD, PAGE, page, readme_rows

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
FEATURES = REPOSITORY / "docs" / "features.md"
MOST_BYTES = 100_000  # of a moving picture on that page
CODE = r"AD-[A-Z]+\d+"
TAGS = {"script", "tab", "models", "prompting", "manipulations", "animation"}  # those of the index that can be ours


def test_the_readme_lists_the_settings_of_every_clip():
    rows = f"{HEAD}\n{readme_rows(SETTINGS.values())}\n\n"
    assert rows in README, f"the settings table changed; the README needs:\n{rows}"


def test_the_settings_page_is_the_table():
    written = PAGE.read_text(encoding="utf-8")
    assert written == page(SETTINGS.values()), "the settings table changed: python tools/settings_page.py"


def test_every_link_to_a_file_leads_somewhere():
    pages = [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")]
    targets = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert not [f"{page.name}: {link}" for page, link in targets if not (page.parent / link).exists()]


def test_every_make_target_that_the_readme_names_exists():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z-]+)", README)) - {"that"}
    assert named
    assert not [target for target in named if f"\n{target}:" not in makefile]


def test_the_features_page_shows_each_of_its_pictures_and_they_are_small():
    pictures = sorted((REPOSITORY / "docs" / "images" / "features").iterdir())
    shown = re.findall(r"\(images/features/([^)]+)\)", FEATURES.read_text(encoding="utf-8"))
    assert sorted(shown) == [path.name for path in pictures]
    assert not [path.name for path in pictures if path.stat().st_size > MOST_BYTES]


def test_what_the_features_page_says_to_a_client_is_understood():
    text = FEATURES.read_text(encoding="utf-8")
    objects = [json.loads(found) for found in re.findall(r"`(\{.*?\})`", text)]
    assert len(objects) > 7
    for given in objects:
        parse_settings({name: value for name, value in given.items() if value != "<PNG as base64>"})


def test_the_options_on_the_features_page_are_those_of_the_command_line():
    parts = FEATURES.read_text(encoding="utf-8").split("\n\n")
    named = {
        word for part in parts if "python -m tools." not in part for word in re.findall(r"[ `](--[a-z][a-z-]+)", part)
    }
    assert len(named) > 15
    assert not named - {option for parameter in animate.params for option in parameter.opts}


def test_the_travel_on_the_features_page_is_one():
    (example,) = re.findall(
        r"```\n(.*?)```", FEATURES.read_text(encoding="utf-8").partition("## Prompt travel")[2], re.S
    )
    travel = read_travel(example, 16)
    assert [(key.first, key.last) for key in travel.keys] == [(0, 0), (4, 6), (9, 9), (15, 15)]


def codes_of_the_sources() -> Counter[str]:
    files = [path for package in ("motion_module", "lib_animatediff") for path in (REPOSITORY / package).rglob("*.py")]
    return Counter(code for path in files for code in re.findall(rf'code="({CODE})"', path.read_text(encoding="utf-8")))


def codes_of_the_page() -> Counter[str]:
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\|([^|]*)\|", page, re.MULTILINE)
    return Counter(code for cell in first_cells for code in re.findall(CODE, cell))


def test_the_page_lists_each_code_of_the_sources_and_each_is_given_in_one_place():
    given, listed = codes_of_the_sources(), codes_of_the_page()
    assert given, "no error has a code"
    assert given.keys() == listed.keys(), f"not in both: {sorted(given.keys() ^ listed.keys())}"
    assert not [code for code, times in given.items() if times > 1], "a code that several places give"
    assert not [code for code, times in listed.items() if times > 1], "a code that the page explains twice"


def test_the_entry_for_the_webuis_list_of_extensions_is_what_its_index_takes():
    entry = json.loads((REPOSITORY / "docs" / "extension-index.json").read_text(encoding="utf-8"))
    assert list(entry) == ["name", "url", "description", "tags"], "the index itself adds the date"
    assert set(entry["tags"]) <= TAGS
    assert re.fullmatch(r"https://[^ ]+\.git", entry["url"])
    assert ("OWNER/REPO" in entry["url"]) == ("OWNER/REPO" in README), "the README says where the placeholder is"
