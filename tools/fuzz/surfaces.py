"""Every door for what comes from outside, as one table."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.evaluation.prompts import read_prompts
from lib_animatediff.hosts.diffusers.conditions import check_grammar
from lib_animatediff.hosts.diffusers.networks import add_embeddings, add_loras, parse_added
from lib_animatediff.jobs.recipe import request_of
from lib_animatediff.prompts.emphasis import weighted_parts
from lib_animatediff.prompts.tags import find_tag
from lib_animatediff.prompts.travel import is_travel, read_travel
from lib_animatediff.request.effects import notes_of
from lib_animatediff.request.foreign import foreign_notes
from lib_animatediff.request.loras import parse_loras
from lib_animatediff.request.masks import packed_mask, unpacked_mask
from lib_animatediff.request.motion_scale import parse_blocks, parse_frames, parse_steps
from lib_animatediff.request.plan import plan_clip
from lib_animatediff.request.settings import from_infotext, parse_settings, pasted_values, to_infotext
from lib_animatediff.request.stored_plan import plan_from_json
from lib_animatediff.request.window_map import window_map
from lib_animatediff.training.clips import Cut
from lib_animatediff.training.settings import TrainingSettings
from lib_animatediff.training.sources import csv_items
from lib_animatediff.training.state import States
from lib_animatediff.training.videos import VideoSource
from lib_animatediff.video import read_clip, read_recipe
from lib_animatediff.video.filenames import place_within
from lib_animatediff.video.recipe import recipe_from
from motion_module import (
    AnimateDiffError,
    convert_motion_file,
    inspect_motion_file,
    load_domain_adapter,
    load_motion_lora,
    load_motion_module,
)
from motion_module.limits import parse_json

from . import command_lines, mutators, seeds
from .corpus import CORPUS
from .worker import Surface

_FRAMES_READ = 50
_STEPS = 20


def _doors(*doors: Callable[[], Any]) -> None:
    """Try each door; an input is refused if all of them refuse it."""
    refused: AnimateDiffError | None = None
    passed = False
    for door in doors:
        try:
            door()
            passed = True
        except AnimateDiffError as error:
            refused = error
    if refused and not passed:
        raise refused


def _weights(data: bytes, folder: Path, *, suffix: str) -> None:
    path = folder / f"weights{suffix}"
    path.write_bytes(data)
    host = SimpleNamespace(
        unet=SimpleNamespace(peft_config={"lora_0": 1}),
        text_encoder=SimpleNamespace(config=SimpleNamespace(hidden_size=64)),
        load_lora_weights=lambda *_args, **_more: None,
        load_textual_inversion=lambda *_args, **_more: None,
        set_adapters=lambda *_args: None,
    )
    _doors(
        lambda: load_motion_module(path),
        lambda: load_motion_lora(path),
        lambda: load_domain_adapter(path),
        lambda: add_loras(host, [parse_added(str(path))]),
        lambda: add_embeddings(host, [path]),
        lambda: convert_motion_file(path, folder / "out.safetensors", force=True),
    )
    inspect_motion_file(path)


def _adapter(data: bytes, folder: Path) -> None:
    place = folder / "adapter"
    place.mkdir(exist_ok=True)
    if not (place / "diffusion_pytorch_model.safetensors").exists():
        (place / "diffusion_pytorch_model.safetensors").write_bytes(seeds.weights_files(folder)[0])
    (place / "config.json").write_bytes(data)
    inspect_motion_file(place)
    load_motion_module(place)


def _adapter_seeds(folder: Path) -> list[bytes]:
    convert_motion_file(_written(folder, seeds.weights_files(folder)[0]), folder / "adapter", to="adapter", force=True)
    return [(folder / "adapter" / "config.json").read_bytes()]


def _written(folder: Path, data: bytes) -> Path:
    path = folder / "seed.safetensors"
    path.write_bytes(data)
    return path


def _clip(data: bytes, folder: Path, *, suffix: str) -> None:
    path = folder / f"clip{suffix}"
    path.write_bytes(data)

    def read() -> None:
        for frame in islice(read_clip(path), _FRAMES_READ):
            frame.image.load()

    _doors(read, lambda: list(islice(read_clip(path, fps=8), 2)), lambda: _info(read_recipe(path)))


def _info(recipe: Any) -> None:
    from_infotext(recipe.infotext)
    if recipe.data is not None:
        json.dumps(recipe.data)


def _first_frame(path: Path) -> None:
    next(read_clip(path, fps=8)).image.load()


def _picture(data: bytes, folder: Path) -> None:
    path = folder / "picture"
    path.write_bytes(data)
    _doors(
        lambda: read_recipe(path),
        lambda: _first_frame(path),
        lambda: unpacked_mask(packed_mask(base64.b64encode(data).decode())),
    )


def _recipe(data: bytes, _folder: Path) -> None:
    text = data.decode("utf-8", "replace")
    recipe = recipe_from("", text)
    with suppress(ValueError):
        held = parse_json(text)
        given = held.get("data") if isinstance(held, dict) else None
        for value in (given, recipe.data):
            if isinstance(value, dict):
                request_of(value, lambda name, _digest: Path(name))


def _settings(data: bytes, _folder: Path) -> None:
    values = _json(data)
    if not isinstance(values, dict):
        return
    foreign_notes(values)
    settings = parse_settings(values)
    notes_of(settings)
    plan = plan_clip(settings)
    pasted_values(to_infotext(settings))
    plan_from_json(json.loads(json.dumps(plan.to_json())))
    if plan.windows is None or isinstance(plan.windows, ContextWindows):
        window_map(plan.windows, plan.frames, _STEPS)


def _plan(data: bytes, _folder: Path) -> None:
    values = _json(data)
    if isinstance(values, dict):
        assert plan_from_json(values).id


def _json(data: bytes) -> Any:
    try:
        return parse_json(data.decode("utf-8", "replace"))
    except ValueError:
        return None


def _infotext(data: bytes, _folder: Path) -> None:
    values = pasted_values(data.decode("utf-8", "surrogatepass"))
    plan_clip(parse_settings(values))


def _prompt(data: bytes, folder: Path) -> None:
    text = data.decode("utf-8", "surrogatepass")
    is_travel(text)
    find_tag(text)
    weighted_parts(text)
    place_within(folder, text[:500])
    _doors(
        lambda: read_travel(text, 16),
        lambda: read_travel(text, 500),
        lambda: check_grammar(text),
        lambda: parse_loras(text),
    )


def _scale(data: bytes, _folder: Path) -> None:
    text = data.decode("utf-8", "surrogatepass")
    _doors(
        lambda: parse_frames("Scale", text, 16, 10.0),
        lambda: parse_steps("Scale", text, 10.0),
        lambda: parse_blocks("Scale", text),
        lambda: parse_added(text),
    )


def _mask(data: bytes, _folder: Path) -> None:
    unpacked_mask(packed_mask(data.decode("utf-8", "replace")))


def _mask_seeds(folder: Path) -> list[bytes]:
    encoded = [base64.b64encode(picture) for picture in seeds.pictures(folder)]
    return [*encoded, b"data:image/png;base64," + encoded[0]]


def _csv(data: bytes, folder: Path) -> None:
    path = folder / "table.csv"
    path.write_bytes(data)
    csv_items(path, folder)


def _prompt_file(data: bytes, folder: Path, *, suffix: str) -> None:
    path = folder / f"prompts{suffix}"
    path.write_bytes(data)
    read_prompts(path)


def _training_video(data: bytes, folder: Path) -> None:
    path = folder / "video.mp4"
    path.write_bytes(data)
    source = VideoSource([(path, "a disc")], TrainingSettings(size=64, frames=4))
    source.read(0, Cut(4, stride=1))


def _state(data: bytes, folder: Path) -> None:
    place = folder / "states"
    place.mkdir(exist_ok=True)
    (place / "step-00000001.pt").write_bytes(data)
    weights = {"a": torch.nn.Parameter(torch.zeros(2, 3))}
    States(folder, TrainingSettings(resume=True)).restore(weights, None, torch.optim.AdamW(weights.values()), None)


def _state_seeds(folder: Path) -> list[bytes]:
    weights = {"a": torch.nn.Parameter(torch.ones(2, 3))}
    optimizer = torch.optim.AdamW(weights.values())
    weights["a"].sum().backward()
    optimizer.step()
    States(folder, TrainingSettings()).save(1, weights, None, optimizer, None)
    return [(folder / "states" / "step-00000001.pt").read_bytes()]


def _clip_surface(format: str, suffix: str) -> Surface:
    change = mutators.png if format == "apng" else mutators.any_bytes
    return Surface(
        f"clip-{format}", functools.partial(seeds.clips, format=format), change, functools.partial(_clip, suffix=suffix)
    )


def _texts(values: Sequence[str]) -> Callable[[Path], list[bytes]]:
    return functools.partial(seeds.texts, values)


def _weights_surface(name: str, change: mutators.Mutator, made: Any, suffix: str) -> Surface:
    return Surface(name, made, change, functools.partial(_weights, suffix=suffix))


SURFACES: dict[str, Surface] = {
    surface.name: replace(surface, corpus=CORPUS.get(surface.name, ()))
    for surface in (
        _weights_surface("weights-safetensors", mutators.safetensors, seeds.weights_files, ".safetensors"),
        _weights_surface("weights-pickle", mutators.zipped, seeds.pickles, ".ckpt"),
        Surface("motion-adapter", _adapter_seeds, mutators.any_json, _adapter),
        _clip_surface("gif", ".gif"),
        _clip_surface("webp", ".webp"),
        _clip_surface("apng", ".png"),
        _clip_surface("avif", ".avif"),
        _clip_surface("mp4", ".mp4"),
        _clip_surface("webm", ".webm"),
        Surface("picture", seeds.pictures, mutators.png, _picture),
        Surface("recipe", seeds.recipe_blocks, mutators.any_json, _recipe),
        Surface("settings", functools.partial(seeds.jsons, seeds.SETTINGS), mutators.any_json, _settings),
        Surface("plan", seeds.plans, mutators.any_json, _plan),
        Surface("infotext", seeds.infotexts, mutators.any_text, _infotext),
        Surface("prompt", _texts(seeds.PROMPTS), mutators.any_text, _prompt),
        Surface("scale", _texts(seeds.SCALES), mutators.any_text, _scale),
        Surface("mask", _mask_seeds, mutators.any_bytes, _mask),
        Surface("training-csv", _texts(seeds.CSV), mutators.any_text, _csv),
        Surface("training-video", functools.partial(seeds.clips, format="mp4"), mutators.any_bytes, _training_video),
        Surface("training-state", _state_seeds, mutators.zipped, _state),
        Surface(
            "prompt-file",
            _texts(seeds.PROMPT_FILES),
            mutators.any_text,
            functools.partial(_prompt_file, suffix=".txt"),
        ),
        Surface(
            "prompt-list",
            _texts(seeds.PROMPT_LISTS),
            mutators.any_json,
            functools.partial(_prompt_file, suffix=".json"),
        ),
        Surface("command-line", command_lines.examples, command_lines.wrong_line, command_lines.run),
    )
}
