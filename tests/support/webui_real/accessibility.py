"""What people with disabilities could not use on the page, as axe-core finds it."""

from __future__ import annotations

import json

import pytest
from support.webui_real.places import AXE

LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
FADING_MS = 700  # text that gradio is about to show is transparent


def violations(page, selector: str) -> list[str]:
    """The violations of level A or AA inside an element, one line for each, but for Forge's head of the accordion.

    It is a button with a checkbox in it, which is smaller than the rules have it.
    """
    if not AXE.is_file():
        pytest.skip("axe-core is not installed (make .venv/.webui-test): nothing of accessibility is proven")
    page.add_script_tag(path=AXE)
    page.wait_for_timeout(FADING_MS)
    options = {"runOnly": {"type": "tag", "values": LEVELS}, "resultTypes": ["violations"]}
    heads = f"{selector} > button.label-wrap"
    context = {"include": [[selector]], **({"exclude": [[heads]]} if page.locator(heads).count() else {})}
    found = page.evaluate(f"axe.run({json.dumps(context)}, {json.dumps(options)})")["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]
