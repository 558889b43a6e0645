"""A clip of `animate` that goes on from an earlier one, or renders a part of it again: options from its recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from lib_animatediff.builtin_model import MODELS
from lib_animatediff.cli.options import is_given
from lib_animatediff.jobs.infotext import PROGRAM
from lib_animatediff.jobs.recipe import Request, request_of
from lib_animatediff.request.settings import SETTINGS, clip_frames
from lib_animatediff.request.start.continued import NOT_CARRIED, next_seed
from lib_animatediff.request.start.continued import check_direction as _check_direction
from lib_animatediff.request.start.rerender import check_all_frames
from lib_animatediff.video import read_recipe
from lib_animatediff.video.hashing import file_hash
from motion_module import ClipError

RERENDERED = "rerendered"  # the option with a clip to render again
_OTHER_FILES = ("model", "motion_loras")  # settings that are files here


def carry_on(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Make the values of an earlier clip's recipe the defaults of the options."""
    if path is not None and not context.resilient_parsing:
        check = check_all_frames if parameter.name == RERENDERED else _check_direction
        context.default_map = {**(context.default_map or {}), **_carried(path, check)}
    return path


def _made_by(path: Path) -> tuple[Request, str] | None:
    """The request of a clip by this command line, with the name of its built-in model; None for other clips.

    The paths are names of files, which are not looked for.
    """
    data = read_recipe(path).data
    if data is None or data.get("program") != PROGRAM:
        return None
    hashes: dict[str, str] = {}

    def note(name: str, digest: str) -> Path:
        hashes[name] = digest
        return Path(name)

    request = request_of(data, note)
    models = (model for model in MODELS.values() if model.is_installed and model.checkpoint == request.checkpoint.name)
    own = next((m.name for m in models if file_hash(m.folder / m.checkpoint) == hashes[m.checkpoint]), "")
    return request, own


def _carried(path: Path, check: Callable[[str, Mapping[str, Any]], None]) -> dict[str, Any]:
    """Options from the recipe of an earlier clip.

    Args:
        check: refuses a clip by its file's name and its settings.

    Raises:
        ClipError: the clip cannot be used.
    """
    made = _made_by(path)
    if made is None:
        return {}
    request, own = made
    check(path.name, vars(request.settings))
    names = [
        name for name, setting in SETTINGS.items() if not setting.image and name not in (*NOT_CARRIED, *_OTHER_FILES)
    ]
    return {
        **{name: getattr(request.settings, name) for name in names},
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": next_seed(request.seed, clip_frames(request.settings)),
        "width": request.size[0],
        "height": request.size[1],
        "steps": request.steps,
        "cfg": request.cfg,
        "sampler": request.sampler,
        "spacing": request.spacing,
        **({"checkpoint": Path(own)} if own else {}),
    }


def left_out(path: Path) -> list[str]:
    """Lines about files of an earlier clip that are not carried on.

    Raises:
        ClipError: its checkpoint has to be given.
    """
    made = _made_by(path)
    if made is None:
        return []
    request, own = made
    if not own and not is_given("checkpoint"):
        raise ClipError(
            f"{path.name} was made with {request.checkpoint.name} and {request.motion.name}. Give both: --checkpoint "
            "and --motion.",
            code="AD-K37",
        )
    added = {
        "--lora": ("loras", [lora.path for lora in request.loras]),
        "--motion-lora": ("motion_loras", [lora.path for lora in request.motion_loras]),
        "--embedding": ("embeddings", list(request.embeddings)),
    }
    return [
        f"{path.name} was made with {', '.join(file.name for file in files)}. To carry on with it, give {option}."
        for option, (name, files) in added.items()
        if files and not is_given(name)
    ]
