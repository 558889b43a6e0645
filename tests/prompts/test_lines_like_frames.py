"""Lines that look like frames, in the forms in which people write them: understood, or refused with the reason."""

from __future__ import annotations

import contextlib
import time

import pytest

from lib_animatediff import ClipError
from lib_animatediff.prompts.tags import NETWORK_TAG, find_tag, replace_tags
from lib_animatediff.prompts.travel import read_travel


def texts(prompt, frames=16):
    travel = read_travel(prompt, frames)
    return travel and {key.first: key.text for key in travel.keys}


@pytest.mark.parametrize(
    "prompt",
    [
        "0: spring\n8: summer",
        "0\uff1aspring\n8\uff1asummer",
        '"0": "spring",\n"8": "summer",',
        '{\n  "0": "spring",\n  "8": "summer"\n}',
    ],
)
def test_frames_of_other_programs_are_understood(prompt):
    assert texts(prompt) == {0: "spring", 8: "summer"}


def test_head_and_tail_stay_around_json():
    travel = read_travel('a forest\n"0": "spring",\n"8": "summer"\nin oil', 16)
    assert (travel.head, travel.tail) == ("a forest", "in oil")


def test_a_number_behind_frame_0_is_text():
    assert texts("0:18 years old\n8: 60 years old") == {0: "18 years old", 8: "60 years old"}


AGES = ["0:18 years old\n8:60 years old", "4:18 years old\n8:60 years old"]


@pytest.mark.parametrize("prompt", [*AGES, "0: a cat\n8:2 cats", "0: a\nfoo\n4:3 dogs"])
def test_what_may_be_a_frame_or_a_ratio_is_refused(prompt):
    with pytest.raises(ClipError, match="this may be a frame or a ratio"):
        read_travel(prompt, 16)


def test_tags_are_those_of_the_pattern():
    text = "a <lora:b:1> c <d:<e:f> g <h:i"
    assert replace_tags(text) == NETWORK_TAG.sub("", text)
    assert find_tag(text) == "<lora:b:1>"
    assert find_tag("a <b:c") is None


@pytest.mark.parametrize("piece", ["<a:", "<lora:", '"0": "', "0:", "0-", "(", "AND ", "8%", "\n0"])
def test_long_prompts_take_no_time(piece):
    text = piece * (200_000 // len(piece))
    begun = time.monotonic()
    replace_tags(text)
    with contextlib.suppress(ClipError):
        read_travel(text, 16)
    assert time.monotonic() - begun < 5
