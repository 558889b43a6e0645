"""docs/settings.md and the rows of the README, from the settings table: `python tools/settings_page.py`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "settings.md"

INTRODUCTION = """\
# Settings

Every setting, once: the panel, the API, the infotext of clips, the X/Y/Z plot and the command line know them all by
these names. On the command line `frames` is `--frames`, `freeinit_enable` is `--freeinit-enable`; `model` is
`--motion`, `formats` is `--format`, `motion_loras` is `--motion-lora`. "Also" are names that clients of the existing
extension send.
[What they do to a clip](features.md), with pictures.

Written by `python tools/settings_page.py` from the table (`request/settings/table.py`); a test compares them.
"""
HEAD = "| Name | Also | Default | Meaning |\n|---|---|---|---|"
UNGROUPED = "The clip"


def row(setting) -> str:
    """A setting as a page's table shows it."""
    also = ", ".join(f"`{alias}`" for alias in setting.aliases)
    # A client that sends settings at all wants a clip; the model's default is the panel's.
    default = {"enable": True, "model": "the first in the list"}.get(setting.name, setting.default)
    if setting.type is tuple:
        default = " ".join(default)
    limits = f" From {setting.minimum:g} to {setting.maximum:g}." if setting.maximum is not None else ""
    if setting.choices:
        limits = f" One of {', '.join(setting.choices)}."
    return f"| `{setting.name}` | {also} | {default} | {setting.help}{limits} |".replace("<", "&lt;")


def page(settings: Iterable) -> str:
    """The page, under the headings by which the panel folds them away."""
    listed = list(settings)
    groups = dict.fromkeys(setting.group for setting in listed)
    parts = [
        f"\n## {group or UNGROUPED}\n\n{HEAD}\n" + "".join(f"{row(s)}\n" for s in listed if s.group == group)
        for group in groups
    ]
    return "".join(itertools.chain([INTRODUCTION], parts))


def readme_rows(settings: Iterable) -> str:
    """The rows that the README keeps: what every clip's text says."""
    return "\n".join(row(setting) for setting in settings if not setting.quiet)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from lib_animatediff.request.settings import SETTINGS

    PAGE.write_text(page(SETTINGS.values()), encoding="utf-8")
