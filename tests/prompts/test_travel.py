"""Prompt travel: what the lines of a prompt say, and which prompts each frame is made of."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib_animatediff import ClipError
from lib_animatediff.prompts.travel import EASINGS, INTERPOLATIONS, Blend, is_travel, joined, read_travel, table

FRAMES = 16
WHOLE = """masterpiece, 1girl <lora:x:0.8>
0: spring
8-11: (summer:1.2)
80%: autumn
-1 hold: winter
best quality"""


def keys_of(text, frames=FRAMES):
    return [(key.first, key.last, key.text) for key in read_travel(text, frames).keys]


def weights_of(text, frames, *how, **kwargs):
    return [blend.weight for blend in read_travel(text, frames).blends(*how, **kwargs)]


# --------------------------------------------------------------------------------------------------------------------
# the grammar


def test_a_whole_travel():
    travel = read_travel(WHOLE, FRAMES)
    assert travel.head == "masterpiece, 1girl <lora:x:0.8>"
    assert travel.tail == "best quality"
    assert keys_of(WHOLE) == [(0, 0, "spring"), (8, 11, "(summer:1.2)"), (12, 12, "autumn"), (15, 15, "winter")]
    assert [(key.holds, key.line) for key in travel.keys] == [(False, 2), (False, 3), (False, 4), (True, 5)]
    told = [prompt.split(", ")[2] for prompt in travel.prompts()]
    assert told == ["spring"] * 8 + ["(summer:1.2)"] * 4 + ["autumn"] * 3 + ["winter"]
    assert travel.prompts()[3] == "masterpiece, 1girl <lora:x:0.8>, spring, best quality"


@pytest.mark.parametrize(
    ("place", "frames", "span"),
    [
        ("0", 16, (0, 0)),
        ("15", 16, (15, 15)),
        ("-1", 16, (15, 15)),
        ("-16", 16, (0, 0)),
        ("0%", 16, (0, 0)),
        ("100%", 16, (15, 15)),
        ("50%", 16, (8, 8)),  # 7.5: rounded up
        ("50%", 18, (9, 9)),  # 8.5, too, where Python's own rounding goes down
        ("12.5%", 17, (2, 2)),
        (".5%", 201, (1, 1)),
        (".5", 17, (8, 8)),
        ("0.25", 17, (4, 4)),
        ("1.0", 17, (16, 16)),
        ("8-11", 16, (8, 11)),
        ("8 - 11", 16, (8, 11)),
        ("8--1", 16, (8, 15)),
        ("8 - -1", 16, (8, 15)),
        ("-4--1", 16, (12, 15)),
        ("25%-50%", 17, (4, 8)),
        (".25 - .5", 17, (4, 8)),
        ("4-50%", 17, (4, 8)),
        ("3-3", 16, (3, 3)),
        ("50%", 1, (0, 0)),
    ],
)
def test_places(place, frames, span):
    assert keys_of(f"{place}: spring", frames) == [(*span, "spring")]


@pytest.mark.parametrize("word", ["hold", *EASINGS])
def test_words_after_a_place(word):
    for text in (f"0 {word}: spring", f"0  {word.upper()} : spring", f"0-3 {word}: spring", f"0% {word}:spring"):
        (key,) = read_travel(text, FRAMES).keys
        assert (key.holds, key.easing) == ((True, None) if word == "hold" else (False, word)), text


@pytest.mark.parametrize(
    "line",
    [
        "16:9 format",
        "16:9",
        "2.35:1, cinematic",
        "12:30 in the morning",
        "1girl: alone",
        "(a:1.2)",
        "[a:b:0.5]",
        "(0: 1)",
        "4 girls: each with a cat",
        "4 large trees: oaks",
        "-: nothing",
        "x0: y",
        ": 0",
        "1234567890: long",
        "2:1 ratio\n2:1 again",
        "20:40 vision\n30:60",
        "",
    ],
)
def test_ordinary_text(line):
    assert not is_travel(line)
    assert read_travel(line, FRAMES) is None
    assert read_travel(f"a cat\n{line}\na dog", FRAMES) is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("0:spring", "spring"),
        ("0:(spring:1.2)", "(spring:1.2)"),
        ("0:1girl, spring", "1girl, spring"),
        ("0:80s style", "80s style"),
        ("0 :spring", "spring"),
        ("0%:4 cats", "4 cats"),
        ("0 hold:4 cats", "4 cats"),
        ("  0:\tspring  \r", "spring"),
    ],
)
def test_no_space_after_the_colon_is_needed(line, text):
    """The existing extension takes `0:spring` for ordinary text."""
    assert [key.text for key in read_travel(f"{line}\n8: summer", FRAMES).keys] == [text, "summer"]


@pytest.mark.parametrize(
    ("text", "head", "tail"),
    [
        ("16:9 format\n0: spring\n8: summer\n(a:1.2), 4:3", "16:9 format", "(a:1.2), 4:3"),
        # In the existing extension a blank line begins the tail, and the rest of the map becomes text of every frame.
        ("head\n\n0: spring\n\n  \n8: summer\n\nbest\n\nquality\n", "head", "best\n\nquality"),
        ("one,\n two\n0: spring\n8: summer\nthree\nfour", "one,\n two", "three\nfour"),
    ],
)
def test_ordinary_lines_stand_before_and_after_the_frames(text, head, tail):
    travel = read_travel(text, FRAMES)
    assert [key.text for key in travel.keys] == ["spring", "summer"]
    assert (travel.head, travel.tail) == (head, tail)
    assert travel.prompts()[0] == f"{head}, spring, {tail}"


def test_frames_may_come_in_any_order():
    assert keys_of("8: summer\n0: spring\n-1: winter") == [(0, 0, "spring"), (8, 8, "summer"), (15, 15, "winter")]


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (("a", "b", "c"), "a, b, c"),
        (("a,", "b,", "c,"), "a, b, c,"),
        (("a", ", b", ",c"), "a, b,c"),
        (("a,", ",b", ""), "a, b"),
        (("", "b", ""), "b"),
        (("", ", b", "c"), ", b, c"),
        (("a,", ",", "c"), "a, c"),
        (("a", "AND b", "c"), "a AND b, c"),
        (("a AND", "b", "BREAK c"), "a AND b BREAK c"),
        (("a BREAK", "AND b", "c"), "a BREAK AND b, c"),
        (("a,", "AND b", "c"), "a, AND b, c"),
        (("SAND", "ANDY", "BREAKFAST"), "SAND, ANDY, BREAKFAST"),
        (("a (", "b", ":1.2), c"), "a (b:1.2), c"),
        (("a [", "b", "|d]"), "a [b|d]"),
        (("a \\(", "b", "c\\)"), "a \\(, b, c\\)"),
        (("\n a \n", "b", "c\nd\n"), "a, b, c\nd"),
    ],
)
def test_pieces_are_joined_as_a_person_would(pieces, whole):
    assert joined(*pieces) == whole


# --------------------------------------------------------------------------------------------------------------------
# errors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0: a\n16: b", 'Line 2 of the prompt, "16: b": the clip has no frame 16. Its 16 frames are 0 to 15'),
        ("0: a\n-17: b", "no frame -17"),
        ("0: a\n8-16: b", "no frame 16"),
        ("0: a\n8: b\n8: c", 'Line 3 of the prompt, "8: c": frame 8 is already described by line 2, "8: b"'),
        ("4-9: a\n0-4: b", 'Line 2 of the prompt, "0-4: b": frame 4 is already described by line 1, "4-9: a"'),
        ("0: a\n0%: b", "frame 0 is already described by line 1"),
        ("9-8: a", "from frame 9 to frame 8. Write the earlier frame first"),
        ("8 -1: a", "from frame 8 to frame 1"),
        ("-1-0: a", "from frame 15 to frame 0"),
        ("101%: a", "101% is outside the clip. Use 0% to 100%"),
        ("-5%: a", "-5% is outside the clip"),
        ("1.85: a", "1.85 is outside the clip. Use 0.0 to 1.0"),
        (
            "0: a\n4 slowly: b",
            "slowly is not a modifier. Write hold, linear, ease-in, ease-out, ease-in-out or nothing",
        ),
        ("2 girls: x\n4: b", 'Line 1 of the prompt, "2 girls: x"'),
        ("0: a\n\n4:", "Line 3 .*there is no text after the colon"),
        ("0: a\n4: <lora:x:0.8>, b", "<lora:x:0.8> applies to the whole clip, not to one frame. Move it"),
        ("0: a <lyco:y>\n4: b", "Line 1 .*<lyco:y>"),
        ("0: <hypernet:z:1>", "<hypernet:z:1>"),
        ("h\n0: a\n\nbest\n4: b", 'Line 5 of the prompt, "4: b": .*begins in line 4, "best".*next to the other frames'),
        ("0: a\nbest\n4 girls: b", "Line 3 .*begins in line 2"),
    ],
)
def test_errors_name_the_line_and_say_what_to_do(text, words):
    with pytest.raises(ClipError, match=words):
        read_travel(text, FRAMES)


def test_a_long_number_is_read():
    assert read_travel(f"0:{'1' * 100_000}a\n4: b", 16).prompts()[4] == "b"


def test_errors_say_which_prompt_and_quote_no_more_than_a_person_reads():
    with pytest.raises(ClipError, match="Line 1 of the negative prompt, ") as refusal:
        read_travel(f"99: {'a' * 500}", FRAMES, "negative prompt")
    assert len(str(refusal.value)) < 400


@given(st.text(alphabet="0189-.% :ahold\n,<>", max_size=40), st.integers(1, 20))
@example("-: 0\n0:", 1)
@example(f"{'9' * 5000}: a", 1)
@example("\u0663: a", 8)  # a digit, but not one that a frame is written in
@settings(max_examples=600, deadline=None)
def test_any_text_is_read_or_refused(text, frames):
    try:
        travel = read_travel(text, frames)
    except ClipError:
        assert is_travel(text)
        return
    assert (travel is not None) == is_travel(text)
    if travel is not None:
        assert len(travel.prompts()) == len(travel.blends()) == frames
        assert all(0 <= key.first <= key.last < frames and key.text for key in travel.keys)


# --------------------------------------------------------------------------------------------------------------------
# which prompts a frame is made of


def test_a_linear_travel():
    there = [Blend(2, 6, part / 4) for part in (1, 2, 3)]
    wanted = [*[Blend(2, 2, 0.0)] * 3, *there, *[Blend(6, 6, 0.0)] * 2, Blend(6, 9, 0.5), *[Blend(9, 9, 0.0)] * 3]
    assert read_travel("2: a\n6-7: b\n9: c", 12).blends() == wanted


def test_a_closed_travel_leads_round_the_end():
    there, back = ([Blend(*pair, part / 4) for part in (1, 2, 3)] for pair in ((2, 6), (6, 2)))
    wanted = [*back[1:], Blend(2, 2, 0.0), *there, Blend(6, 6, 0.0), back[0]]
    assert read_travel("2: a\n6: b", 8).blends(closed=True) == wanted


@pytest.mark.parametrize(
    ("easing", "quarters"),
    [
        ("linear", [0.25, 0.5, 0.75]),
        ("ease-in", [0.0625, 0.25, 0.5625]),
        ("ease-out", [0.4375, 0.75, 0.9375]),
        ("ease-in-out", [0.15625, 0.5, 0.84375]),
    ],
)
def test_easings(easing, quarters):
    assert weights_of("0: a\n4: b", 5, easing=easing) == [0, *quarters, 0]
    assert weights_of(f"0 {easing}: a\n4: b", 5, easing="ease-in") == [0, *quarters, 0]  # the key's own comes first


def test_holding():
    assert weights_of("0: a\n8: b", 9, hold=0.5) == [0, 0, 0, 0, 0, 0.25, 0.5, 0.75, 0]
    assert weights_of("0: a\n8: b", 9, easing="ease-in", hold=0.5)[5:8] == [0.0625, 0.25, 0.5625]
    assert read_travel("0: a\n4: b", 5).blends(hold=1.0) == [*[Blend(0, 0, 0.0)] * 4, Blend(4, 4, 0.0)]
    assert weights_of("0 hold: a\n2: b\n4: c", 5) == [0, 0, 0, 0.5, 0]


def test_a_step_leaves_each_prompt_until_the_next():
    still = [Blend(6, 6, 0.0), Blend(6, 6, 0.0), *[Blend(2, 2, 0.0)] * 4, *[Blend(6, 6, 0.0)] * 2]
    assert read_travel("2: a\n6: b", 8).blends("step", closed=True) == still
    assert read_travel("2: a\n6 hold: b", 8).blends("slerp", closed=True)[:3] == still[:3]


@pytest.mark.parametrize("closed", [False, True])
def test_one_key_stands_everywhere(closed):
    assert read_travel("3: a", 8).blends(closed=closed) == [Blend(3, 3, 0.0)] * 8


PLACES = st.lists(st.integers(0, 39), min_size=1, max_size=8, unique=True)
HOW = st.tuples(st.sampled_from(INTERPOLATIONS), st.sampled_from(list(EASINGS)), st.floats(0, 1))


@given(st.integers(1, 40), PLACES, HOW, st.booleans())
@settings(max_examples=300, deadline=None)
def test_every_travel_begins_and_ends_its_changes_at_its_keys(more, places, how, closed):
    frames = max(places) + more
    travel = read_travel("\n".join(f"{place}: p{place}" for place in places), frames)
    blends = travel.blends(*how, closed)
    ordered = sorted(places)
    for frame, blend in enumerate(blends):
        assert {blend.first, blend.second} <= set(places)
        assert 0 <= blend.weight <= 1
        if blend.first == blend.second:
            assert blend.weight == 0
        else:
            assert ordered[(ordered.index(blend.first) + 1) % len(ordered)] == blend.second
        if frame in places:
            assert blend == Blend(frame, frame, 0.0)
        if blend.weight == 0 and (not closed or frame >= ordered[0]):
            assert travel.prompts()[frame] == f"p{blend.first}"
    for former, following in itertools.pairwise(blends):
        if (former.first, former.second) == (following.first, following.second):
            assert former.weight <= following.weight


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"interpolation": "cubic"}, "slerp, linear, step"),
        ({"easing": "bounce"}, "linear, ease-in, ease-out, ease-in-out"),
        ({"hold": 1.5}, "not 1.5"),
        ({"hold": float("nan")}, "not nan"),
    ],
)
def test_what_blends_do_not_know_is_refused(how, words):
    with pytest.raises(ClipError, match=words):
        read_travel("0: spring\n8: summer", FRAMES).blends(**how)


def test_long_travels_are_read_at_once():
    frames = 10_000
    travel = read_travel("\n".join(f"{frame}: p{frame}" for frame in range(0, frames, 2)), frames)
    assert travel.blends()[4321] == Blend(4320, 4322, 0.5)
    assert travel.prompts()[4321] == "p4320"


# --------------------------------------------------------------------------------------------------------------------
# what a panel and a style make of it


def test_a_table_of_a_travel():
    travel = read_travel("head\n0: spring\n8: summer\n10-11: autumn", 14)
    assert table(travel, travel.blends()) == [
        ("0", "spring"),
        ("1-7", "spring -> summer, 12 % .. 88 %"),
        ("8", "summer"),
        ("9", "summer -> autumn, 50 %"),
        ("10-13", "autumn"),
    ]
    assert table(travel, travel.blends("step"))[0] == ("0-7", "spring")
