"""Every refusal has a code that docs/troubleshooting.md explains, and every code there is one that the code gives."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = r"AD-[A-Z]+\d+"


def codes_of_the_sources() -> Counter[str]:
    files = [path for package in ("motion_module", "lib_animatediff") for path in (ROOT / package).rglob("*.py")]
    return Counter(code for path in files for code in re.findall(rf'code="({CODE})"', path.read_text(encoding="utf-8")))


def codes_of_the_page() -> Counter[str]:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\|([^|]*)\|", page, re.MULTILINE)
    return Counter(code for cell in first_cells for code in re.findall(CODE, cell))


def test_the_page_lists_each_code_of_the_sources_and_each_is_given_in_one_place():
    given, listed = codes_of_the_sources(), codes_of_the_page()
    assert given, "no error has a code"
    assert given.keys() == listed.keys(), f"not in both: {sorted(given.keys() ^ listed.keys())}"
    assert not [code for code, times in given.items() if times > 1], "a code that several places give"
    assert not [code for code, times in listed.items() if times > 1], "a code that the page explains twice"
