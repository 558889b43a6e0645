"""Styles around a prompt that travels."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_animatediff.prompts.travel import read_travel, with_styles

FRAMES = 16
SEASONS = "0: spring\n8: summer"


@pytest.mark.parametrize(
    ("text", "prefix", "suffix", "wanted"),
    [
        ("a cat", "photo of ", ", sharp", "photo of a cat, sharp"),
        (f"girl\n{SEASONS}\nbest", "photo of ", ", sharp", f"photo of girl\n{SEASONS}\nbest, sharp"),
        (SEASONS, "photo, ", ", sharp", f"photo,\n{SEASONS}\nsharp"),
        (f"\n{SEASONS}\n\n", "", ", sharp", f"\n{SEASONS}\nsharp"),
        (SEASONS, "", "", SEASONS),
        (SEASONS, " ", "\n", SEASONS),
        (SEASONS, "one\n9: two\n", ", 16:9\n9: three", f"one\n, 9: two\n{SEASONS}\n, 16:9\n, 9: three"),
        (f"x\n{SEASONS}\ny 4", "9: ", ": z", f", 9: x\n{SEASONS}\ny 4: z"),
        (f"{SEASONS}\n4", "", ": z", f"{SEASONS}\n, 4: z"),
    ],
)
def test_styles_go_into_head_and_tail(text, prefix, suffix, wanted):
    assert with_styles(text, prefix, suffix) == wanted


# Brackets, AND and BREAK are joined in other ways, which have tests of their own.
texts = st.text(alphabet="a0:- \n,", max_size=20)


@given(texts, texts, st.booleans(), st.booleans())
@settings(max_examples=500, deadline=None)
def test_styles_reach_every_frame_of_a_text_that_reads_back(prefix, suffix, has_head, has_tail):
    text = f"{'head' if has_head else ''}\n{SEASONS}\n{'tail' if has_tail else ''}"
    travel = read_travel(with_styles(text, prefix, suffix), FRAMES)
    assert [(key.first, key.text) for key in travel.keys] == [(0, "spring"), (8, "summer")]
    for prompt, season in zip(travel.prompts(), ["spring"] * 8 + ["summer"] * 8, strict=True):
        before, found, after = prompt.partition(season)
        assert found
        assert words(before) == words(f"{prefix}{'head' if has_head else ''}")
        assert words(after) == words(f"{'tail' if has_tail else ''}{suffix}")


def words(text):
    return re.sub(r"[\s,]+", " ", text).strip()
