"""The world is a pure function of its seed, and everything that a caption says can be measured in its pictures."""

import math

import pytest
import torch
from support.matrix import every_once

from tools.pocket.measure import read, track
from tools.pocket.text import PHRASINGS, VOCABULARY_SIZE, known_words, vocabulary
from tools.pocket.world import (
    CONCEPTS,
    FRAMES,
    HEADINGS,
    HELD_OUT,
    STYLES,
    TRAINED,
    TRAVEL,
    Scene,
    caption,
    clip,
    path,
    scene,
    still,
)


def test_a_scene_depends_on_its_seed_style_and_number_alone():
    first = [scene(3, number) for number in range(5)]
    assert [scene(3, number) for number in reversed(range(5))] == first[::-1]
    assert scene(4, 0) != first[0]
    assert torch.equal(clip(first[0]), clip(scene(3, 0)))
    assert torch.equal(still(first[0], 7), clip(first[0])[7])


def test_held_out_concepts_are_never_drawn_and_every_other_one_is():
    drawn = {scene(0, number).concept for number in range(1000)}
    assert drawn == set(TRAINED)
    assert not drawn & set(HELD_OUT)
    for position in range(3):  # every word is trained with others
        assert {concept[position] for concept in TRAINED} == {concept[position] for concept in CONCEPTS}


def test_a_caption_names_colour_shape_and_heading():
    assert caption(("red", "disc", "left")) == "a red disc moving left"
    assert caption(("blue", "cross", "still")) == "a blue cross standing still"
    assert len({caption(concept) for concept in CONCEPTS}) == len(CONCEPTS)


@pytest.mark.parametrize("style", STYLES)
def test_every_concept_is_read_rightly_from_its_still(style):
    for number, concept in enumerate(CONCEPTS):
        drawn = scene(11, number, style, [concept])
        reading = read(still(drawn, number % FRAMES) + 0.02 * torch.randn(3, 64, 64))
        assert reading.shows(concept, style), (drawn, reading)
        assert math.dist((reading.x, reading.y), path(drawn)[number % FRAMES]) < 0.5


@pytest.mark.parametrize(("style", "heading"), every_once(STYLES, HEADINGS))
def test_a_clip_travels_along_its_heading(style, heading):
    drawn = scene(2, 0, style, [("yellow", "square", heading)])
    found = track(clip(drawn), heading)
    assert found.share(drawn.concept, style) == 1
    assert found.displacement == pytest.approx(drawn.travel, abs=0.6)
    if heading == "still":
        assert found.change == 0
    else:
        assert TRAVEL[0] <= drawn.travel <= TRAVEL[1]
        assert found.monotone == 1
        assert found.change > 0
        backwards = track(clip(drawn).flip(0), heading)
        assert backwards.displacement == pytest.approx(-drawn.travel, abs=0.6)
        assert backwards.monotone == 0


def test_what_is_no_sprite_is_not_found():
    grey, noise = torch.full((3, 64, 64), 0.5), torch.rand(3, 64, 64)
    noseless = still(Scene("red", "disc", "still", "plain", 32, 32, 0), 0)
    noseless[:, 26:38, 26:38] = noseless[:, 32:33, 25:26]
    for picture in (grey, noise, noseless):
        assert not read(picture).found


def test_every_word_of_the_captions_is_one_token():
    tokens = vocabulary()
    assert len(tokens) == VOCABULARY_SIZE
    assert all(f"{word}</w>" in tokens for word in known_words())
    assert PHRASINGS[0] == "{}"
