"""SVG plots for the page, inline so that they inherit its colours and fonts in both schemes.

Panels are as narrow as a phone screen, so that their text is as large as the page's.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .measuring import DIRECTION, DOMAIN, MOTION, SMOOTHNESS, Metric
from .methods import METHODS
from .run import EvaluatedClip
from .verdict import means, table

BARS = (DIRECTION, SMOOTHNESS, DOMAIN)
_WIDTH = 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 12, 40
_HEIGHT = 280
_ROW, _GAP, _NAME = 22, 14, 132
_MARKS = {"frozen": "square", "independent": "ring", "text2video-zero": "diamond", "module": "disc"}


def scatter(clips: Sequence[EvaluatedClip], model: str) -> str:
    """Smoothness against motion: a mark per clip, and a larger one for each method's mean."""
    across = [clip.figures[MOTION.key] or 0.0 for clip in clips]
    up = [clip.figures[SMOOTHNESS.key] or 0.0 for clip in clips]
    right, steps = _ceiling(max(across, default=1.0))
    low = min(90.0, 10 * (min(up, default=90.0) // 10))
    parts = [_axes(right, steps, low)]

    def place(x: float, y: float) -> tuple[float, float]:
        inner = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + x / right * inner[0], _TOP + (100 - y) / (100 - low) * inner[1]

    for method in METHODS:
        mine = [clip for clip in clips if clip.method == method.key]
        for clip in mine:
            x, y = place(clip.figures[MOTION.key] or 0.0, clip.figures[SMOOTHNESS.key] or 0.0)
            parts.append(_mark(method.key, x, y, 3.5, "one"))
        if mine:
            mean = means(mine)
            x, y = place(mean[MOTION.key] or 0.0, mean[SMOOTHNESS.key] or 0.0)
            parts.append(_mark(method.key, x, y, 7.5, "mean"))
    label = f"Smoothness against motion of {model}"
    return _svg(_WIDTH, _HEIGHT, label, parts)


def legend() -> str:
    """Legend of the methods' marks."""
    items = []
    for method in METHODS:
        mark = _svg(16, 16, "", [_mark(method.key, 8, 8, 5, "mean")])
        items.append(f'<span class="key">{mark}{escape(method.title)}</span>')
    return f'<p class="legend">{"".join(items)}</p>'


def bars(clips: Sequence[EvaluatedClip], models: Sequence[str], metric: Metric) -> str:
    """A metric as bars from 0 to 100, grouped by model, without missing values."""
    parts, top = [], 4.0
    whole = 1.0 if metric.percent else 100.0
    for model in models:
        figures = table([clip for clip in clips if clip.model == model])
        parts.append(f'<text class="group" x="0" y="{top + 12:.1f}">{escape(_shortened(model))}</text>')
        top += _ROW
        for method in METHODS:
            value = figures[method.key][metric.key]
            if value is None:
                continue
            length = max(value / whole, 0.0) * (_WIDTH - _NAME - 54)
            parts += [
                f'<text x="{_NAME - 6}" y="{top + 12:.1f}" text-anchor="end">{escape(method.title)}</text>',
                f'<rect class="{method.key} bar" x="{_NAME}" y="{top:.1f}" width="{max(length, 1):.1f}" height="16"/>',
                f'<text x="{_NAME + length + 5:.1f}" y="{top + 12:.1f}">{metric.show(value)}</text>',
            ]
            top += _ROW
        top += _GAP
    return _svg(_WIDTH, top, f"{metric.title} of each method", parts)


def _axes(right: float, step: float, low: float) -> str:
    bottom, end = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for number in range(round(right / step) + 1):
        x = _LEFT + number * step / right * (end - _LEFT)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{number * step:g}</text>')
    for level in range(int(low), 101, 10 if low < 80 else 5):
        y = _TOP + (100 - level) / (100 - low) * (bottom - _TOP)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{level}</text>')
    middle = (_TOP + bottom) / 2
    parts += [
        f'<text x="{(_LEFT + end) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{MOTION.title}, pixels per frame</text>',
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{SMOOTHNESS.title}</text>',
    ]
    return "".join(parts)


def _ceiling(value: float) -> tuple[float, float]:
    """A round number not below a value, and the step of an axis that ends there."""
    for step in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0):
        if value <= 5 * step:
            return 5 * step, step
    return value, value / 5


def _mark(key: str, x: float, y: float, size: float, which: str) -> str:
    shape, names = _MARKS[key], f"{key} {which}"
    if shape == "square":
        side = 1.7 * size
        corner = f'x="{x - side / 2:.1f}" y="{y - side / 2:.1f}"'
        return f'<rect class="{names}" {corner} width="{side:.1f}" height="{side:.1f}"/>'
    if shape == "diamond":
        reach = 1.25 * size
        points = f"{x:.1f},{y - reach:.1f} {x + reach:.1f},{y:.1f} {x:.1f},{y + reach:.1f} {x - reach:.1f},{y:.1f}"
        return f'<polygon class="{names}" points="{points}"/>'
    return f'<circle class="{names} {shape}" cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>'


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    attributes = f'role="img" aria-label="{escape(label, quote=True)}"' if label else 'aria-hidden="true"'
    return f'<svg viewBox="0 0 {width:g} {height:g}" {attributes}>{"".join(parts)}</svg>'


def _shortened(name: str, longest: int = 44) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
