"""What modules.processing, prompt_parser, sd_models, images, hashes and util do, as their originals do it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from support.webui_double.denoiser import conditions, row_parts
from support.webui_double.state import shared
from torch import Tensor

if TYPE_CHECKING:
    from support.webui_double.double import Processing


def walk_files(path: str, allowed_extensions: tuple[str, ...]) -> Iterator[str]:
    for root, _, names in os.walk(path, followlinks=True):
        yield from (f"{root}/{name}" for name in names if Path(name).suffix.lower() in allowed_extensions)


def checkpoint_functions(folder: Path) -> dict[str, Any]:
    """Of sd_models: noise levels, the list of checkpoints, and what reads it again. Titles may have a hash."""
    checkpoints: dict[str, SimpleNamespace] = {}

    def list_models() -> None:
        checkpoints.clear()
        for path in walk_files(str(folder), (".safetensors",)):
            title = f"{Path(path).name} [0123456789]"
            checkpoints[title] = SimpleNamespace(filename=path, title=title)

    return {
        "checkpoints_list": checkpoints,
        "list_models": list_models,
        "get_closet_checkpoint_match": lambda name: next(
            (info for title, info in checkpoints.items() if name and title.startswith(name)), None
        ),
    }


class Conditioning(list[str]):
    """Prompts that take the place of their encodings, which ControlNet marks in place."""

    marks: tuple[float, ...] = ()


def get_multicond_prompt_list(prompts: list[str]) -> tuple[list[list[str]], list[str]]:
    return [row_parts(prompt) for prompt in prompts], []


def reconstruct_multicond_batch(prompts: list[str], step: int) -> tuple[list[list[tuple[int, float]]], Tensor]:
    """Of prompts without schedules."""
    parts = [row_parts(prompt) for prompt in prompts]
    places, count = [], 0
    for row in parts:
        places.append([(count + part, 1.0) for part in range(len(row))])
        count += len(row)
    cond = conditions([part for row in parts for part in row])
    marks = [torch.full_like(cond[:, :1], mark) for mark in getattr(prompts, "marks", ())]
    return places, torch.cat([*marks, cond], dim=1)


def get_prompt_lengths(text: str) -> tuple[int, int]:
    """Words are tokens; they are filled to chunks."""
    count = len(text.split())
    return count, -(-max(count, 1) // 75) * 75


def get_next_sequence_number(path: str, basename: str) -> int:
    assert basename == ""
    firsts = [os.path.splitext(name)[0].split("-")[0] for name in os.listdir(path)]  # noqa: PTH122, PTH208 - as there
    return max((int(first) for first in firsts if first.isdigit()), default=-1) + 1


def sha256(filename: str, title: str) -> str | None:
    """By title: the hash known for a title stands as long as the file asked for is not younger."""
    changed = Path(filename).stat().st_mtime
    if title not in shared.hashes or changed > shared.hashes[title][0]:
        shared.hashes[title] = (changed, digest(Path(filename).resolve(), changed))
    return shared.hashes[title][1]


@cache
def digest(path: Path, changed: float) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class FilenameGenerator:
    """Two of the placeholders; the prompt's is clean enough for a file's name, as in the original."""

    def __init__(self, p: Any, seed: int, prompt: str, image: Any) -> None:
        self._values = {"[seed]": str(seed), "[prompt]": prompt, "[width]": str(image.width)}

    def apply(self, pattern: str) -> str:
        for name, value in self._values.items():
            pattern = pattern.replace(name, value)
        return pattern


class Processed:
    def __init__(self, p: Processing, images: list[Any], infotexts: list[str], first: int) -> None:
        self.images, self.infotexts, self.info, self.index_of_first_image = images, infotexts, infotexts[0], first
        self.comments = "".join(f"{comment}\n" for comment in p.comments)
        self.extra_generation_params = p.extra_generation_params
        self.batch_size = p.batch_size
        for name in ("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds"):
            setattr(self, name, getattr(p, name))


def to_image(sample: Tensor) -> Image.Image:
    levels = ((sample[:3].clamp(-4, 4) + 4) / 8 * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def infotext_of_batch(p: Processing, _prompts: Any, _seeds: Any, _subseeds: Any, iteration: int = 0) -> str:
    """The original's signature; of the batch that is under way."""
    assert iteration == p.iteration
    return create_infotext(p, 0)


def create_infotext(p: Processing, index: int) -> str:
    values = {"Seed": p.seeds[index], **p.extra_generation_params}
    values = {name: value[index] if isinstance(value, list) else value for name, value in values.items()}
    values = {name: value(p=p) if callable(value) else value for name, value in values.items()}
    quoted = {
        name: json.dumps(value, ensure_ascii=False) if re.search("[,\n:]", str(value)) else value
        for name, value in values.items()
        if value is not None
    }
    return f"{p.prompts[index]}\n" + ", ".join(f"{name}: {value}" for name, value in quoted.items())
