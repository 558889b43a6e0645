"""Prompt travel in the WebUI: which prompt each row gets, and which condition.

The WebUI makes conditions row by row. So each row's prompt becomes its own frame's, the WebUI makes the conditions,
and before each of the denoiser's calls the rows between two keys are mixed of those at the keys. What a picture
remembers stays the text that the user wrote.
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

# Fields of p, with what the user calls them and whether they are styled as negative prompts are.
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
    """Whether any prompt of ``p``, as the user gave it, is a travel; each must be one that can be made.

    To be asked before styles are worked in, which may move lines, and before the WebUI takes extra networks out.

    Raises:
        ClipError: a line is wrong, or keys have different numbers of parts joined with AND.
    """
    travels = [
        _read(text, frames, _PROMPTS[field][0])
        for field, value in _prompts_of(p).items()
        for text in dict.fromkeys(_texts(value))
    ]
    return any(travels)


def styled(p: Any) -> dict[str, Any]:
    """Fields of ``p`` to be replaced for its run, since a style must reach every frame of a travel.

    The WebUI puts styles before and after a prompt as a whole, which would be text of the first and last line only.
    Empty where no prompt is a travel, or no style is chosen: then the WebUI does it.
    """
    prompts = _prompts_of(p)
    if not any(is_travel(text) for value in prompts.values() for text in _texts(value)) or not p.styles:
        return {}
    fields: dict[str, Any] = {"styles": []}
    for field, value in prompts.items():
        work_in = _styler(p.styles, is_negative=_PROMPTS[field][1])
        fields[field] = [work_in(text) for text in value] if isinstance(value, list) else work_in(value)
    return fields


def frame_prompts(rows: Sequence[str], frames: int, name: str = "prompt") -> tuple[list[str], list[Travel | None]]:
    """The prompts of a batch's rows, each its own frame's, and the travel of each clip that has one.

    Args:
        rows: ``(b f)``; the frames of a clip hold the same text, and that of the first counts.
        frames: of a clip.
        name: what errors call the prompt.

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
    """Parts joined with AND are mixed each with its counterpart, so that all keys must have as many, and as strong.

    Raises:
        ClipError: a key has another number of parts than the first, or other weights, or a weight that what follows
            the frames' lines would make part of the text; its line is named.
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
    """The WebUI keeps weights apart from the conditions, so that nothing would mix them."""
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
    """Conditions of a clip's rows made equally long, part by part, since only such can be mixed.

    Parts of a prompt that differ among themselves, and other clips, are left to the WebUI, as it does it for pictures.

    Args:
        conditioning: the WebUI's ``MulticondLearnedConditioning``, or a list of each row's schedule. It may lie in the
            WebUI's cache and stays as it is.
        empty: ``(1 n c)``, the condition of the empty prompt, with which the shorter ones are filled up.
        clips: rows of each clip whose conditions are to be mixed.

    Returns:
        a new object of the same kind; ``conditioning`` itself if nothing was to be done.
    """
    is_multiple = hasattr(conditioning, "batch")
    batch = conditioning.batch if is_multiple else []
    rows = [[part.schedules for part in row] for row in batch] if is_multiple else [[row] for row in conditioning]
    evened = list(rows)
    for clip in clips:
        columns = [_evened([rows[row][part] for row in clip], empty) for part in range(len(rows[clip[0]]))]
        evened[clip.start : clip.stop] = [list(schedules) for schedules in zip(*columns, strict=True)]
    if all(map(operator.is_, itertools.chain(*evened), itertools.chain(*rows))):
        return conditioning
    if not is_multiple:
        return [schedules[0] for schedules in evened]
    copied = copy.copy(conditioning)
    copied.batch = [
        [_with_schedules(part, new) for part, new in zip(row, schedules, strict=True)]
        for row, schedules in zip(conditioning.batch, evened, strict=True)
    ]
    return copied


def blended(
    cond: Any,
    blends: Sequence[Sequence[Blend] | None],
    frames: int,
    interpolation: str,
    parts: Sequence[int] | None = None,
) -> Any:
    """A denoiser's conditions, with every frame's mixed of those at the keys before and after it.

    Args:
        cond: rows in the denoiser's order: prompt by prompt, each with its parts side by side. SDXL's is a dict.
        blends: of each clip's frames; None for a clip that does not travel, whose rows stay bit for bit.
        frames: of a clip.
        interpolation: one of `INTERPOLATIONS`.
        parts: of each row's prompt, ``(b f)``, all the same within a clip; None where AND divides none.

    Returns:
        a new object; ``cond`` itself where no clip travels.

    Raises:
        ClipError: another number of rows.
    """
    if not any(blends):
        return cond
    rows: list[Blend] = []
    for clip, of_frames in enumerate(blends):
        start, count = len(rows), 1 if parts is None else parts[clip * frames]
        for blend in of_frames or [Blend(frame, frame, 0.0) for frame in range(frames)]:
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
    """The prompts that ``p`` will run with: each a text, or a list of one for each row.

    An empty one of the second pass is left out: the WebUI takes the ordinary one for it.
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
    """What the WebUI will leave of a prompt, with every line in its place."""
    return re.sub("#[^\n]*", "", text) if a1111.prompt_comments_are_on() else text


def _styler(styles: list[str], *, is_negative: bool) -> Callable[[str], str]:
    def work_in(text: str) -> str:
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

    return work_in


def _evened(schedules: list[Any], empty: Tensor) -> list[Any]:
    """Rows share their schedules, and should go on doing so: a clip has many rows and few prompts."""
    lengths = {len(_tokens(entry.cond)) for schedule in schedules for entry in schedule}
    if len(lengths) < 2:
        return schedules
    filled = {id(s): [_filled(entry, max(lengths), empty) for entry in s] for s in schedules}
    return [filled[id(schedule)] for schedule in schedules]


def _tokens(cond: Any) -> Tensor:
    tokens: Tensor = cond["crossattn"] if isinstance(cond, dict) else cond
    return tokens


def _filled(entry: Any, length: int, empty: Tensor) -> Any:
    tokens = _tokens(entry.cond)
    missing = length - len(tokens)
    if not missing:
        return entry
    padding = empty[0].repeat(-(-missing // empty.shape[1]), 1)[:missing].to(tokens)
    longer = torch.cat([tokens, padding])
    return entry._replace(cond={**entry.cond, "crossattn": longer} if isinstance(entry.cond, dict) else longer)


def _with_schedules(part: Any, schedules: Any) -> Any:
    evened = copy.copy(part)
    evened.schedules = schedules
    return evened
