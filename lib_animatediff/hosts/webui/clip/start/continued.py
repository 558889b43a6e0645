"""A clip of the WebUI that goes on from an earlier one, or renders a part of it again.

What a client's request leaves out comes from that clip's infotext. The page sends all values, so that its requests take
over the frames only. *Settings of a clip* fills in the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

from lib_animatediff.hosts.webui.catalog.sources import find_source
from lib_animatediff.hosts.webui.compat import a1111, client
from lib_animatediff.request.effects import Note
from lib_animatediff.request.settings import SETTINGS, canonical_name, check_value
from lib_animatediff.request.start.continued import NOT_CARRIED, Infotext, check_direction, next_seed, read_infotext
from lib_animatediff.request.start.rerender import check_all_frames
from lib_animatediff.video import read_recipe
from lib_animatediff.video.fitting import CROP, inherited_size
from lib_animatediff.video.source import Source, SourceFacts, examine
from motion_module import ClipError

# The settings with an earlier clip, each with what refuses one that cannot be used.
_CLIPS: dict[str, Callable[[str, Mapping[str, Any]], None]] = {
    "continue_clip": check_direction,
    "rerender_clip": check_all_frames,
}


def carried_on(p: Any, asked: Mapping[str, Any], given: Collection[str]) -> tuple[dict[str, Any], tuple[Note, ...]]:
    """The values of a request with those of the clip that it goes on from, which also sets fields of ``p``.

    Args:
        asked: the values of the request.
        given: names of the settings that it gives.

    Returns:
        The values, and a note about what was taken over.

    Raises:
        AnimateDiffError: the clip cannot be read or used.
    """
    texts = {canonical_name(name): value for name, value in asked.items()}
    clips = [(name, str(texts[name]).strip()) for name in _CLIPS if isinstance(texts.get(name), str)]
    setting, text = next(((name, text) for name, text in clips if text), ("", ""))
    if not setting:
        return dict(asked), ()
    path, _ = find_source(text)
    facts, earlier = examine(Source(path)), read_infotext(read_recipe(path).infotext)
    _CLIPS[setting](path.name, earlier.settings)
    settings = {name: value for name, value in _settings_of(earlier, facts) if name not in given}
    sent = client.fields_of_client()
    fields = {} if sent is None else dict(_fields_of(earlier, facts, sent))
    for name, value in fields.items():
        setattr(p, name, value)
    taken = [*fields, *settings]
    notes = (Note(setting, f"takes {', '.join(taken)} from {path.name}."),) if taken else ()
    return {**asked, **settings}, notes


def _settings_of(earlier: Infotext, facts: SourceFacts) -> Iterator[tuple[str, Any]]:
    """The settings that go on; one that no clip can have is left out."""
    found = {"fps": float(facts.fps), **earlier.settings}
    for name, value in found.items():
        if name not in NOT_CARRIED and name in SETTINGS and value != SETTINGS[name].default:
            with suppress(ClipError):
                check_value(name, value)
                yield name, value


def _fields_of(earlier: Infotext, facts: SourceFacts, sent: Collection[str]) -> Iterator[tuple[str, Any]]:
    """The fields of ``p`` that a client has not sent."""
    found: dict[str, Any] = {}
    if {"width", "height"}.isdisjoint(sent):
        found["width"], found["height"] = inherited_size(facts.size, CROP)
    if earlier.fields:
        found |= {"prompt": earlier.prompt, "negative_prompt": earlier.negative_prompt}
    for name, field, read in _FIELDS:
        with suppress(KeyError, ValueError):
            found[name] = read(earlier.fields[field])
    if "seed" in found:
        found["seed"] = next_seed(found["seed"], facts.frames)
    if not a1111.has_sampler(found.get("sampler_name", "")):
        found.pop("sampler_name", None)
        found.pop("scheduler", None)
    return ((name, value) for name, value in found.items() if _sent_as(name).isdisjoint(sent))


def _sent_as(name: str) -> set[str]:
    """The names under which a client sends a field."""
    return {"sampler_name", "sampler_index"} if name == "sampler_name" else {name}


_FIELDS: tuple[tuple[str, str, Callable[[str], Any]], ...] = (  # of p and of infotexts
    ("steps", "Steps", int),
    ("sampler_name", "Sampler", str),
    ("scheduler", "Schedule type", str),
    ("cfg_scale", "CFG scale", float),
    ("seed", "Seed", int),
)
