"""The infotext of a clip that is continued, which may come from anyone."""

from __future__ import annotations

import pytest

from lib_animatediff.request.settings import parse_settings, to_infotext
from lib_animatediff.request.start.continued import Infotext, next_seed, read_infotext


def test_prompts_fields_and_settings_are_read():
    line = to_infotext(parse_settings({"fps": 5, "scale": "0: 1, 8: 1.3"}))
    quoted = line.replace('"', '\\"')
    prompts = '0: spring\n8: "autumn", leaves\nNegative prompt: a dog,\nblurred'
    found = read_infotext(f'{prompts}\nSteps: 7, Size: 64x48, AnimateDiff: "{quoted}"')
    assert found.prompt == '0: spring\n8: "autumn", leaves'
    assert found.negative_prompt == "a dog,\nblurred"
    assert (found.fields["Steps"], found.fields["Size"]) == ("7", "64x48")
    assert (found.settings["fps"], found.settings["scale"]) == (5, "0: 1, 8: 1.3")


@pytest.mark.parametrize("text", ["", "a cat", "a cat\nSteps: 7", 'a: b, c: "', "\n\n", "Negative prompt: x"])
def test_a_text_without_fields_says_nothing(text):
    assert read_infotext(text) == Infotext()


def test_broken_quotes_stay_text():
    found = read_infotext('x\nSteps: 7, Seed: 1, AnimateDiff: "a\\x: b"')
    assert found.fields["AnimateDiff"] == '"a\\x: b"'
    assert found.settings == {}


def test_long_texts_cost_linear_time():
    read_infotext("Steps: 1, Seed: 2, a: " + '"' + "\\" * 200_000)
    read_infotext("\n".join(["Negative prompt: " * 9] * 20_000))


def test_seeds_count_on():
    assert next_seed(5, 16) == 21
    assert next_seed(2**64 - 1, 1) == 0
