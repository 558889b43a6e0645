"""Small random IP-Adapters in the format of their publishers, and a small image encoder of CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PLAIN, PLUS, FULL, FACE = "plain", "plus", "full", "face"
WIDTH, PROJECTED = 32, 24  # of the encoder, in its layers and for a whole image
TOKENS = {PLAIN: 4, PLUS: 3, FACE: 4}
_HIDDEN, _HEAD = 64, 64  # of a Plus adapter's resampler, whose heads have 64 numbers


def adapter_state(unet: nn.Module, kind: str = PLAIN, seed: int = 0, reads: int | None = None) -> dict[str, Any]:
    """The two parts of an IP-Adapter's file, for a UNet of diffusers."""
    generator = torch.Generator().manual_seed(seed)
    context = unet.config.cross_attention_dim

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * (2 / shape[-1]) ** 0.5

    attentions: dict[str, Tensor] = {}
    for number, (name, processor) in enumerate(unet.attn_processors.items()):
        if ".attn2." in name and processor is not None:
            width = unet.get_submodule(name.removesuffix(".processor")).to_q.weight.shape[0]
            attentions[f"{number}.to_k_ip.weight"] = drawn(width, context)
            attentions[f"{number}.to_v_ip.weight"] = 2 * drawn(width, context)
    if kind == PLAIN:
        projection = {
            "proj.weight": drawn(TOKENS[PLAIN] * context, reads or PROJECTED),
            "proj.bias": 0.1 * drawn(TOKENS[PLAIN] * context),
        }
        projection |= {"norm.weight": 1 + 0.1 * drawn(context), "norm.bias": 0.1 * drawn(context)}
    elif kind == FULL:
        projection = {"proj.0.weight": drawn(WIDTH, WIDTH), "proj.0.bias": drawn(WIDTH)}
        projection |= {"proj.2.weight": drawn(context, WIDTH), "proj.2.bias": drawn(context)}
        projection |= {"proj.3.weight": 1 + 0.1 * drawn(context), "proj.3.bias": 0.1 * drawn(context)}
    elif kind == FACE:
        projection = {"proj.0.weight": drawn(64, 32), "proj.0.bias": drawn(64)}
        projection |= {"proj.2.weight": drawn(TOKENS[FACE] * context, 64), "proj.2.bias": drawn(4 * context)}
        projection |= {"norm.weight": 1 + drawn(context), "norm.bias": drawn(context)}
    else:
        projection = {"latents": drawn(1, TOKENS[PLUS], _HIDDEN)}
        for name, made, given in (("proj_in", _HIDDEN, reads or WIDTH), ("proj_out", context, _HIDDEN)):
            projection |= {f"{name}.weight": drawn(made, given), f"{name}.bias": 0.1 * drawn(made)}
        projection |= {"norm_out.weight": 1 + 0.1 * drawn(context), "norm_out.bias": 0.1 * drawn(context)}
        for layer in range(4):
            part = f"layers.{layer}"
            for norm in ("0.norm1", "0.norm2", "1.0"):
                projection |= {f"{part}.{norm}.weight": 1 + 0.1 * drawn(_HIDDEN), f"{part}.{norm}.bias": drawn(_HIDDEN)}
            projection[f"{part}.0.to_q.weight"] = drawn(_HEAD, _HIDDEN)
            projection[f"{part}.0.to_kv.weight"] = drawn(2 * _HEAD, _HIDDEN)
            projection[f"{part}.0.to_out.weight"] = drawn(_HIDDEN, _HEAD)
            projection[f"{part}.1.1.weight"] = drawn(4 * _HIDDEN, _HIDDEN)
            projection[f"{part}.1.3.weight"] = drawn(_HIDDEN, 4 * _HIDDEN)
    return {"image_proj": projection, "ip_adapter": attentions}


def write_adapter(path: Path, state: dict[str, Any]) -> Path:
    """A file, safetensors with flat names or a pickle of two dictionaries, by its suffix."""
    if path.suffix != ".safetensors":
        torch.save(state, path)
        return path
    from safetensors.torch import save_file

    save_file({f"{part}.{name}": each for part, named in state.items() for name, each in named.items()}, path)
    return path


def write_encoder(folder: Path, seed: int = 0) -> Path:
    """The folder of a small image encoder."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=64,
        projection_dim=PROJECTED,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=32,
        patch_size=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPVisionModelWithProjection(config)
        for weight in model.parameters():
            weight.data.copy_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder)
    return folder
