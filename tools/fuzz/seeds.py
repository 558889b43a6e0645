"""Small valid inputs: a motion module of 32 channels, LoRAs, clips of three frames in every format, and texts."""

from __future__ import annotations

import functools
import io
import json
import pickle
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save
from torch import Tensor

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.request.plan import plan_clip
from lib_animatediff.request.settings import ClipSettings, parse_settings, to_infotext
from lib_animatediff.video import Recipe, write_clip

_CHANNELS = 32  # the fewest that a motion module can have: its norms have 32 groups
_FORMATS = {"gif": ".gif", "webp": ".webp", "apng": ".png", "avif": ".avif", "mp4": ".mp4", "webm": ".webm"}
RECIPE = {
    "program": "lib_animatediff",
    "files": {
        "checkpoint": {"name": "a.safetensors", "sha256": "0" * 64},
        "motion": {"name": "m.safetensors", "sha256": "0" * 64, "kind": "v3"},
        "further": [{"name": "n.safetensors", "sha256": "1" * 64, "effect": 0.5, "scale": 1.0}],
        "loras": [{"name": "l.safetensors", "sha256": "2" * 64, "strength": 0.8}],
        "embeddings": [{"name": "e.safetensors", "sha256": "3" * 64}],
        "motion_loras": [],
    },
    "prompt": "0: a disc\n8: a square",
    "negative_prompt": "",
    "settings": {"enable": True, "frames": 16, "formats": ["GIF", "MP4"], "closed_loop": "A", "fps": 8},
    "seed": 3,
    "size": [64, 64],
    "steps": 4,
    "cfg": 7.0,
    "sampler": "ddim",
    "encoding": {"lossless": True},
}
SETTINGS: tuple[dict[str, Any], ...] = (
    {"enable": True, "video_length": 16, "fps": 8, "format": ["GIF", "PNG"], "closed_loop": "R-P", "batch_size": 16},
    {"frames": 48, "views": True, "context_windows": "uniform", "stride": 2, "overlap": 4, "fusion": "pyramid"},
    {"frames": 32, "noise": "FreeNoise", "freeinit_enable": True, "freeinit_iters": 3, "reverse": True},
    {"motion_scale": "0: 1, 8: 0.5", "motion_effect": "1.2", "frame_seeds": "1, 2, 3", "interp": "Off"},
    {"model": "Text2Video-Zero", "frames": 8, "request_id": "clip", "loop_number": 0, "overlap": -1, "mask_path": ""},
)
PROMPTS = (
    "a disc moving right\n0: red\n8: blue, (bright:1.2)\n16: [green|yellow]\n<lora:style:0.8> tail",
    "0.5s: spring\n2s: summer\nend: winter",
    '"0": "spring",\n"8": "autumn"',
    "a (((deep))) [[one]] (b:1.3) \\(c\\) BREAK d AND e:0.5",
)
SCALES = ("1", "0: 1, 8: 0.5, 15: 0", "down 1: 0.5, mid: 0, up 2: 1.2", "0%: 1, 50%: 0.2", "0-4 = 1.5; end = 0")
CSV = ('videoid,name,page_dir\n1,a red disc,x\n2,"a blue, bright square",y\n',)
PROMPT_FILES = ("a red disc moving right | right\n# none\na blue square\n",)
PROMPT_LISTS = ('["a red disc", {"prompt": "a blue square", "heading": "right"}]',)


@functools.cache
def motion_module() -> dict[str, Tensor]:
    """A motion module as small as one can be, under official names: 32 channels at each site, in 8 bits."""
    weights = load_file(POCKET.folder / "pocket-motion.safetensors")
    channels = {_site(name): weight.shape[0] for name, weight in weights.items() if name.endswith("proj_in.weight")}
    return {name: _narrow(weight, channels[_site(name)]) for name, weight in weights.items()}


def _site(name: str) -> str:
    return name.partition(".temporal_transformer")[0]


def _narrow(weight: Tensor, channels: int) -> Tensor:
    """Multiples of the site's channels become multiples of 32; frames of a positional table stay."""
    sizes = [size * _CHANNELS // channels if size % channels == 0 else size for size in weight.shape]
    return weight[tuple(map(slice, sizes))].to(torch.float8_e4m3fn).contiguous()


def weights_files(_folder: Path) -> list[bytes]:
    """A motion module, a motion LoRA, a LoRA and an embedding as safetensors."""
    loras = [load_file(POCKET.folder / f"pocket-{name}-lora.safetensors") for name in ("pan", "lilac")]
    thin = [{name: _thin(weight) for name, weight in list(lora.items())[:24]} for lora in loras]
    return [save(state) for state in (motion_module(), *thin, {"emb_params": torch.zeros(2, 64)})]


def _thin(weight: Tensor) -> Tensor:
    return weight[tuple(slice(4) for _ in weight.shape)].contiguous()


def pickles(_folder: Path) -> list[bytes]:
    """The same motion module as torch's archive and as its older pickle, and a plain pickle."""
    state = dict(list(motion_module().items())[:40])
    written = []
    for content, zipped in ((motion_module(), True), ({"state_dict": state, "step": 3}, True), (state, False)):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        written.append(file.getvalue())
    return [*written, pickle.dumps({"a": [1, 2.0, None], "b": "text"})]


def images() -> list[Image.Image]:
    """Three frames in which something moves."""
    frames = []
    for number in range(3):
        image = Image.new("RGB", (32, 24), "navy")
        ImageDraw.Draw(image).ellipse((4 * number, 4, 4 * number + 12, 16), "orange")
        frames.append(image)
    return frames


def clips(folder: Path, format: str) -> list[bytes]:
    """A clip with a recipe in one of the formats."""
    recipe = Recipe('a disc\nSteps: 4, AnimateDiff: "enable: True, fps: 8", Version: 1', RECIPE)
    (path,) = write_clip(folder / f"seed{_FORMATS[format]}", images(), formats=[format], fps=8, recipe=recipe)
    return [path.read_bytes()]


def pictures(_folder: Path) -> list[bytes]:
    """One image as PNG, JPEG (plain and progressive), WebP, GIF and BMP, some with EXIF and text."""
    image = images()[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x9286] = b"UNICODE\0" + "a disc\nSteps: 4".encode("utf-16-be")
    written = []
    for format, more in (
        *(("PNG", {"exif": exif}), ("JPEG", {"exif": exif}), ("JPEG", {"progressive": True, "exif": exif})),
        *(("WEBP", {"exif": exif}), ("GIF", {"comment": b"a disc"}), ("BMP", {})),
    ):
        file = io.BytesIO()
        image.save(file, format, **more)
        written.append(file.getvalue())
    for mode in ("L", "LA", "I;16", "P", "1"):
        file = io.BytesIO()
        image.convert("L").convert("I" if mode == "I;16" else "L").convert(mode).save(file, "PNG")
        written.append(file.getvalue())
    return written


def recipe_blocks(_folder: Path) -> list[bytes]:
    """A recipe as it stands in a file."""
    return [Recipe("a disc", RECIPE).block(Fraction(8), 0).encode()]


def jsons(values: Sequence[Any], _folder: Path | None = None) -> list[bytes]:
    """Values as JSON."""
    return [json.dumps(value).encode() for value in values]


def texts(values: Sequence[str], _folder: Path | None = None) -> list[bytes]:
    """Texts as bytes."""
    return [value.encode() for value in values]


def plans(_folder: Path) -> list[bytes]:
    """Plans as JSON."""
    return jsons([plan_clip(parse_settings(values)).to_json() for values in ({}, {"frames": 48, "overlap": 2})])


def infotexts(_folder: Path) -> list[bytes]:
    """Infotexts of ours, and one of the existing extension."""
    theirs = "enable: True, model: mm_sd15_v3.safetensors, video_length: 16, fps: 8, loop_number: 0, mm_hash: 1234abcd"
    ours = to_infotext(ClipSettings(frames=24, request_id='a, "b": c'))
    return texts([theirs, ours])
