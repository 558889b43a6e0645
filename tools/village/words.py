"""What a scene can be called: concepts, their synonyms, captions, and captions read back.

A concept's words are its own: no word that decides one concept stands in a phrase of another. So a caption can be read
back without grammar, and a text encoder that only knows words has all that it needs.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

Phrases = tuple[str, ...]

SUBJECTS: dict[str, Phrases] = {
    "walker": ("walker", "person", "hiker"),
    "car": ("car", "auto", "automobile"),
    "bird": ("bird", "sparrow", "finch"),
    "fish": ("fish", "trout"),
    "balloon": ("balloon", "hot air balloon"),
    "ball": ("ball", "softball"),
}
COLOURS: dict[str, Phrases] = {
    "red": ("red", "scarlet", "crimson"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
}
MOTIONS: dict[str, Phrases] = {
    "left": ("moving left", "{go} to the left", "heading left", "{go} left"),
    "right": ("moving right", "{go} to the right", "heading right", "{go} right"),
    "up": ("moving up", "{go} up", "rising", "{go} upward"),
    "down": ("moving down", "{go} down", "sinking", "{go} downward"),
    "standing": ("standing still", "waiting", "resting"),
    "circling": ("circling", "{go} around in circles", "riding on a wheel"),
    "swinging": ("swinging", "swinging on a string", "hanging from a rope"),
    "bouncing": ("bouncing", "jumping on a trampoline", "hopping"),
}
# How a subject goes; these words say nothing about where.
GO: dict[str, str] = {
    "walker": "walking",
    "car": "driving",
    "bird": "flying",
    "fish": "swimming",
    "balloon": "floating",
    "ball": "rolling",
}
SCENERIES: dict[str, Phrases] = {
    "hills": ("in the hills", "in a meadow", "in the countryside"),
    "town": ("in a town", "through a town", "in the city", "in a street"),
    "sea": ("by the sea", "at the beach", "by the ocean"),
    "desert": ("in the desert", "among the dunes"),
}
TIMES: dict[str, Phrases] = {
    "day": ("", "by day", "in daylight"),
    "night": ("at night", "by moonlight", "under the stars"),
}
WEATHERS: dict[str, Phrases] = {
    "clear": ("",),
    "rain": ("in the rain", "in rainy weather", "while rain falls"),
    "snow": ("in the snow", "while snow falls", "in snowy weather"),
}
STYLES: dict[str, Phrases] = {
    "plain": ("",),
    "ink": ("ink style",),
    "neon": ("neon style",),
    "pastel": ("pastel style",),
}
TABLES: dict[str, dict[str, Phrases]] = {
    "subject": SUBJECTS,
    "colour": COLOURS,
    "motion": MOTIONS,
    "scenery": SCENERIES,
    "time": TIMES,
    "weather": WEATHERS,
    "style": STYLES,
}
# Words that any caption may hold.
NEUTRAL = frozenset(
    "a an the in on at by to from and of around through among under while style weather falls moving heading little "
    "small toy picture photo".split()
) | frozenset(GO.values())
LITTLE: Phrases = ("", "", "little", "small", "toy")
ORDERS = (
    "{subject} {motion} {scenery} {time} {weather}",
    "{subject} {motion} {scenery} {weather} {time}",
    "{scenery} {time}, {subject} {motion} {weather}",
    "{subject} {scenery}, {motion} {time} {weather}",
)

Concepts = Mapping[str, str]


def caption(concepts: Concepts, seed: int | str | None = None, styled: bool = False) -> str:
    """The text of a scene: "a red car moving left in a town at night in the rain".

    Args:
        concepts: one concept for each of `TABLES`.
        seed: chooses synonyms and their order; none takes the first of each.
        styled: name the style, too.
    """
    rng = random.Random(f"caption/{seed}")

    def pick(choices: Phrases) -> str:
        return choices[0] if seed is None else rng.choice(choices)

    said = {field: pick(TABLES[field][concepts[field]]) for field in TABLES}
    colour, subject = said["colour"], said["subject"]
    described = " ".join(word for word in (pick(LITTLE), colour, subject) if word)
    said["subject"] = f"{'an' if described[0] in 'aeiou' else 'a'} {described}"
    said["motion"] = said["motion"].format(go=GO[concepts["subject"]])
    text = " ".join(pick(ORDERS).format(**said).replace(" ,", ",").split()).replace(" ,", ",")
    return f"{text}, {said['style']}" if styled and said["style"] else text


def parse(text: str) -> dict[str, str]:
    """Concepts that a caption names. Raise ValueError at an unknown word, a contradiction or a missing concept."""
    found: dict[str, str] = {"time": "day", "weather": "clear", "style": "plain"}
    named: set[str] = set()
    for word in text.lower().replace(",", " ").split():
        if word in NEUTRAL:
            continue
        if word not in MEANINGS:
            raise ValueError(f"The word {word!r} of {text!r} is unknown.")
        field, concept = MEANINGS[word]
        if field in named and found[field] != concept:
            raise ValueError(f"{text!r} names two concepts of {field}: {found[field]}, {concept}.")
        named.add(field)
        found[field] = concept
    missing = TABLES.keys() - found.keys()
    if missing:
        raise ValueError(f"{text!r} says nothing about {', '.join(sorted(missing))}.")
    return found


def meanings() -> dict[str, tuple[str, str]]:
    """The concept of every word that decides one. Raise ValueError if a word decides two."""
    found: dict[str, tuple[str, str]] = {}
    for field, concept, word in _deciding():
        if found.setdefault(word, (field, concept)) != (field, concept):
            raise ValueError(f"{word!r} is of {found[word]} and of {(field, concept)}.")
    return found


def _deciding() -> Iterable[tuple[str, str, str]]:
    for field, table in TABLES.items():
        for concept, phrases in table.items():
            for word in " ".join(phrases).replace("{go}", "").split():
                if word not in NEUTRAL:
                    yield field, concept, word


def known_words() -> list[str]:
    """Every word that a caption may hold."""
    return sorted(MEANINGS.keys() | NEUTRAL)


MEANINGS = meanings()
