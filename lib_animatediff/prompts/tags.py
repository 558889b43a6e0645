"""Tags of extra networks in prompts, such as ``<lora:name:1>``.

The WebUI's pattern searches each ``<a:`` to the end of the text for a ``>``. That takes half a minute for 200 KB of
them, so the part behind the last ``>``, which has no tag, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable

NETWORK_TAG = re.compile(r"<\w+:[^>]+>")  # as in modules.extra_networks
LORA_TAG = re.compile(r"<(?:lora|lyco):([^>]+)>")


def find_tag(text: str, tag: re.Pattern[str] = NETWORK_TAG) -> str | None:
    """The first tag of a text; None without one."""
    found = tag.search(text, 0, text.rfind(">") + 1)
    return found and found[0]


def tags_in(text: str, tag: re.Pattern[str] = LORA_TAG) -> list[str]:
    """What is inside the tags of a text, such as ``name:1``."""
    return tag.findall(text, 0, text.rfind(">") + 1)


def replace_tags(
    text: str, replacement: str | Callable[[re.Match[str]], str] = "", tag: re.Pattern[str] = NETWORK_TAG
) -> str:
    """The text with each tag replaced; ``replacement`` is as for `re.sub`."""
    end = text.rfind(">") + 1
    return tag.sub(replacement, text[:end]) + text[end:]
