"""Other scripts that fill in a request's prompts and seeds: one prompt and one seed for each clip.

Most extensions see the rows of the UNet, so that those that look at ``p.batch_size`` act on each frame. Dynamic Prompts
counts its prompts by it, so it sees the request with clips instead of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.base import Processing

PROMPTS = ("all_prompts", "all_negative_prompts", "all_hr_prompts", "all_hr_negative_prompts")
_COUNT_BY_BATCH_SIZE = ("dynamic prompts",)  # the beginning of the title, which ends with a version


def scripts_that_count(p: Processing) -> list[Any]:
    """The scripts of a request that see clips instead of rows in their hook ``process``."""
    return [script for script in a1111.scripts_of(p) if a1111.title_of(script).startswith(_COUNT_BY_BATCH_SIZE)]


def run_on_clips(p: Processing, frames: int, length: int, process: Callable[[], Any]) -> Any:
    """Call a script's ``process`` while ``p`` counts clips, and lay out what it has set.

    Args:
        frames: rows of a clip.
        length: frames of a clip. A preview has one row, and seeds for all frames.
    """
    rows = {name: getattr(p, name, None) for name in (*PROMPTS, "all_seeds", "all_subseeds")}
    clips = {name: None if values is None else list(values[::frames]) for name, values in rows.items()}
    p.batch_size //= frames
    _set(p, clips)
    try:
        done = process()
    except BaseException:
        _set(p, rows)
        raise
    finally:
        p.batch_size *= frames
    if any(getattr(p, name, None) != values for name, values in clips.items()):
        _lay_out(p, frames, length)
    else:
        _set(p, rows)
    return done


def share_first_rows(p: Processing, frames: int, length: int) -> None:
    """Give all frames of a clip the prompt of its first, and consecutive seeds if a script has given all the same."""
    if len(p.all_prompts) % frames:  # a script has set one for each clip
        p.n_iter = math.ceil(len(p.all_prompts) / (p.batch_size // frames))
        _lay_out(p, frames, length)
    for name in PROMPTS:
        if values := getattr(p, name, None):
            setattr(p, name, repeated(values[::frames], frames))
    seeds = p.all_seeds
    if frames > 1 and p.subseed_strength == 0 and seeds == repeated(seeds[::frames], frames):
        p.all_seeds = clip_rows(seeds[::frames], frames, length)


def spread_parameters(p: Processing, frames: int) -> None:
    """Give lists in the infotext's parameters one entry for each row.

    The WebUI takes the entry of an image by its number, and logs an error where there is none. A list of another length
    than the clips' is one value of a script, such as Cutoff's targets.
    """
    rows = len(p.all_prompts)
    for name, value in p.extra_generation_params.items():
        if isinstance(value, list) and len(value) != rows:
            is_of_clips = len(value) * frames == rows
            spread = repeated(value, frames) if is_of_clips else ", ".join(map(str, value))
            p.extra_generation_params[name] = spread


def _lay_out(p: Processing, frames: int, length: int) -> None:
    _set(p, {name: repeated(getattr(p, name), frames) for name in PROMPTS if getattr(p, name, None) is not None})
    varies = p.subseed_strength != 0  # a variation has one seed, and a subseed for each frame
    p.all_seeds = repeated(p.all_seeds, frames) if varies else clip_rows(p.all_seeds, frames, length)
    p.all_subseeds = clip_rows(p.all_subseeds, frames, length)


def repeated(values: Sequence[Any], frames: int) -> list[Any]:
    """Each value for all rows of a clip."""
    return [value for value in values for _ in range(frames)]


def clip_rows(firsts: Sequence[int], frames: int, length: int) -> list[int]:
    """The seeds of all rows, from those that a script has given the clips.

    Seeds that count up by one become seeds of clips without a frame in common, as the WebUI's do in ours.
    """
    if len(firsts) > 1 and list(firsts) == list(range(firsts[0], firsts[0] + len(firsts))):
        firsts = [firsts[0] + clip * length for clip in range(len(firsts))]
    return [first + frame for first in firsts for frame in range(frames)]


def _set(p: Processing, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if value is not None:
            setattr(p, name, value)
