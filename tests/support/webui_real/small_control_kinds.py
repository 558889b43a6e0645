"""Small random models of further kinds: union ControlNet, control-LoRA, and IP-Adapters of other shapes."""

from __future__ import annotations

import base64
import io
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from support.webui_real.small_control import control_shapes, prompt_layers, write_small
from support.webui_real.small_shapes import MODEL_CHANNELS, Shapes, linear, norm
from support.webui_real.small_text import CONTEXT_DIM

UNION, LORA = "small_sd15_union", "small_sd15_control-lora"
PLUS, FULL = "small_sd15_ip-adapter-plus", "small_sd15_ip-adapter-full"
FACE, FACE_PLUS = "small_sd15_ip-adapter-faceid", "small_sd15_ip-adapter-faceid-plusv2"  # read from the name
INSTANT_FACE, INSTANT = "small_sd15_instant_id_ip-adapter", "small_sd15_instant_id_net"
UNION_TYPES = 8
_TASK = 256  # width of what a union ControlNet makes of its control type
_RANK = 4
_WITHOUT_BASE = ("input_hint_block", "zero_convs", "middle_block_out")  # layers that a UNet does not have
_CLIP, _FACE, _CLIP_TOKENS = 1280, 512, 257  # of the image encoders, which the extension's own uncond has as well
_PLUS_TOKENS, _FACE_TOKENS = 16, 4
_HEAD = 64
_LOUD_PROMPT = {"to_v_ip": 3.0}


def write_union(folder: Path, seed: int = 110) -> Path:
    """Writes a union ControlNet, whose transformer is as wide as the small UNet (see the trouble extension)."""
    shapes, width = control_shapes(), MODEL_CHANNELS
    shapes["task_embedding"] = (UNION_TYPES, width)
    layer = "transformer_layes.0"
    shapes[f"{layer}.attn.in_proj_weight"], shapes[f"{layer}.attn.in_proj_bias"] = (3 * width, width), (3 * width,)
    linear(shapes, f"{layer}.attn.out_proj", width, width)
    for part in (1, 2):
        norm(shapes, f"{layer}.ln_{part}", width)
    linear(shapes, f"{layer}.mlp.c_fc", width, 4 * width)
    linear(shapes, f"{layer}.mlp.c_proj", 4 * width, width)
    linear(shapes, "spatial_ch_projs", width, width)
    linear(shapes, "control_add_embedding.linear_1", _TASK * UNION_TYPES, 4 * width)
    linear(shapes, "control_add_embedding.linear_2", 4 * width, 4 * width)
    return write_small(folder, UNION, shapes, seed)


def write_control_lora(folder: Path, seed: int = 111) -> Path:
    """Writes a ControlNet whose matrices are changes of the UNet's own, of a low rank."""
    shapes: Shapes = OrderedDict(lora_controlnet=(1,))
    for name, shape in control_shapes().items():
        layer, _, part = name.rpartition(".")
        if part == "bias" or len(shape) == 1 or name.startswith(_WITHOUT_BASE):
            shapes[name] = shape
        else:
            shapes[f"{layer}.up"] = (shape[0], _RANK, *[1] * (len(shape) - 2))
            shapes[f"{layer}.down"] = (_RANK, *shape[1:])
    return write_small(folder, LORA, shapes, seed)


def write_plus(folder: Path, seed: int = 112) -> Path:
    """Writes an IP-Adapter that reads the image encoder's tokens."""
    shapes: Shapes = OrderedDict({"image_proj.latents": (1, _PLUS_TOKENS, CONTEXT_DIM)})
    _resampler(shapes, "image_proj", 12 * _HEAD)
    return _write_prompt(folder, PLUS, shapes, seed)


def write_full(folder: Path, seed: int = 113) -> Path:
    """Writes an IP-Adapter that keeps every token of the image encoder."""
    shapes: Shapes = OrderedDict()
    linear(shapes, "image_proj.proj.0", _CLIP, _CLIP)
    linear(shapes, "image_proj.proj.2", _CLIP, CONTEXT_DIM)
    norm(shapes, "image_proj.proj.3", CONTEXT_DIM)
    return _write_prompt(folder, FULL, shapes, seed)


def write_face(folder: Path, seed: int = 114) -> Path:
    """Writes an IP-Adapter that reads the embedding of a face."""
    return _write_prompt(folder, FACE, _face_shapes(), seed)


def write_face_plus(folder: Path, seed: int = 115) -> Path:
    """Writes an IP-Adapter that reads the embedding of a face and the image encoder's tokens."""
    shapes = _face_shapes()
    _resampler(shapes, "image_proj.perceiver_resampler", CONTEXT_DIM)
    return _write_prompt(folder, FACE_PLUS, shapes, seed)


def write_instant_id(folder: Path, seed: int = 116) -> None:
    """Writes both files of an InstantID, whose resampler is narrow (see the trouble extension)."""
    shapes: Shapes = OrderedDict({"image_proj.latents": (1, _PLUS_TOKENS, CONTEXT_DIM)})
    _resampler(shapes, "image_proj", _HEAD, _FACE)
    _write_prompt(folder, INSTANT_FACE, shapes, seed)
    write_small(folder, INSTANT, control_shapes(), seed + 1)


def _face_shapes() -> Shapes:
    shapes: Shapes = OrderedDict()
    linear(shapes, "image_proj.proj.0", _FACE, 2 * _FACE)
    linear(shapes, "image_proj.proj.2", 2 * _FACE, _FACE_TOKENS * CONTEXT_DIM)
    norm(shapes, "image_proj.norm", CONTEXT_DIM)
    return shapes


def _resampler(shapes: Shapes, name: str, inner: int, seen: int = _CLIP) -> None:
    linear(shapes, f"{name}.proj_in", seen, CONTEXT_DIM)
    linear(shapes, f"{name}.proj_out", CONTEXT_DIM, CONTEXT_DIM)
    norm(shapes, f"{name}.norm_out", CONTEXT_DIM)
    for number in range(4):
        layer = f"{name}.layers.{number}"
        for part in (1, 2):
            norm(shapes, f"{layer}.0.norm{part}", CONTEXT_DIM)
        linear(shapes, f"{layer}.0.to_q", CONTEXT_DIM, inner, bias=False)
        linear(shapes, f"{layer}.0.to_kv", CONTEXT_DIM, 2 * inner, bias=False)
        linear(shapes, f"{layer}.0.to_out", inner, CONTEXT_DIM, bias=False)
        norm(shapes, f"{layer}.1.0", CONTEXT_DIM)
        linear(shapes, f"{layer}.1.1", CONTEXT_DIM, 4 * CONTEXT_DIM, bias=False)
        linear(shapes, f"{layer}.1.3", 4 * CONTEXT_DIM, CONTEXT_DIM, bias=False)


def _write_prompt(folder: Path, name: str, shapes: Shapes, seed: int) -> Path:
    return write_small(folder, name, OrderedDict({**shapes, **prompt_layers()}), seed, _LOUD_PROMPT)


def write_kinds(folder: Path) -> None:
    """Writes a model of each kind."""
    for write in (write_union, write_control_lora, write_plus, write_full, write_face, write_face_plus):
        write(folder)
    write_instant_id(folder)


def _seen(seed: int, tokens: int) -> dict[str, Any]:
    """What an image encoder makes of an image: the extension reads the last hidden state but one."""
    state = torch.randn(1, tokens, _CLIP, generator=torch.Generator().manual_seed(seed)) * 3
    return {"hidden_states": [state, state]}


def _face_of(seed: int) -> torch.Tensor:
    return torch.randn(1, _FACE, generator=torch.Generator().manual_seed(seed)) * 3


class FaceIdPlusInput:
    """The extension's own class of this name, as a client of its API pickles it."""

    def __init__(self, seed: int) -> None:
        self.face_embed, self.clip_embed = _face_of(seed), _seen(seed, 4)


PROMPTS: dict[str, tuple[str, Callable[[int], Any]]] = {  # by model: preprocessor, and its output for an image
    PLUS: ("ip-adapter_clip_h", lambda seed: _seen(seed, 4)),
    FULL: ("ip-adapter_clip_h", lambda seed: _seen(seed, _CLIP_TOKENS)),
    FACE: ("ip-adapter_face_id", _face_of),
    FACE_PLUS: ("ip-adapter_face_id_plus", FaceIdPlusInput),
    INSTANT_FACE: ("instant_id_face_embedding", _face_of),
}


def image_prompts(model: str, *seeds: int) -> dict[str, Any]:
    """The part of a unit that gives such an IP-Adapter images."""
    module, make = PROMPTS[model]
    return {"module": module, "ipadapter_input": [_pickled(make(seed)) for seed in seeds]}


def _pickled(made: Any) -> str:
    names = ["scripts", "scripts.preprocessor.legacy.processor"]
    former = {name: sys.modules.get(name) for name in names}
    sys.modules.update({name: ModuleType(name) for name in names})
    FaceIdPlusInput.__module__ = names[-1]
    sys.modules[names[-1]].FaceIdPlusInput = FaceIdPlusInput
    try:
        written = io.BytesIO()
        torch.save(made, written)
    finally:
        for name, module in former.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
    return base64.b64encode(written.getvalue()).decode("ascii")
