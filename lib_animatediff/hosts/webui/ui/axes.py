"""Every setting as an axis of the WebUI's X/Y/Z plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lib_animatediff.hosts.webui.catalog.models import choices
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.errors import as_http_422
from lib_animatediff.request.settings import SETTINGS, Setting, canonical_name, check_value

_PLOT = "xyz_grid.py"
_VALUES = "animatediff_axes"  # on the plot's own copy of p
_TRUTHS = {"True": True, "False": False}


def register() -> None:
    """Add our axes. The WebUI calls this before it builds the page, also after "Reload UI"."""
    for plot in a1111.script_modules(_PLOT):
        plot.axis_options += [_axis(plot, setting) for setting in SETTINGS.values()]


def with_axes(p: Any, values: dict[str, Any]) -> dict[str, Any]:
    """A request's settings with those of the plot's axes, which request a clip unless an axis is ``enable``."""
    axes = getattr(p, _VALUES, None)
    if not axes:
        return values
    rest = {name: value for name, value in values.items() if canonical_name(name) not in (*axes, "enable")}
    return {**rest, "enable": True, **axes}


def _axis(plot: Any, setting: Setting) -> Any:
    return plot.AxisOption(
        f"[AnimateDiff] {setting.label}",
        setting.type if setting.type in (int, float) else str,
        partial(_apply, setting),
        confirm=partial(_confirm, setting),
        choices=_choices(setting),
    )


def _choices(setting: Setting) -> Callable[[], list[str]] | None:
    if setting.name == "model":
        return choices
    offered = list(_TRUTHS) if setting.type is bool else list(setting.choices)
    return (lambda: offered) if offered else None


def _value(setting: Setting, given: Any) -> Any:
    return _TRUTHS.get(given, given) if setting.type is bool else given


def _apply(setting: Setting, p: Any, given: Any, _all: Sequence[Any]) -> None:
    setattr(p, _VALUES, {**getattr(p, _VALUES, {}), setting.name: _value(setting, given)})


def _confirm(setting: Setting, _p: Any, given: Sequence[Any]) -> None:
    with as_http_422():
        for value in given:
            check_value(setting.name, _value(setting, value))
