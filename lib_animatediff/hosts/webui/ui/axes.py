"""Every setting as an axis of the WebUI's X/Y/Z plot."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lib_animatediff.hosts.webui.catalog.models import choices
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.errors import as_http_422
from lib_animatediff.request.effects import idle_settings
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.settings import (
    SETTINGS,
    Setting,
    canonical_name,
    check_value,
    parse_settings,
)
from motion_module import ClipError

_PLOT = "xyz_grid.py"
_VALUES = "animatediff_axes"  # on the plot's own copy of p
_ALL_VALUES = "animatediff_values_of_axes"  # on p, which the plot copies
_MOST_CELLS = 1000  # of a plot whose cells are looked at
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


def settings_of_axes(p: Any) -> set[str]:
    """The settings that the plot's axes give."""
    return set(getattr(p, _VALUES, ()))


def refuse_idle_axes(p: Any, plan: ClipPlan) -> None:
    """Refuse a plot of which an axis has no effect in any cell; ``plan`` is that of one of its cells.

    Raises:
        ClipError: with the name of the axis, and the reason in the first cell.
    """
    axes: dict[str, Sequence[Any]] = {
        name: values for name, values in getattr(p, _ALL_VALUES, {}).items() if name in getattr(p, _VALUES, {})
    }
    if not axes or math.prod(map(len, axes.values())) > _MOST_CELLS:
        return
    given = {name: getattr(plan.settings, name) for name in SETTINGS}
    cells = [given | dict(zip(axes, cell, strict=True)) for cell in itertools.product(*axes.values())]
    idle = [idle_settings(parse_settings(cell)) for cell in cells]
    for name in axes:
        if all(name in cell for cell in idle):
            raise ClipError(
                f"The axis {SETTINGS[name].label} changes nothing in this plot: {name} {idle[0][name]} "
                "Remove the axis, or change the other setting.",
                code="AD-W24",
            )


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
    offered = list(_TRUTHS) if setting.type is bool else list(setting.choices or setting.suggestions)
    return (lambda: offered) if offered else None


def _value(setting: Setting, given: Any) -> Any:
    return _TRUTHS.get(given, given) if setting.type is bool else given


def _apply(setting: Setting, p: Any, given: Any, _all: Sequence[Any]) -> None:
    setattr(p, _VALUES, {**getattr(p, _VALUES, {}), setting.name: _value(setting, given)})


def _confirm(setting: Setting, p: Any, given: Sequence[Any]) -> None:
    values = [_value(setting, value) for value in given]
    with as_http_422():
        for value in values:
            check_value(setting.name, value)
    if p is not None:
        setattr(p, _ALL_VALUES, {**getattr(p, _ALL_VALUES, {}), setting.name: values})
