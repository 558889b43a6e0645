"""One plan of each kind of context windows, for clips of a few frames."""

from __future__ import annotations

from lib_animatediff import ContextWindows

WINDOWS = {
    "uniform": ContextWindows(length=4, overlap=1, fusion="pyramid"),
    "stride": ContextWindows(length=4, overlap=1, stride=2),
    "looped": ContextWindows(length=4, overlap=1, kind="looped"),
    "closed": ContextWindows(length=4, overlap=1, kind="looped", closed=True),
    "static": ContextWindows(length=2, overlap=1, kind="static"),
    "batched": ContextWindows(length=2, overlap=0, kind="batched"),
}
