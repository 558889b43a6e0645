"""Draws the context windows as an SVG: the frames that each window covers, for the first few sampling steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from lib_animatediff.engine.context_windows import ContextWindows, Window

LARGEST_MAP = 60_000  # characters, because the SVG is part of a page
MOST_PLANS = 4

_WIDTH = 640
# Bars per plan, and columns; fewer if the SVG would become too large.
_SIZES = ((24, 200), (12, 200), (6, 200), (3, 200), (3, 100), (3, 50))
_MANY_WINDOWS = 1000  # from here on the steps look alike and take long to draw
_SHADES = 4
_BAR, _GAP, _LINE = 5, 2, 18  # heights: of a bar, between bars, of a line of text
_TICKS = 8


@lru_cache(maxsize=8)
def window_map(windows: ContextWindows | None, frames: int, steps: int) -> str:
    """Draw the windows: frames from left to right, one bar per window, sampling steps below each other.

    A bar is darker where its window has more weight. A window with a stride is drawn as ticks. A window that wraps
    around the clip's end has a segment at both ends. A step with the same windows as an earlier one is left out. If
    there are too many windows, one bar represents several, and a note says so.

    Args:
        windows: None if the clip is processed in one piece.
        frames: number of frames in the clip.
        steps: number of sampling steps.
    """
    if windows is None or not windows.apply_to(frames):
        windows = ContextWindows(length=frames, overlap=0, fusion="flat")
    elif frames <= windows.length:
        windows = replace(windows, fusion="flat")  # nothing is averaged in one window
    plans = _first_plans(windows, frames, steps)
    svg = ""
    for most_bars, most_columns in _SIZES:
        svg = _svg(windows, frames, steps, plans, most_bars, min(frames, most_columns))
        if len(svg) <= LARGEST_MAP:
            break
    return svg


@dataclass(frozen=True)
class _Plans:
    """The first plans that differ, by the step at which each appears first.

    Attributes:
        are_all: whether all steps use one of these plans.
    """

    by_step: dict[int, list[Window]]
    are_all: bool


def _first_plans(windows: ContextWindows, frames: int, steps: int) -> _Plans:
    plans: dict[int, list[Window]] = {}
    for step in range(steps):
        plan = windows.plan(frames, step)
        if plan in plans.values():
            continue
        if len(plans) == MOST_PLANS:
            return _Plans(plans, are_all=False)
        plans[step] = plan
        if len(plan) > _MANY_WINDOWS:
            return _Plans(plans, are_all=steps == 1)
    return _Plans(plans, are_all=True)


def _svg(windows: ContextWindows, frames: int, steps: int, plans: _Plans, most_bars: int, columns: int) -> str:
    parts, top, merged = [], _LINE, 1
    for step, plan in plans.by_step.items():
        is_only = plans.are_all and len(plans.by_step) == 1
        parts.append(_text(0, top - 5, f"{'every step' if is_only else f'step {step + 1}'}: {_windows(len(plan))}"))
        for bar in _bars(plan, most_bars):
            parts += _drawn(_shades(windows, bar, frames, columns), top, columns)
            top += _BAR + _GAP
            merged = max(merged, len(bar))
        top += _LINE
    parts += _axis(frames, columns, top - _LINE)
    for note in _notes(plans, steps, merged, math.ceil(frames / columns)):
        top += _LINE
        parts.append(_text(0, top - 5, note))
    return (
        f'<svg class="animatediff-map" xmlns="http://www.w3.org/2000/svg" viewBox="-4 0 {_WIDTH + 8} {top + 4}" '
        f'width="100%" role="img" fill="currentColor" font-size="12" font-family="sans-serif">'
        f"<title>Which of {frames} frames each context window covers</title>{''.join(parts)}</svg>"
    )


def _notes(plans: _Plans, steps: int, windows_per_bar: int, frames_per_column: int) -> Iterator[str]:
    """Notes about the parts that the drawing leaves out."""
    if not plans.are_all:
        yield "Further steps are not shown."
    elif 1 < len(plans.by_step) < steps:
        yield "Further steps repeat these."
    if windows_per_bar > 1:
        yield f"A bar represents up to {windows_per_bar} windows."
    if frames_per_column > 1:
        yield f"The smallest segment represents {frames_per_column} frames."


def _windows(count: int) -> str:
    return "1 window" if count == 1 else f"{count} windows"


def _bars(plan: Sequence[Window], most: int) -> Iterator[Sequence[Window]]:
    """Groups of neighbouring windows with the same stride that share a bar."""
    together = math.ceil(len(plan) / most)
    for _, level in itertools.groupby(plan, _distance):
        windows = list(level)
        for start in range(0, len(windows), together):
            yield windows[start : start + together]


def _distance(window: Window) -> int:
    """Distance of neighbouring frames in a window; the loop's end may be between two of them."""
    return min((abs(b - a) for a, b in itertools.pairwise(window[:3])), default=1)


def _shades(windows: ContextWindows, bar: Sequence[Window], frames: int, columns: int) -> list[int]:
    """Darkness of each column, 0 where the bar has no window; several windows are drawn as a uniform bar."""
    shades = [0] * columns
    for window in bar:
        weights = windows.weights(window, frames) if len(bar) == 1 else [1.0] * len(window)
        shade_of_one = _SHADES / max(weights)
        each = max(frames // columns // _distance(window), 1)  # several frames per column: one of them is enough
        for place in (*range(0, len(window), each), len(window) - 1):
            column = window[place] * columns // frames
            shades[column] = max(shades[column], math.ceil(weights[place] * shade_of_one))
    return shades


def _drawn(shades: Sequence[int], top: int, columns: int) -> Iterator[str]:
    """One path per shade, with a box for each run of columns."""
    boxes: dict[int, list[str]] = {}
    begin = 0
    for shade, run in itertools.groupby(shades):
        end = begin + len(list(run))
        if shade:
            left, right = _x(begin, columns), _x(end, columns)
            # A small gap, so that the runs of a dotted window stay visible.
            boxes.setdefault(shade, []).append(f"M{left:g} {top}h{round(right - left, 1):g}v{_BAR}H{left:g}z")
        begin = end
    for shade, paths in sorted(boxes.items()):
        yield f'<path opacity="{shade / _SHADES:g}" d="{"".join(paths)}"/>'


def _axis(frames: int, columns: int, bottom: int) -> Iterator[str]:
    """Thin lines with frame numbers."""
    apart = max(frames // _TICKS, 1)
    for frame in range(0, frames, apart):
        x = _x(frame * columns // frames, columns)
        yield f'<path opacity="0.2" d="M{x:g} {_LINE}v{bottom - _LINE + 2}h.5V{_LINE}z"/>'
        yield _text(x, bottom + _LINE - 4, str(frame))


def _text(x: float, y: int, text: str) -> str:
    return f'<text x="{x:g}" y="{y}">{text}</text>'


def _x(column: int, columns: int) -> float:
    return round(column * _WIDTH / columns, 1)
