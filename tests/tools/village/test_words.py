"""Captions name their scene in many ways, and each way can be read back."""

import collections
import itertools
import json

import pytest

from lib_animatediff.builtin_model import STABLE_DIFFUSION_15
from tools.village.scene import CONCEPTS, HELD_OUT, TRAINED, scene
from tools.village.words import MEANINGS, NEUTRAL, STYLES, TABLES, caption, known_words, parse


def test_two_thousand_captions_are_read_back():
    said = set()
    for number in range(2000):
        concepts = scene(0, number, CONCEPTS, style=list(STYLES)[number % len(STYLES)]).concepts
        text = caption(concepts, seed=number, styled=True)
        assert parse(text) == concepts, text
        said.add(text)
    assert len(said) > 1900
    words = set(" ".join(said).replace(",", "").split())
    assert words >= MEANINGS.keys()  # every synonym was among them


def test_the_plain_caption_takes_the_first_words():
    concepts = {
        "subject": "car",
        "colour": "red",
        "motion": "left",
        "scenery": "town",
        "time": "night",
        "weather": "rain",
        "style": "ink",
    }
    assert caption(concepts) == "a red car moving left in a town at night in the rain"
    assert caption(concepts, styled=True).endswith(", ink style")
    assert caption(concepts, 1) == caption(concepts, 1) != caption(concepts, 2)


def test_no_word_decides_two_concepts():
    owners = collections.defaultdict(set)
    for field, table in TABLES.items():
        for concept, phrases in table.items():
            for word in set(" ".join(phrases).replace("{go}", "").split()) - NEUTRAL:
                owners[word].add((field, concept))
    assert {word: of for word, of in owners.items() if len(of) > 1} == {}


def test_every_word_is_one_token_of_clip():
    tokens = json.loads((STABLE_DIFFUSION_15 / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    assert [word for word in known_words() if f"{word}</w>" not in tokens] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a red zebra moving left in a town", "'zebra'"),
        ("a red blue car moving left in a town", "two concepts of colour"),
        ("a red car in a town", "nothing about motion"),
    ],
)
def test_what_cannot_be_read_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        parse(text)


def test_one_in_ten_combinations_is_held_out_and_every_pair_of_words_is_trained():
    assert len(HELD_OUT) == round(0.1 * len(CONCEPTS))
    assert not set(HELD_OUT) & set(TRAINED)
    scenes = [scene(0, number) for number in range(1800)]
    assert {(each.subject, each.colour, each.motion) for each in scenes} == set(TRAINED)
    for place in range(3):
        left = collections.Counter(concept[place] for concept in HELD_OUT)
        of_all = collections.Counter(concept[place] for concept in CONCEPTS)
        assert all(0.05 < left[word] / of_all[word] < 0.2 for word in of_all)
    for first, second in itertools.combinations(range(3), 2):
        assert {(c[first], c[second]) for c in TRAINED} == {(c[first], c[second]) for c in CONCEPTS}
