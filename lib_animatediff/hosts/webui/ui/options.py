"""Registers our section of the WebUI's settings page."""

from __future__ import annotations

import gradio as gr

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.options import OPTIONS, SECTION


def register() -> None:
    """Add our options. The WebUI calls this before it builds the page."""
    for key, option in OPTIONS.items():
        component = None if option.component is None else getattr(gr, option.component)
        a1111.add_option(key, option.default, option.label, component, option.arguments, SECTION)
