"""The picture of the windows, read back: every box of it is where a window has its frames."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from lib_animatediff import ContextWindows
from lib_animatediff.engine.context_windows import FUSIONS, WINDOW_KINDS
from lib_animatediff.request.window_map import LARGEST_MAP, MOST_PLANS, window_map

SVG = "{http://www.w3.org/2000/svg}"
WIDTH = 640
GRID = 0.2  # opacity of the lines behind the bars
TINY = 1e-9


@dataclass
class Map:
    """What a picture shows: by the heading of each group its bars, from the top, as frame -> opacity."""

    groups: dict[str, list[dict[int, float]]]
    texts: list[str]


def read_map(picture: str, frames: int) -> Map:
    """Boxes as frames, for clips of which every frame has a place of its own."""
    svg = ET.fromstring(picture)
    groups: dict[str, list[dict[int, float]]] = {}
    bars: dict[int, dict[int, float]] = {}
    texts = []
    for node in svg:
        if node.tag == f"{SVG}text":
            texts.append(node.text)
            if ":" in node.text:
                groups[node.text], bars = [], {}
        if node.tag == f"{SVG}path" and float(node.get("opacity")) != GRID:
            for left, top, width in re.findall(r"M([\d.]+) (\d+)h([\d.]+)v\d+H[\d.]+z", node.get("d")):
                if int(top) not in bars:
                    bars[int(top)] = {}
                    list(groups.values())[-1].append(bars[int(top)])
                first, last = (round(float(x) * frames / WIDTH) for x in (left, float(left) + float(width)))
                assert last > first
                assert not bars[int(top)].keys() & set(range(first, last)), "boxes lie over each other"
                bars[int(top)].update(dict.fromkeys(range(first, last), float(node.get("opacity"))))
    return Map(groups, texts)


CASES = [
    (ContextWindows(), 48),
    (ContextWindows(length=8, overlap=2, kind="static", fusion="flat"), 20),
    (ContextWindows(length=8, overlap=2, kind="batched", fusion="overlap-linear"), 21),
    (ContextWindows(length=8, overlap=2, stride=2), 33),
    (ContextWindows(length=16, overlap=4, kind="looped", closed=True, stride=2), 60),
]


@pytest.mark.parametrize(("windows", "frames"), CASES)
def test_the_bars_are_the_windows_of_the_first_steps_that_differ(windows, frames):
    shown = read_map(window_map(windows, frames, 10), frames)
    plans = dict.fromkeys(tuple(map(frozenset, windows.plan(frames, step))) for step in range(10))
    assert [tuple(map(frozenset, bars)) for bars in shown.groups.values()] == list(plans)[:MOST_PLANS]


@pytest.mark.parametrize(("windows", "frames"), CASES)
def test_a_window_is_darker_where_it_counts_more(windows, frames):
    (bars, *_) = read_map(window_map(windows, frames, 1), frames).groups.values()
    for bar, window in zip(bars, windows.plan(frames, 0), strict=True):
        weights = dict(zip(window, windows.weights(window, frames), strict=True))
        for frame, weight in weights.items():
            share = weight / max(weights.values())
            assert share - TINY <= bar[frame] < share + 0.25
            assert bar[frame] * 4 in (1, 2, 3, 4)


def test_a_group_is_named_by_its_step_and_its_windows():
    windows = ContextWindows()
    headings = list(read_map(window_map(windows, 48, 20), 48).groups)
    assert headings[0] == f"step 1: {len(windows.plan(48, 0))} windows"
    for heading in headings:
        step, count = map(int, re.findall(r"\d+", heading))
        assert len(windows.plan(48, step - 1)) == count


def test_the_picture_says_what_it_leaves_out():
    def told(windows, frames, steps=20):
        return read_map(window_map(windows, frames, steps), frames).texts

    assert "every step: 4 windows" in told(ContextWindows(kind="static"), 48)  # which never move
    assert "Further steps repeat these." in told(ContextWindows(length=4, overlap=1), 6, 50)  # two plans, in turn
    assert "Further steps are not shown." in told(ContextWindows(), 100)
    assert not [text for text in told(ContextWindows(), 100, 4) if text.startswith("Further")]
    assert "The smallest segment represents 50 frames." in told(ContextWindows(), 10_000)
    assert [text for text in told(ContextWindows(), 48) if text.isdigit()] == "0 6 12 18 24 30 36 42".split()


@pytest.mark.parametrize("windows", [None, ContextWindows(), ContextWindows(length=12)])
def test_a_clip_in_one_piece_is_one_plain_bar(windows):
    shown = read_map(window_map(windows, 12, 20), 12)
    assert shown.groups == {"every step: 1 window": [dict.fromkeys(range(12), 1.0)]}


def test_many_windows_share_bars_and_the_picture_says_so():
    windows = ContextWindows(length=4, overlap=1, kind="static")
    shown, plan = read_map(window_map(windows, 190, 20), 190), windows.plan(190, 0)
    ((heading, bars),) = shown.groups.items()
    assert (heading, len(bars)) == ("every step: 63 windows", 21)
    assert "A bar represents up to 3 windows." in shown.texts
    for place, bar in enumerate(bars):
        assert bar == dict.fromkeys(set().union(*plan[3 * place : 3 * place + 3]), 1.0)


def test_windows_of_different_strides_share_no_bar():
    windows = ContextWindows(length=4, overlap=1, stride=2, kind="static")
    (bars,) = read_map(window_map(windows, 190, 20), 190).groups.values()
    plan = windows.plan(190, 0)
    near = [window for window in plan if window[1] - window[0] == 1]
    far = plan[len(near) :]
    assert far
    assert len(near) % 6  # else no bar could be shared by mistake
    expected = [set().union(*part[i : i + 6]) for part in (near, far) for i in range(0, len(part), 6)]
    assert [set(bar) for bar in bars] == expected


@pytest.mark.parametrize("frames", [401, 999, 10_000])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_bar_of_a_long_clip_shows_every_piece_that_its_windows_touch(frames, stride):
    columns = 200
    windows = ContextWindows(length=40, overlap=10, stride=stride, kind="static")
    plan = windows.plan(frames, 0)
    (bars,) = read_map(window_map(windows, frames, 1), columns).groups.values()
    touched = [{frame * columns // frames for frame in window} for window in plan]
    if len(plan) <= 24:
        assert [set(bar) for bar in bars] == touched
    assert set().union(*bars) == set(range(columns))
    assert sum(map(len, bars)) <= sum(map(len, touched))


def test_the_picture_fits_any_page():
    picture = window_map(ContextWindows(), 48, 20)
    svg = ET.fromstring(picture)
    assert (svg.get("width"), svg.get("viewBox").split()[2]) == ("100%", str(WIDTH + 8))
    assert svg.get("fill") == "currentColor"
    assert not [word for word in ("#", "script") if word in picture]
    assert svg.find(f"{SVG}title").text == "Which of 48 frames each context window covers"


SIZES = {"length": st.integers(1, 128), "overlap": st.integers(0, 127), "stride": st.integers(1, 8)}
CHOICES = {"kind": st.sampled_from(WINDOW_KINDS), "fusion": st.sampled_from(sorted(FUSIONS))}


@limits(deadline=None, max_examples=60)
@given(frames=st.integers(1, 10_000), steps=st.integers(1, 150), given=st.fixed_dictionaries(SIZES | CHOICES))
def test_every_picture_is_small_and_whole(frames, steps, given):
    given["overlap"] = min(given["overlap"], given["length"] // 2)  # more is legal, and takes long to plan
    picture = window_map(ContextWindows(**given), frames, steps)
    assert len(picture) <= LARGEST_MAP
    assert ET.fromstring(picture).tag == f"{SVG}svg"


def test_a_picture_with_more_dots_than_fit_has_fewer_bars():
    """These would take 85,000 characters."""
    windows = ContextWindows(length=70, overlap=7, stride=7, fusion="overlap-linear")
    picture = window_map(windows, 281, 20)
    assert len(picture) <= LARGEST_MAP
    assert "A bar represents up to 2 windows." in read_map(picture, 281).texts
