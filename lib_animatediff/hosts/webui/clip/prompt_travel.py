"""Prompt travel in the WebUI: the prompt and the condition of each row.

The WebUI encodes conditions per row. So each row receives the prompt of its frame, the WebUI encodes the conditions,
and before each of the denoiser's calls the rows between two keys are interpolated from those at the keys. The infotext
keeps the user's own text.
"""

from __future__ import annotations

import copy
import itertools
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.prompts.interpolate import blend_rows
from lib_animatediff.prompts.travel import Blend, Travel, is_travel, read_travel, with_styles
from motion_module import ClipError

from .batching import parts_of

# Fields of p, with their names in messages and whether they use the styles' negative prompts.
_PROMPTS = {
    "prompt": ("prompt", False),
    "negative_prompt": ("negative prompt", True),
    "hr_prompt": ("hires prompt", False),
    "hr_negative_prompt": ("hires negative prompt", True),
}
_AND = re.compile(r"\bAND\b")
_PART_WEIGHT = re.compile(r":\s*([-+]?(?:\d+\.?|\d*\.\d+))\s*$")  # as modules.prompt_parser reads it
_PLACE_OF_PROMPT = "\x1aprompt\x1a"


def check_prompts(p: Any, frames: int) -> bool:
    """Check the user's prompts in ``p``; returns whether any of them is a prompt travel.

    Called before styles are applied, which may move lines, and before the WebUI removes extra networks.

    Raises:
        ClipError: a line is invalid, or keys have different numbers of parts joined with AND.
    """
    travels = [
        _read(text, frames, _PROMPTS[field][0])
        for field, value in _prompts_of(p).items()
        for text in dict.fromkeys(_texts(value))
    ]
    return any(travels)


def travels_of(p: Any) -> bool:
    """Whether any of the user's prompts in ``p`` has lines for frames."""
    return any(is_travel(text) for value in _prompts_of(p).values() for text in _texts(value))


def styled(p: Any) -> dict[str, Any]:
    """Fields of ``p`` to replace for its run, so that styles apply to every frame of a travel.

    The WebUI adds styles before and after the whole prompt, which would affect the first and last line only. Empty if
    no prompt is a travel or no style is chosen; then the WebUI applies the styles.
    """
    prompts = _prompts_of(p)
    if not any(is_travel(text) for value in prompts.values() for text in _texts(value)) or not p.styles:
        return {}
    fields: dict[str, Any] = {"styles": []}
    for field, value in prompts.items():
        apply = _styler(p.styles, is_negative=_PROMPTS[field][1])
        fields[field] = [apply(text) for text in value] if isinstance(value, list) else apply(value)
    return fields


def frame_prompts(rows: Sequence[str], frames: int, name: str = "prompt") -> tuple[list[str], list[Travel | None]]:
    """The prompt of each row's frame, and the travel of each clip that has one.

    Args:
        rows: ``(b f)``; the frames of a clip have the same text, and that of the first is used.
        frames: frames of a clip.
        name: name of the prompt in messages.

    Raises:
        ClipError: as in `check_prompts`.
    """
    prompts: list[str] = []
    travels: list[Travel | None] = []
    for start in range(0, len(rows), frames):
        clip = list(rows[start : start + frames])
        travel = _read(clip[0], frames, name)
        prompts += clip if travel is None else travel.prompts()
        travels.append(travel)
    return prompts, travels


def check_parts(travel: Travel, name: str = "prompt") -> None:
    """Check that all keys have the same number of parts joined with AND, and the same weights.

    Each part is interpolated with its counterpart.

    Raises:
        ClipError: a key has another number of parts than the first, or other weights, or a weight at its end that text
            after the frames' lines would follow. The message names its line.
    """
    prompts = travel.prompts()
    counts = parts_of([prompts[key.first] for key in travel.keys])
    for key, count in zip(travel.keys, counts, strict=True):
        if count != counts[0]:
            raise ClipError(
                f'Line {key.line} of the {name}, "{key.written.strip()}": the prompt has {count} parts joined with '
                f"AND, but {counts[0]} with line {travel.keys[0].line}. Give each frame's line the same number of "
                "parts, or put AND before or after the frames' lines.",
                code="AD-W09",
            )
    _check_weights(travel, prompts, name)


def _check_weights(travel: Travel, prompts: Sequence[str], name: str) -> None:
    """Check the weights, which the WebUI stores apart from the conditions, so that they are not interpolated."""
    for key in travel.keys:
        where = f"Line {key.line} of the {name}, {key.written.strip()!r}"
        if travel.tail and _weights(key.text)[-1] and "AND" in key.text:
            raise ClipError(
                f"{where}: text follows the frames' lines, so the weight at the end of this line would become part of "
                "the prompt. Put that text before the frames' lines, or remove the weight.",
                code="AD-W10",
            )
        if _weights(prompts[key.first]) != _weights(prompts[travel.keys[0].first]):
            raise ClipError(
                f"{where}: the weights of its parts differ from those of line {travel.keys[0].line}. "
                "Give the parts the same weights in each frame's line.",
                code="AD-W11",
            )


def _weights(prompt: str) -> list[str]:
    return [found[1] if (found := _PART_WEIGHT.search(part)) else "" for part in _AND.split(prompt)]


def pad_conditionings(conditioning: Any, empty: Tensor, clips: Sequence[range]) -> Any:
    """Pad the conditions of a clip's rows to equal lengths, part by part, so that they can be interpolated.

    The parts of one prompt may differ in length, and other clips are not changed; the WebUI handles these.

    Args:
        conditioning: the WebUI's ``MulticondLearnedConditioning``, or a list of each row's schedule. It may be in the
            WebUI's cache and is not changed.
        empty: ``(1 n c)``, the condition of the empty prompt, which is used as padding.
        clips: rows of each clip whose conditions are interpolated.

    Returns:
        a new object of the same type; ``conditioning`` itself if it needs no padding.
    """
    is_multiple = hasattr(conditioning, "batch")
    batch = conditioning.batch if is_multiple else []
    rows = [[part.schedules for part in row] for row in batch] if is_multiple else [[row] for row in conditioning]
    padded = list(rows)
    for clip in clips:
        columns = [
            _padded_to_one_length([rows[row][part] for row in clip], empty) for part in range(len(rows[clip[0]]))
        ]
        padded[clip.start : clip.stop] = [list(schedules) for schedules in zip(*columns, strict=True)]
    if all(map(operator.is_, itertools.chain(*padded), itertools.chain(*rows))):
        return conditioning
    if not is_multiple:
        return [schedules[0] for schedules in padded]
    copied = copy.copy(conditioning)
    copied.batch = [
        [_with_schedules(part, new) for part, new in zip(row, schedules, strict=True)]
        for row, schedules in zip(conditioning.batch, padded, strict=True)
    ]
    return copied


def blended(
    cond: Any,
    blends: Sequence[Sequence[Blend] | None],
    frames: int,
    interpolation: str,
    parts: Sequence[int] | None = None,
) -> Any:
    """A denoiser's conditions, each frame's interpolated from those at the keys before and after it.

    Args:
        cond: rows in the denoiser's order: prompt by prompt, with the parts of each adjacent. A dict for SDXL.
        blends: blends of each clip's frames; None for a clip without travel, whose rows do not change.
        frames: frames of a clip.
        interpolation: one of `INTERPOLATIONS`.
        parts: number of parts of each row's prompt, ``(b f)``, the same within a clip; None without AND.

    Returns:
        a new object; ``cond`` itself if no clip has a travel.

    Raises:
        ClipError: the number of rows is unexpected.
    """
    if not any(blends):
        return cond
    rows: list[Blend] = []
    for clip, clip_blends in enumerate(blends):
        start, count = len(rows), 1 if parts is None else parts[clip * frames]
        for blend in clip_blends or [Blend(frame, frame, 0.0) for frame in range(frames)]:
            first, second = start + blend.first * count, start + blend.second * count
            rows += [Blend(first + part, second + part, blend.weight) for part in range(count)]
    if len(rows) != cond.shape[0]:
        raise ClipError(
            f"The denoiser has conditions for {cond.shape[0]} rows instead of {len(rows)}: another extension arranges "
            "them differently. Disable it, or remove the frames' lines from the prompt.",
            code="AD-W12",
        )
    if isinstance(cond, Tensor):
        return blend_rows(cond, rows, interpolation)
    return type(cond)({name: blend_rows(entry, rows, interpolation) for name, entry in cond.items()})


def _read(text: str, frames: int, name: str) -> Travel | None:
    travel = read_travel(_uncommented(text), frames, name)
    if travel is not None:
        check_parts(travel, name)
    return travel


def _prompts_of(p: Any) -> dict[str, Any]:
    """The prompts of ``p``: each a string, or a list with one per row.

    An empty prompt of the second pass is omitted: the WebUI uses that of the first pass instead.
    """
    fields = {field: getattr(p, field, None) for field in _PROMPTS}
    has_second_pass = getattr(p, "enable_hr", False)
    return {
        field: value
        for field, value in fields.items()
        if value is not None and (not field.startswith("hr_") or (has_second_pass and value))
    }


def _texts(prompt: Any) -> list[str]:
    return prompt if isinstance(prompt, list) else [prompt]


def _uncommented(text: str) -> str:
    """The prompt without the comments that the WebUI removes, with all line numbers unchanged."""
    if not a1111.prompt_comments_are_on():
        return text
    if not a1111.slashes_begin_comments():
        return re.sub("#[^\n]*", "", text)
    without_blocks = re.sub(r"/\*.*?\*/", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL)
    return re.sub(r"(#|//)[^\n]*", "", without_blocks)


def _styler(styles: list[str], *, is_negative: bool) -> Callable[[str], str]:
    def apply(text: str) -> str:
        if not is_travel(text):
            return a1111.apply_styles(text, styles, is_negative=is_negative)
        with_place = a1111.apply_styles(_PLACE_OF_PROMPT, styles, is_negative=is_negative)
        prefix, _, suffix = with_place.partition(_PLACE_OF_PROMPT)
        if _PLACE_OF_PROMPT in suffix:
            raise ClipError(
                f"One of the styles {', '.join(styles)} has {{prompt}} more than once, which does not work with a "
                "prompt that has lines for frames. Choose another style.",
                code="AD-W13",
            )
        return with_styles(_uncommented(text), prefix, suffix)

    return apply


def _padded_to_one_length(schedules: list[Any], empty: Tensor) -> list[Any]:
    """The schedules with equal lengths. Rows that share a schedule still share it: a clip has few distinct prompts."""
    lengths = {len(_tokens(entry.cond)) for schedule in schedules for entry in schedule}
    if len(lengths) < 2:
        return schedules
    padded = {id(s): [_padded(entry, max(lengths), empty) for entry in s] for s in schedules}
    return [padded[id(schedule)] for schedule in schedules]


def _tokens(cond: Any) -> Tensor:
    tokens: Tensor = cond["crossattn"] if isinstance(cond, dict) else cond
    return tokens


def _padded(entry: Any, length: int, empty: Tensor) -> Any:
    tokens = _tokens(entry.cond)
    missing = length - len(tokens)
    if not missing:
        return entry
    padding = empty[0].repeat(-(-missing // empty.shape[1]), 1)[:missing].to(tokens)
    longer = torch.cat([tokens, padding])
    return entry._replace(cond={**entry.cond, "crossattn": longer} if isinstance(entry.cond, dict) else longer)


def _with_schedules(part: Any, schedules: Any) -> Any:
    copied = copy.copy(part)
    copied.schedules = schedules
    return copied
