"""Files of prompts."""

from __future__ import annotations

import pytest

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.evaluation.errors import EvaluationError
from lib_animatediff.evaluation.prompts import BUILT_IN, NAMED, Prompt, read_prompts
from tools.pocket.world import CONCEPTS, caption


def read(tmp_path, text, name="prompts.txt"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_prompts(path)


def test_lines_with_and_without_headings(tmp_path):
    text = "# which way?\n\n a fox running | Right\nrain\na tree | a house | still\r\n"
    text += "a [fox|cat]\na (fox|dog:0.5) | left\na fox | [red|blue] den\n"  # a bar in brackets is a part of the prompt
    assert read(tmp_path, text) == (
        Prompt("a fox running", "right"),
        Prompt("rain"),
        Prompt("a tree | a house", "still"),
        Prompt("a [fox|cat]"),
        Prompt("a (fox|dog:0.5)", "left"),
        Prompt("a fox | [red|blue] den"),
    )


def test_json(tmp_path):
    text = '["rain", {"prompt": "a fox", "heading": "left"}, {"prompt": "a tree"}]'
    assert read(tmp_path, text, "prompts.JSON") == (Prompt("rain"), Prompt("a fox", "left"), Prompt("a tree"))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("p.txt", "", "contains no prompts"),
        ("p.txt", "# nothing\n", "contains no prompts"),
        ("p.txt", "a fox | north", "'north' is not a heading"),
        ("p.txt", "| right", "is empty"),
        ("p.txt", "a fox | left\na fox | right", "contains a prompt twice: 'a fox'"),
        ("p.json", "{", "is not valid JSON"),
        ("p.json", "{}", "must contain a list of prompts"),
        ("p.json", "[3]", "not 3"),
        ("p.json", '[{"prompt": "a", "head": "up"}]', "write"),
        ("p.json", '[{"prompt": "a", "heading": 3}]', "heading that is not a string"),
        ("p.json", "[]", "contains no prompts"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, text, says):
    with pytest.raises(EvaluationError, match=says):
        read(tmp_path, text, name)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    (tmp_path / "picture.txt").write_bytes(b"\xff\xfe\x00\x80")
    for name in ("missing.txt", "picture.txt"):
        with pytest.raises(EvaluationError, match="cannot be read as text"):
            read_prompts(tmp_path / name)


def test_those_built_in_are_captions_of_the_pocket_world_and_go_everywhere_equally_often():
    headings = {caption(concept): concept[2] for concept in CONCEPTS}
    assert all(headings[prompt.text] == prompt.heading for prompt in BUILT_IN[POCKET.name])
    assert sorted(prompt.heading for prompt in BUILT_IN[POCKET.name]) == sorted(2 * NAMED)
