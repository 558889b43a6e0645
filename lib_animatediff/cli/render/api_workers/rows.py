"""Rows of a manifest as requests of a WebUI's API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib_animatediff.cli.render.clips import ClipJob, Row, of_row, with_seed
from lib_animatediff.cli.render.fields import OUTPUT, SEED, by_name
from lib_animatediff.cli.render.names import Taken, place_of
from lib_animatediff.hosts.diffusers.pipeline import SAMPLERS
from lib_animatediff.jobs.many.errors import ManifestError
from lib_animatediff.jobs.many.grid import Field
from lib_animatediff.jobs.many.random_seeds import RandomSeeds
from lib_animatediff.request.plan import ClipPlan, Sampling, plan_clip
from lib_animatediff.request.settings import SETTINGS, parse_settings
from lib_animatediff.video.formats import FORMATS, format_of, key_of, path_for
from motion_module import AnimateDiffError

_PAYLOAD: dict[str, tuple[type, str]] = {  # fields of the request itself, with their types and names there
    "prompt": (str, "prompt"),
    "negative_prompt": (str, "negative_prompt"),
    "seed": (int, "seed"),
    "steps": (int, "steps"),
    "width": (int, "width"),
    "height": (int, "height"),
    "cfg": (float, "cfg_scale"),
    "sampler": (str, "sampler_name"),
    "scheduler": (str, "scheduler"),
}
_CHECKPOINT, _LORAS, _MOTION, _MOTION_LORAS, _FORMATS = "checkpoint", "loras", "model", "motion_loras", "formats"
_LISTS = (_LORAS, _MOTION_LORAS, _FORMATS)
_NOT_SENT = ("enable", "request_id")
_IN_TABLE = [name for name in SETTINGS if name not in (*_NOT_SENT, _FORMATS)]
_OF_THE_RUN = {
    "device": "The WebUIs decide that.",
    "contact_sheet": "The run writes one for all clips.",
    "as_json": "It is an option of the run: --json.",
    "decoder": "Choose it in the WebUI's settings.",
    "config": "The WebUI has its own.",
    "embedding": "The WebUI loads the embeddings of its folder.",
    "spacing": "Give a scheduler of the WebUI.",
}
_NAMES = {
    **{name: name for name in (*_PAYLOAD, *_IN_TABLE, *_LISTS, _CHECKPOINT, OUTPUT)},
    **{alias: name for name in _IN_TABLE for alias in SETTINGS[name].aliases if alias not in _PAYLOAD},
    **{"lora": _LORAS, "motion": _MOTION, "motion_lora": _MOTION_LORAS, "format": _FORMATS},
    **{"cfg_scale": "cfg", "sampler_name": "sampler"},
}
FIELDS = {
    **{name: Field(number=kind is not str) for name, (kind, _) in _PAYLOAD.items()},
    **{name: Field(number=SETTINGS[name].type in (int, float)) for name in _IN_TABLE},
    **{name: Field(multiple=True) for name in _LISTS},
    **{name: Field() for name in (_CHECKPOINT, OUTPUT)},
}
_STEPS, _SIDE = 20, 512  # of the WebUI, where a row has none
_NOT_IN_REPLY = ("txt",)


@dataclass(frozen=True)
class WebUIClip(ClipJob):
    """A clip that a WebUI renders.

    Attributes:
        payload: the request for it.
    """

    payload: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)


def named(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a row by their names here.

    Raises:
        ManifestError: there is no such field, or it occurs twice.
    """
    return by_name(row, _NAMES, _OF_THE_RUN)


def checked(
    rows: list[Row],
    folder: Path,
    refuse: Callable[[Row, AnimateDiffError], None],
    is_reserved: Callable[[Path], bool],
    keep_seeds: bool = True,
) -> list[WebUIClip]:
    """The clips of the rows that can be asked for, those of the same models together; arguments as for `clips.checked`.

    Raises:
        StoppedError: a random seed cannot be written down.
    """
    seeds, taken = RandomSeeds(folder, keep_seeds), Taken(folder, is_reserved)
    made: dict[str, WebUIClip] = {}
    for row in rows:
        try:
            clip = _clip(row, folder, seeds)
            taken.take(clip.places, clip.id, row.place)
        except Exception as error:
            problem = of_row(error)
            if not row.elsewhere:
                refuse(row, problem)
            continue
        if not row.elsewhere:
            made.setdefault(clip.output, clip)  # else another row asks for the same clip
    return sorted(made.values(), key=lambda clip: (clip.models, clip.shape))


def _clip(row: Row, folder: Path, seeds: RandomSeeds) -> WebUIClip:
    if row.problem:
        raise row.problem
    fields = {SEED: 0, **with_seed(row, seeds)}
    request = {name: _typed(name, fields[name]) for name in _PAYLOAD if name in fields}
    keys = _formats(fields, row.name)
    settings = {name: fields[name] for name in _IN_TABLE if name in fields and name not in _LISTS}
    if fields.get(_MOTION_LORAS):
        settings[_MOTION_LORAS] = ", ".join(map(str, fields[_MOTION_LORAS]))
    settings[_FORMATS] = keys
    plan = _plan(settings, request)
    payload = _payload(request, settings, fields)
    job = hashlib.sha256(json.dumps(payload, sort_keys=True, default=str).encode()).hexdigest()
    prompt, seed = str(request.get("prompt", "")), int(request[SEED])
    output = place_of(row.name, folder, prompt, seed, job, row.one_of_several)
    width, height = int(request.get("width", _SIDE)), int(request.get("height", _SIDE))
    return WebUIClip(
        number=row.number,
        place=row.place,
        words=(),
        output=str(output),
        files=tuple(str(path_for(output, key)) for key in keys),
        id=job,
        models=json.dumps([str(fields.get(name, "")) for name in (_CHECKPOINT, _MOTION, _LORAS, _MOTION_LORAS)]),
        shape=(width, height, plan.frames),
        work=float(width * height * plan.frames * plan.sampled_steps),
        title=prompt,
        seed=seed,
        payload=payload,
    )


def _plan(settings: Mapping[str, Any], request: Mapping[str, Any]) -> ClipPlan:
    sampling = Sampling(
        str(request.get("prompt", "")),
        str(request.get("negative_prompt", "")),
        seed=int(request[SEED]),
        steps=int(request.get("steps", _STEPS)),
    )
    return plan_clip(parse_settings(settings), sampling)


def _payload(request: Mapping[str, Any], settings: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    payload = {_PAYLOAD[name][1]: value for name, value in request.items()}
    if (sampler := str(request.get("sampler", ""))) in SAMPLERS:
        payload["sampler_name"] = SAMPLERS[sampler].webui
    if fields.get(_LORAS):
        tags = " ".join(map(_tag, fields[_LORAS]))
        payload["prompt"] = f"{payload.get('prompt', '')} {tags}".strip()
    if _CHECKPOINT in fields:
        payload["override_settings"] = {"sd_model_checkpoint": str(fields[_CHECKPOINT])}
        payload["override_settings_restore_afterwards"] = False  # so that the next clip finds it loaded
    return {
        **payload,
        "batch_size": 1,
        "n_iter": 1,
        "send_images": True,
        "save_images": False,
        "alwayson_scripts": {"AnimateDiff": {"args": [dict(settings)]}},
    }


def _tag(lora: object) -> str:
    """``NAME`` or ``NAME:STRENGTH`` as a tag of a prompt."""
    name, colon, strength = str(lora).rpartition(":")
    return f"<lora:{name}:{strength}>" if colon else f"<lora:{lora}:1>"


def _formats(fields: Mapping[str, Any], output: str) -> list[str]:
    """The keys of the formats: as given, else by the suffix of the output.

    Raises:
        ManifestError: a reply of the API has no files of this format.
    """
    given = fields.get(_FORMATS) or []
    keys = [key_of(str(name)) for name in (given if isinstance(given, list) else [given])]
    keys = keys or [format_of(Path(output)) if output else "gif"]
    if wrong := [key for key in keys if not FORMATS[key].suffix or key in _NOT_IN_REPLY]:
        raise ManifestError(
            f"A WebUI's reply has no file of the format {wrong[0]}. Choose one of {', '.join(_sent())}.", code="AD-M54"
        )
    return list(dict.fromkeys(keys))


def _sent() -> Iterator[str]:
    return (key for key, row in FORMATS.items() if row.suffix and key not in _NOT_IN_REPLY)


def _typed(name: str, value: Any) -> Any:
    kind, _ = _PAYLOAD[name]
    try:
        if isinstance(value, (bool, list, dict)):
            raise ValueError
        return kind(str(value))
    except ValueError as error:
        what = "text" if kind is str else "a number"
        raise ManifestError(f"{name} is {value!r:.40}, and must be {what}.", code="AD-M55") from error
