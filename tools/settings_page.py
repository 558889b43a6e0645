"""Write docs/settings.md and the rows of the README from the settings table."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from lib_animatediff.request.settings import SETTINGS, by_group  # noqa: E402 - from this folder, not an installed copy

PAGE = ROOT / "docs" / "settings.md"

INTRODUCTION = """\
# Settings

The panel, the API, the infotext of clips, the X/Y/Z plot and the command line share one list of settings. On the
command line `frames` is `--frames` and `freeinit_enable` is `--freeinit-enable`; `model` is `--motion`, `formats` is
`--format` and `motion_loras` is `--motion-lora`. The column "Also" lists other accepted names, most of them from
[sd-webui-animatediff](api.md#coming-from-sd-webui-animatediff). [Directing a clip](features.md) shows the effect of
each setting.

Some settings have no effect under others, such as `overlap` in a clip that fits into one context window. If you change
one of those, a note says so: in the panel's plan, in the reply of the API, and as a line of the command line and of
`say` in Python. The X/Y/Z plot refuses an axis that changes nothing.

`python tools/settings_page.py` writes this page from `request/settings/table.py`. A test compares the two.
"""
HEAD = "| Name | Also | Default | Meaning |\n|---|---|---|---|"
UNGROUPED = "The clip"


def row(setting) -> str:
    """One setting as a row of the table."""
    also = ", ".join(f"`{alias}`" for alias in setting.aliases)
    # Sending any setting enables the clip; the default model is the panel's.
    default = {"enable": True, "model": "the first in the list"}.get(setting.name, setting.default)
    if setting.type is tuple:
        default = " ".join(default)
    limits = f" From {setting.minimum:g} to {setting.maximum:g}." if setting.maximum is not None else ""
    if setting.choices and not setting.meanings:
        limits = f" One of {', '.join(setting.choices)}."
    return f"| `{setting.name}` | {also} | {default} | {setting.full_help}{limits} |".replace("<", "&lt;")


def page(settings: Iterable) -> str:
    """The page, with the headings of the panel."""
    parts = [
        f"\n## {group or UNGROUPED}\n\n{HEAD}\n" + "".join(f"{row(setting)}\n" for setting in members)
        for group, members in by_group(settings).items()
    ]
    return "".join(itertools.chain([INTRODUCTION], parts))


def readme_rows(settings: Iterable) -> str:
    """The rows of the README: the settings that every infotext contains."""
    return "\n".join(row(setting) for setting in settings if not setting.omit_default)


if __name__ == "__main__":
    PAGE.write_text(page(SETTINGS.values()), encoding="utf-8")
