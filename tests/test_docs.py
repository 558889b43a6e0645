"""What the pages say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from lib_animatediff.settings import SETTINGS

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def row(setting) -> str:
    """A setting as the README's table shows it."""
    also = ", ".join(f"`{alias}`" for alias in setting.aliases)
    # A client that sends settings at all wants a clip; the model's default is the panel's.
    default = {"enable": True, "model": "the first in the list"}.get(setting.name, setting.default)
    if setting.type is tuple:
        default = " ".join(default)
    limits = f" From {setting.minimum:g} to {setting.maximum:g}." if setting.maximum is not None else ""
    if setting.choices:
        limits = f" One of {', '.join(setting.choices)}."
    return f"| `{setting.name}` | {also} | {default} | {setting.help}{limits} |"


def test_the_readme_lists_the_settings_table():
    rows = "\n".join(row(setting) for setting in SETTINGS.values())
    assert rows in README, f"the settings table changed; the README needs:\n{rows}"


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
