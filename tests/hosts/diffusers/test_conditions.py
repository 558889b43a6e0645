"""Prompts as the WebUI reads them: any length, emphasis, and a refusal of the rest of its grammar."""

from __future__ import annotations

import pytest
import torch

from lib_animatediff import ClipError, parse_settings
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.conditions import CHUNK, chunks_of, condition, equally_long, is_plain
from lib_animatediff.prompts.emphasis import weighted_parts

PLAIN = "a red disc"
LONG = ", ".join(["a red disc moving right"] * 20)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat", [("a cat", 1)]),
        ("a (red) cat", [("a ", 1), ("red", 1.1), (" cat", 1)]),
        ("a ((red)) cat", [("a ", 1), ("red", 1.21), (" cat", 1)]),
        ("a [red] cat", [("a ", 1), ("red", 1 / 1.1), (" cat", 1)]),
        ("(red:1.5) cat", [("red", 1.5), (" cat", 1)]),
        ("(a (red:1.5) cat:0.5)", [("a ", 0.5), ("red", 0.75), (" cat", 0.5)]),
        (r"a \(red\) cat", [("a (red) cat", 1)]),
        ("a (red", [("a ", 1), ("red", 1.1)]),
        ("a red) cat", [("a red) cat", 1)]),
        ("a:b 16:9", [("a:b 16:9", 1)]),
        ("", [("", 1)]),
    ],
)
def test_brackets(prompt, expected):
    assert [(part.text, pytest.approx(part.weight)) for part in weighted_parts(prompt)] == expected


def test_brackets_within_each_other_have_a_limit():
    with pytest.raises(ClipError, match="more than 100 brackets within each other"):
        weighted_parts("(a" * 101)
    assert weighted_parts("((a)" * 60)[0].weight > 1


def test_a_plain_prompt_has_the_condition_of_before(pipeline):
    whole, _ = pipeline.encode_prompt([PLAIN], pipeline.device, 1, False)
    assert is_plain(pipeline, PLAIN)
    assert torch.allclose(condition(pipeline, PLAIN), whole, atol=1e-5)


def test_a_long_prompt_is_several_chunks_that_end_at_commas(pipeline):
    ids, weights = chunks_of(pipeline, weighted_parts(LONG))
    comma = pipeline.tokenizer(",", add_special_tokens=False).input_ids[0]
    inner = [[token for token in chunk[1:-1] if token != pipeline.tokenizer.pad_token_id] for chunk in ids]
    assert len(ids) > 1
    assert all(len(chunk) == CHUNK + 2 for chunk in ids)
    assert all(chunk[-1] == comma for chunk in inner[:-1])
    assert sum(inner, []) == pipeline.tokenizer(LONG, add_special_tokens=False, verbose=False).input_ids  # noqa: RUF017
    assert {weight for chunk in weights for weight in chunk} == {1.0}
    assert condition(pipeline, LONG).shape[1] == len(ids) * (CHUNK + 2)


def test_break_begins_a_chunk(pipeline):
    chunks = condition(pipeline, f"{PLAIN} BREAK a cat").split(77, dim=1)
    for chunk, prompt in zip(chunks, (PLAIN, "a cat"), strict=True):
        assert torch.allclose(chunk, condition(pipeline, prompt), atol=1e-5)


@torch.no_grad()
def test_emphasis_weighs_tokens_and_keeps_the_mean_of_a_chunk(pipeline):
    plain, strong = condition(pipeline, PLAIN), condition(pipeline, "a (red:1.5) disc")
    assert strong.mean() == pytest.approx(plain.mean().item(), rel=1e-3, abs=1e-5)
    ratio = (strong / plain).flatten(0, 1).median(dim=1).values
    place = pipeline.tokenizer(PLAIN).input_ids.index(pipeline.tokenizer("red", add_special_tokens=False).input_ids[0])
    assert (ratio[place] / ratio[0]).item() == pytest.approx(1.5, rel=1e-3)


def test_repeating_a_condition_changes_no_frame(pipeline):
    short = condition(pipeline, PLAIN)
    first, second = equally_long([short, condition(pipeline, LONG)])
    assert first.shape == second.shape
    assert torch.equal(first[:, :77], short)


def test_clips_follow_weights_and_words_behind_the_first_chunk(clip):
    for one, other in (
        (LONG, f"{LONG}, a blue disc moving left"),
        ("a red disc", "a (red:1.9) disc"),
        ("0: a red disc\n1: a blue disc", "0: a (red:1.9) disc\n1: a blue disc"),
    ):
        assert (clip(one, frames=2) != clip(other, frames=2)).any()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a [cat:dog:0.5]", r"during sampling"),
        ("a [cat:0.5]", r"during sampling"),
        ("a [cat|dog]", "alternates"),
        ("a cat AND a dog", "Write a comma"),
        ("a cat <lora:style:0.8>", "--lora"),
        ("a cat <hypernet:style:0.8>", "--lora"),
        ("0: a cat\n1: a [dog|cat]", "alternates"),
    ],
)
def test_the_rest_of_the_grammar_is_refused(pipeline, motion, prompt, words):
    with pytest.raises(ClipError, match=words):
        animate(pipeline, motion, prompt=prompt, settings=parse_settings({"frames": 2}), size=(64, 64), steps=1)
