"""Small random models in the file formats the WebUI reads: the same call writes the same bytes."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.webui_real.small_shapes import (
    CHANNEL_MULT,
    LATENT_CHANNELS,
    MODEL_CHANNELS,
    NUM_HEADS,
    NUM_RES_BLOCKS,
    VAE_CHANNELS,
    UnetShape,
    clip_shapes,
    conv,
    unet_shapes,
    vae_shapes,
)
from support.webui_real.small_text import CLIP_LAYERS, CLIP_POSITIONS, CONTEXT_DIM, write_tokenizer

TIMESTEPS = 1000
LINEAR_START = 0.00085
LINEAR_END = 0.0120
UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP = "cond_stage_model.transformer.text_model."

# A fan-in initialisation keeps activations near one. These layers get more or less of it: attention over 77 nearly
# equal tokens averages the prompt away unless queries and keys are large.
GAINS = {"attn2.to_": 2.0, "decoder.conv_out": 0.8}

KNOWN_ENTRIES = re.compile(r"^[^/]+/(data\.pkl|version|byteorder|data/\d+)$")


def random_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Draws one tensor: embeddings and matrices of useful size, norms near the identity, small biases."""
    noise = torch.randn(shape, generator=generator)
    if name.endswith("token_embedding.weight"):
        return noise
    if name.endswith(("position_embedding.weight", "positional_embedding")):
        return noise * 0.2
    if name.endswith("bias"):
        return noise * 0.05
    if len(shape) == 1:
        return 1.0 + noise * 0.05
    gain = next((gain for part, gain in GAINS.items() if part in name), 1.0)
    return noise * gain / math.sqrt(math.prod(shape[1:]))


def alphas_cumprod() -> torch.Tensor:
    betas = torch.linspace(LINEAR_START**0.5, LINEAR_END**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0).float()


def random_tensors(parts: dict[str, dict[str, tuple[int, ...]]], seed: int) -> dict[str, torch.Tensor]:
    """Draws all tensors of the named parts of a checkpoint (prefix -> name -> shape) in fp16."""
    generator = torch.Generator().manual_seed(seed)
    return {
        prefix + name: random_tensor(prefix + name, shape, generator).half()
        for prefix, shapes in parts.items()
        for name, shape in shapes.items()
    }


def checkpoint_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    tensors = random_tensors({UNET: unet_shapes(UnetShape()), VAE: vae_shapes(), CLIP: clip_shapes()}, seed)
    tensors[f"{CLIP}embeddings.position_ids"] = torch.arange(CLIP_POSITIONS).unsqueeze(0)
    tensors["alphas_cumprod"] = alphas_cumprod()
    return tensors


def vae_config(target: str) -> dict:
    ddconfig = {
        "double_z": True,
        "z_channels": LATENT_CHANNELS,
        "resolution": 64,
        "in_channels": 3,
        "out_ch": 3,
        "ch": VAE_CHANNELS,
        "ch_mult": list(CHANNEL_MULT),
        "num_res_blocks": NUM_RES_BLOCKS,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    loss = {"target": "torch.nn.Identity"}
    params = {"embed_dim": LATENT_CHANNELS, "ddconfig": ddconfig, "lossconfig": loss}
    return {"target": target, "params": params}


def checkpoint_config(tokenizer: Path) -> dict:
    """Returns the model config (the yaml beside the checkpoint) that describes the small widths."""
    unet = {
        "image_size": 32,
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "model_channels": MODEL_CHANNELS,
        "attention_resolutions": [4, 2, 1],
        "num_res_blocks": NUM_RES_BLOCKS,
        "channel_mult": list(CHANNEL_MULT),
        "num_heads": NUM_HEADS,
        "use_spatial_transformer": True,
        "context_dim": CONTEXT_DIM,
        "legacy": False,
    }
    params = {
        "linear_start": LINEAR_START,
        "linear_end": LINEAR_END,
        "timesteps": TIMESTEPS,
        "cond_stage_key": "txt",
        "channels": LATENT_CHANNELS,
        "conditioning_key": "crossattn",
        "scale_factor": 0.18215,
        "use_ema": False,
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": unet},
        "first_stage_config": vae_config("ldm.models.autoencoder.AutoencoderKL"),
        "cond_stage_config": {
            "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {"version": str(Path(tokenizer).absolute())},
        },
    }
    return {"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}


def write_checkpoint(
    folder: Path, name: str = "small", seed: int = 0, suffix: str = ".safetensors", with_schedule: bool = True
) -> Path:
    """Writes `<name><suffix>`, `<name>.yaml` and the tokenizer folder `<name>_clip`; returns the checkpoint's path.

    The WebUI looks up the yaml by the name without its suffix: `<name>.safetensors` and `<name>.ckpt` share one
    and are therefore loaded into one and the same module, as ordinary SD1 checkpoints are. Many of those lack the
    noise schedule, which is `with_schedule`.
    """
    path = prepared(folder, f"{name}{suffix}")
    tensors = checkpoint_tensors(seed)
    if not with_schedule:
        del tensors["alphas_cumprod"]
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        save_pickle({"state_dict": tensors}, path)
    # JSON is YAML: no yaml package is needed to write it
    config = checkpoint_config(write_tokenizer(folder / f"{name}_clip"))
    (folder / f"{name}.yaml").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return path


def save_pickle(content: dict, path: Path) -> None:
    """Saves a torch pickle that the WebUI accepts and whose bytes depend on the content alone.

    The WebUI refuses archives with entries that it does not know, and torch since 2.7 writes some; the older layout
    without an archive would do, but holds memory addresses, so its hash (and the infotext with it) would change.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(buffer) as written, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as kept:
        for name in written.namelist():
            if KNOWN_ENTRIES.search(name):
                kept.writestr(zipfile.ZipInfo(name), written.read(name))


def kohya_layers() -> dict[str, str]:
    """Returns kohya's layer name -> checkpoint key (without `.weight`) of the layers that `write_lora` trains."""
    blocks = {f"down_blocks_{b}_attentions_{a}": f"input_blocks.{1 + 3 * b + a}.1" for b in range(3) for a in range(2)}
    blocks["mid_block_attentions_0"] = "middle_block.1"
    blocks |= {f"up_blocks_{b}_attentions_{a}": f"output_blocks.{3 * b + a}.1" for b in (1, 2, 3) for a in range(3)}
    layers = {}
    for kohya, ldm in blocks.items():
        for part in ("attn1.to_q", "attn1.to_v", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"):
            key = f"transformer_blocks.0.{part}"
            layers[f"lora_unet_{kohya}_{key.replace('.', '_')}"] = f"{UNET}{ldm}.{key}"
    for number in range(CLIP_LAYERS):
        for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.fc1"):
            key = f"encoder.layers.{number}.{part}"
            layers[f"lora_te_text_model_{key.replace('.', '_')}"] = f"{CLIP}{key}"
    return layers


def write_lora(folder: Path, name: str, checkpoint: Path, seed: int = 0, *, rank: int = 4) -> Path:
    """A kohya LoRA for attention layers of the UNet and the text encoder, which doubles their variance."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    with safe_open(checkpoint, framework="pt") as file:
        for layer, key in kohya_layers().items():
            outputs, inputs = file.get_slice(f"{key}.weight").get_shape()
            down = torch.randn((rank, inputs), generator=generator) / math.sqrt(inputs)
            up = torch.randn((outputs, rank), generator=generator) / math.sqrt(rank)
            tensors[f"{layer}.lora_down.weight"] = down
            tensors[f"{layer}.lora_up.weight"] = up
            tensors[f"{layer}.alpha"] = torch.tensor(float(rank))
    path = prepared(folder, f"{name}.safetensors")
    save_file(tensors, path, metadata={"ss_output_name": name, "ss_network_dim": str(rank), "ss_v2": "False"})
    return path


def write_lycoris(folder: Path, name: str, checkpoint: Path, seed: int = 0, *, rank: int = 4) -> None:
    """Writes a LoHa (LyCORIS) for the attention layers of the UNet: two products of low rank, multiplied."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    with safe_open(checkpoint, framework="pt") as file:
        for layer, key in kohya_layers().items():
            if not layer.startswith("lora_unet"):
                continue
            outputs, inputs = file.get_slice(f"{key}.weight").get_shape()
            for product in ("w1", "w2"):
                tensors[f"{layer}.hada_{product}_a"] = torch.randn((outputs, rank), generator=generator) * 0.5
                tensors[f"{layer}.hada_{product}_b"] = torch.randn((rank, inputs), generator=generator) / inputs**0.25
            tensors[f"{layer}.alpha"] = torch.tensor(float(rank))
    path = prepared(folder, f"{name}.safetensors")
    save_file(tensors, path)


def write_vae(folder: Path, name: str, seed: int = 0) -> None:
    """An autoencoder alone, as people download them for the setting SD VAE."""
    path = prepared(folder, f"{name}.safetensors")
    save_file(random_tensors({"": vae_shapes()}, seed), path)


def write_upscaler(folder: Path, name: str, seed: int = 0, *, features: int = 8, growth: int = 32) -> None:
    """Writes a one-block ESRGAN for four times the size; the WebUI's reader of such files expects this growth."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {}
    conv(shapes, "conv_first", 3, features)
    for dense in (1, 2, 3):
        for layer in range(5):
            outputs = features if layer == 4 else growth
            conv(shapes, f"body.0.rdb{dense}.conv{layer + 1}", features + layer * growth, outputs)
    for layer in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        conv(shapes, layer, features, features)
    conv(shapes, "conv_last", features, 3)
    path = prepared(folder, f"{name}.pth")
    save_pickle({key: random_tensor(key, shape, generator) for key, shape in shapes.items()}, path)


def write_embedding(folder: Path, name: str, seed: int = 0, vectors: int = 2) -> None:
    generator = torch.Generator().manual_seed(seed)
    path = prepared(folder, f"{name}.safetensors")
    save_file({"emb_params": 2.0 * torch.randn((vectors, CONTEXT_DIM), generator=generator)}, path)


def hypernetwork_module(size: int, generator: torch.Generator) -> OrderedDict:
    """Of the layer structure 1, 2, 1, which is what the WebUI takes one for that says nothing."""
    result = OrderedDict()
    for number, (inputs, outputs) in enumerate(((size, 2 * size), (2 * size, size))):
        result[f"linear.{number}.weight"] = torch.randn((outputs, inputs), generator=generator) / math.sqrt(inputs)
        result[f"linear.{number}.bias"] = torch.zeros(outputs)
    return result


def write_hypernetwork(folder: Path, name: str, seed: int = 0) -> None:
    """In the WebUI's own format, for every width that an attention of the UNet has."""
    generator = torch.Generator().manual_seed(seed)
    sizes = sorted({CONTEXT_DIM, *(MODEL_CHANNELS * mult for mult in CHANNEL_MULT)})
    content = {size: tuple(hypernetwork_module(size, generator) for _ in range(2)) for size in sizes}
    path = prepared(folder, f"{name}.pt")
    save_pickle({**content, "name": name}, path)


def prepared(folder: Path, filename: str) -> Path:
    """A path in a folder that exists afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / filename
