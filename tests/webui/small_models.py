"""Small random models in the file formats the WebUI reads, made from code alone.

Everything is seeded, so the same call writes the same bytes. The checkpoint has the topology of SD1 (the same
blocks, the same key names) at a tenth of its width; what it paints is noise, but noise that depends on the prompt,
the seed and every extra network, which is all that a test can ask of it.
"""

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

MODEL_CHANNELS = 32
CHANNEL_MULT = (1, 2, 4, 4)
NUM_RES_BLOCKS = 2
ATTENTION_RESOLUTIONS = (4, 2, 1)
NUM_HEADS = 8
CONTEXT_DIM = 64
VAE_CHANNELS = 32
LATENT_CHANNELS = 4
CLIP_LAYERS = 2
CLIP_HEADS = 4
CLIP_INTERMEDIATE = 128
CLIP_POSITIONS = 77
TIMESTEPS = 1000
LINEAR_START = 0.00085
LINEAR_END = 0.0120

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP = "cond_stage_model.transformer.text_model."

START_TOKEN = "<|startoftext|>"
END_TOKEN = "<|endoftext|>"
COMMON_WORDS = ("a", "the", "of", "in", "on", "with", "and", "photo", "picture", "cat", "dog", "red", "blue", "green")

# A fan-in initialisation keeps activations near one. These layers get more or less of it: attention over 77 nearly
# equal tokens averages the prompt away unless queries and keys are large.
GAINS = (
    ("attn2.to_q", 2.0),
    ("attn2.to_k", 2.0),
    ("attn2.to_v", 2.0),
    ("attn2.to_out", 2.0),
    ("decoder.conv_out", 0.8),
    ("quant_conv", 1.0),
)

KNOWN_ENTRIES = re.compile(r"^[^/]+/(data\.pkl|version|byteorder|data/\d+)$")

Shapes = "OrderedDict[str, tuple[int, ...]]"


# --------------------------------------------------------------------------------------------------------------------
# shapes of the checkpoint


def linear(shapes: dict, name: str, inputs: int, outputs: int, bias: bool = True) -> None:
    """Adds a linear layer's tensors."""
    shapes[f"{name}.weight"] = (outputs, inputs)
    if bias:
        shapes[f"{name}.bias"] = (outputs,)


def conv(shapes: dict, name: str, inputs: int, outputs: int, kernel: int = 3) -> None:
    """Adds a 2-D convolution's tensors."""
    shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
    shapes[f"{name}.bias"] = (outputs,)


def norm(shapes: dict, name: str, channels: int) -> None:
    """Adds a group or layer norm's tensors."""
    shapes[f"{name}.weight"] = (channels,)
    shapes[f"{name}.bias"] = (channels,)


def unet_resblock(shapes: dict, name: str, inputs: int, outputs: int) -> None:
    """Adds a ResBlock with its timestep embedding."""
    norm(shapes, f"{name}.in_layers.0", inputs)
    conv(shapes, f"{name}.in_layers.2", inputs, outputs)
    linear(shapes, f"{name}.emb_layers.1", MODEL_CHANNELS * 4, outputs)
    norm(shapes, f"{name}.out_layers.0", outputs)
    conv(shapes, f"{name}.out_layers.3", outputs, outputs)
    if inputs != outputs:
        conv(shapes, f"{name}.skip_connection", inputs, outputs, kernel=1)


def unet_attention(shapes: dict, name: str, channels: int, context: int) -> None:
    """Adds one attention of a transformer block."""
    linear(shapes, f"{name}.to_q", channels, channels, bias=False)
    linear(shapes, f"{name}.to_k", context, channels, bias=False)
    linear(shapes, f"{name}.to_v", context, channels, bias=False)
    linear(shapes, f"{name}.to_out.0", channels, channels)


def unet_transformer(shapes: dict, name: str, channels: int) -> None:
    """Adds a SpatialTransformer of depth one."""
    block = f"{name}.transformer_blocks.0"
    norm(shapes, f"{name}.norm", channels)
    conv(shapes, f"{name}.proj_in", channels, channels, kernel=1)
    unet_attention(shapes, f"{block}.attn1", channels, channels)
    linear(shapes, f"{block}.ff.net.0.proj", channels, channels * 8)
    linear(shapes, f"{block}.ff.net.2", channels * 4, channels)
    unet_attention(shapes, f"{block}.attn2", channels, CONTEXT_DIM)
    for number in (1, 2, 3):
        norm(shapes, f"{block}.norm{number}", channels)
    conv(shapes, f"{name}.proj_out", channels, channels, kernel=1)


def unet_shapes() -> Shapes:
    """Returns name -> shape of every tensor of the UNet."""
    shapes: Shapes = OrderedDict()
    linear(shapes, "time_embed.0", MODEL_CHANNELS, MODEL_CHANNELS * 4)
    linear(shapes, "time_embed.2", MODEL_CHANNELS * 4, MODEL_CHANNELS * 4)
    conv(shapes, "input_blocks.0.0", LATENT_CHANNELS, MODEL_CHANNELS)
    channels, scale, skips, index = MODEL_CHANNELS, 1, [MODEL_CHANNELS], 0
    for level, mult in enumerate(CHANNEL_MULT):
        for _ in range(NUM_RES_BLOCKS):
            index += 1
            unet_resblock(shapes, f"input_blocks.{index}.0", channels, MODEL_CHANNELS * mult)
            channels = MODEL_CHANNELS * mult
            if scale in ATTENTION_RESOLUTIONS:
                unet_transformer(shapes, f"input_blocks.{index}.1", channels)
            skips.append(channels)
        if level != len(CHANNEL_MULT) - 1:
            index += 1
            conv(shapes, f"input_blocks.{index}.0.op", channels, channels)
            skips.append(channels)
            scale *= 2
    unet_resblock(shapes, "middle_block.0", channels, channels)
    unet_transformer(shapes, "middle_block.1", channels)
    unet_resblock(shapes, "middle_block.2", channels, channels)
    index = -1
    for level in reversed(range(len(CHANNEL_MULT))):
        for number in range(NUM_RES_BLOCKS + 1):
            index += 1
            layer = 1
            unet_resblock(
                shapes, f"output_blocks.{index}.0", channels + skips.pop(), MODEL_CHANNELS * CHANNEL_MULT[level]
            )
            channels = MODEL_CHANNELS * CHANNEL_MULT[level]
            if scale in ATTENTION_RESOLUTIONS:
                unet_transformer(shapes, f"output_blocks.{index}.{layer}", channels)
                layer += 1
            if level and number == NUM_RES_BLOCKS:
                conv(shapes, f"output_blocks.{index}.{layer}.conv", channels, channels)
                scale //= 2
    norm(shapes, "out.0", channels)
    conv(shapes, "out.2", channels, LATENT_CHANNELS)
    return shapes


def vae_resblock(shapes: dict, name: str, inputs: int, outputs: int) -> None:
    """Adds a ResnetBlock of the autoencoder."""
    norm(shapes, f"{name}.norm1", inputs)
    conv(shapes, f"{name}.conv1", inputs, outputs)
    norm(shapes, f"{name}.norm2", outputs)
    conv(shapes, f"{name}.conv2", outputs, outputs)
    if inputs != outputs:
        conv(shapes, f"{name}.nin_shortcut", inputs, outputs, kernel=1)


def vae_middle(shapes: dict, name: str, channels: int) -> None:
    """Adds the middle of the encoder or of the decoder."""
    vae_resblock(shapes, f"{name}.block_1", channels, channels)
    norm(shapes, f"{name}.attn_1.norm", channels)
    for part in ("q", "k", "v", "proj_out"):
        conv(shapes, f"{name}.attn_1.{part}", channels, channels, kernel=1)
    vae_resblock(shapes, f"{name}.block_2", channels, channels)


def vae_shapes() -> Shapes:
    """Returns name -> shape of every tensor of the autoencoder."""
    shapes: Shapes = OrderedDict()
    widths = [VAE_CHANNELS * mult for mult in CHANNEL_MULT]
    conv(shapes, "encoder.conv_in", 3, VAE_CHANNELS)
    channels = VAE_CHANNELS
    for level, width in enumerate(widths):
        for number in range(NUM_RES_BLOCKS):
            vae_resblock(shapes, f"encoder.down.{level}.block.{number}", channels, width)
            channels = width
        if level != len(widths) - 1:
            conv(shapes, f"encoder.down.{level}.downsample.conv", channels, channels)
    vae_middle(shapes, "encoder.mid", channels)
    norm(shapes, "encoder.norm_out", channels)
    conv(shapes, "encoder.conv_out", channels, 2 * LATENT_CHANNELS)
    conv(shapes, "decoder.conv_in", LATENT_CHANNELS, channels)
    vae_middle(shapes, "decoder.mid", channels)
    for level in reversed(range(len(widths))):
        for number in range(NUM_RES_BLOCKS + 1):
            vae_resblock(shapes, f"decoder.up.{level}.block.{number}", channels, widths[level])
            channels = widths[level]
        if level:
            conv(shapes, f"decoder.up.{level}.upsample.conv", channels, channels)
    norm(shapes, "decoder.norm_out", channels)
    conv(shapes, "decoder.conv_out", channels, 3)
    conv(shapes, "quant_conv", 2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, kernel=1)
    conv(shapes, "post_quant_conv", LATENT_CHANNELS, LATENT_CHANNELS, kernel=1)
    return shapes


def clip_shapes() -> Shapes:
    """Returns name -> shape of every tensor of the text encoder (the position ids are not one of them)."""
    shapes: Shapes = OrderedDict()
    shapes["embeddings.token_embedding.weight"] = (len(vocabulary()), CONTEXT_DIM)
    shapes["embeddings.position_embedding.weight"] = (CLIP_POSITIONS, CONTEXT_DIM)
    for number in range(CLIP_LAYERS):
        layer = f"encoder.layers.{number}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            linear(shapes, f"{layer}.self_attn.{part}", CONTEXT_DIM, CONTEXT_DIM)
        norm(shapes, f"{layer}.layer_norm1", CONTEXT_DIM)
        linear(shapes, f"{layer}.mlp.fc1", CONTEXT_DIM, CLIP_INTERMEDIATE)
        linear(shapes, f"{layer}.mlp.fc2", CLIP_INTERMEDIATE, CONTEXT_DIM)
        norm(shapes, f"{layer}.layer_norm2", CONTEXT_DIM)
    norm(shapes, "final_layer_norm", CONTEXT_DIM)
    return shapes


# --------------------------------------------------------------------------------------------------------------------
# weights of the checkpoint


def gain_of(name: str) -> float:
    """Returns how much larger than fan-in a layer's weights are drawn."""
    return next((gain for part, gain in GAINS if part in name), 1.0)


def random_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Draws one tensor: embeddings and matrices of useful size, norms near the identity, small biases."""
    noise = torch.randn(shape, generator=generator)
    if name.endswith("token_embedding.weight"):
        return noise
    if name.endswith("position_embedding.weight"):
        return noise * 0.2
    if name.endswith(".bias"):
        return noise * 0.05
    if len(shape) == 1:
        return 1.0 + noise * 0.05
    return noise * gain_of(name) / math.sqrt(math.prod(shape[1:]))


def alphas_cumprod() -> torch.Tensor:
    """Returns SD1's noise schedule."""
    betas = torch.linspace(LINEAR_START**0.5, LINEAR_END**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0).float()


def checkpoint_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Returns the whole checkpoint: UNet, autoencoder, text encoder and noise schedule."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for prefix, shapes in ((UNET, unet_shapes()), (VAE, vae_shapes()), (CLIP, clip_shapes())):
        for name, shape in shapes.items():
            tensors[prefix + name] = random_tensor(prefix + name, shape, generator).half()
    tensors[f"{CLIP}embeddings.position_ids"] = torch.arange(CLIP_POSITIONS).unsqueeze(0)
    tensors["alphas_cumprod"] = alphas_cumprod()
    return tensors


# --------------------------------------------------------------------------------------------------------------------
# tokenizer


def byte_units() -> list[str]:
    """Returns the printable character that stands for each of the 256 bytes in a byte-level BPE vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    units = {byte: chr(byte) for byte in printable}
    units.update({byte: chr(256 + number) for number, byte in enumerate(others)})
    return [units[byte] for byte in range(256)]


def merges() -> list[tuple[str, str]]:
    """Returns BPE merges that make one token of each common word, joined from its left end."""
    result: list[tuple[str, str]] = []
    for word in COMMON_WORDS:
        symbols = [*word[:-1], f"{word[-1]}</w>"]
        left = symbols[0]
        for right in symbols[1:]:
            if (left, right) not in result:
                result.append((left, right))
            left += right
    return result


def vocabulary() -> dict[str, int]:
    """Returns token -> id in CLIP's order; the end token is the largest, as the text encoder expects."""
    units = byte_units()
    tokens = [*units, *(f"{unit}</w>" for unit in units), *("".join(pair) for pair in merges())]
    return {token: number for number, token in enumerate([*tokens, START_TOKEN, END_TOKEN])}


def write_tokenizer(folder: Path) -> Path:
    """Writes a CLIP tokenizer and the text encoder's config, in the layout of a transformers model folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocab = vocabulary()
    special = {"bos_token": START_TOKEN, "eos_token": END_TOKEN, "unk_token": END_TOKEN, "pad_token": END_TOKEN}
    config = {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": len(vocab),
        "hidden_size": CONTEXT_DIM,
        "intermediate_size": CLIP_INTERMEDIATE,
        "projection_dim": CONTEXT_DIM,
        "num_hidden_layers": CLIP_LAYERS,
        "num_attention_heads": CLIP_HEADS,
        "max_position_embeddings": CLIP_POSITIONS,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "bos_token_id": vocab[START_TOKEN],
        "eos_token_id": vocab[END_TOKEN],
        "pad_token_id": vocab[END_TOKEN],
    }
    tokenizer = {
        **special,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": CLIP_POSITIONS,
        "tokenizer_class": "CLIPTokenizer",
    }
    files = {
        "vocab.json": json.dumps(vocab, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges()), ""]),
        "special_tokens_map.json": json.dumps(special, indent=2),
        "tokenizer_config.json": json.dumps(tokenizer, indent=2),
        "config.json": json.dumps(config, indent=2),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


# --------------------------------------------------------------------------------------------------------------------
# files


def checkpoint_config(tokenizer: Path) -> dict:
    """Returns the model config (the yaml beside the checkpoint) that describes the small widths."""
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
    unet = {
        "image_size": 32,
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "model_channels": MODEL_CHANNELS,
        "attention_resolutions": list(ATTENTION_RESOLUTIONS),
        "num_res_blocks": NUM_RES_BLOCKS,
        "channel_mult": list(CHANNEL_MULT),
        "num_heads": NUM_HEADS,
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": CONTEXT_DIM,
        "use_checkpoint": False,
        "legacy": False,
    }
    params = {
        "linear_start": LINEAR_START,
        "linear_end": LINEAR_END,
        "num_timesteps_cond": 1,
        "log_every_t": 200,
        "timesteps": TIMESTEPS,
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": 64,
        "channels": LATENT_CHANNELS,
        "cond_stage_trainable": False,
        "conditioning_key": "crossattn",
        "monitor": "val/loss_simple_ema",
        "scale_factor": 0.18215,
        "use_ema": False,
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": unet},
        "first_stage_config": {
            "target": "ldm.models.autoencoder.AutoencoderKL",
            "params": {
                "embed_dim": LATENT_CHANNELS,
                "monitor": "val/rec_loss",
                "ddconfig": ddconfig,
                "lossconfig": {"target": "torch.nn.Identity"},
            },
        },
        "cond_stage_config": {
            "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {"version": str(Path(tokenizer).absolute())},
        },
    }
    return {"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}


def write_checkpoint(folder: Path, name: str = "small", seed: int = 0, suffix: str = ".safetensors") -> Path:
    """Writes `<name><suffix>`, `<name>.yaml` and the tokenizer folder `<name>_clip`; returns the checkpoint's path.

    The WebUI looks up the yaml by the name without its suffix: `<name>.safetensors` and `<name>.ckpt` share one
    and are therefore loaded into one and the same module, as ordinary SD1 checkpoints are.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}{suffix}"
    tensors = checkpoint_tensors(seed)
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
    blocks.update(
        {f"up_blocks_{b}_attentions_{a}": f"output_blocks.{3 * b + a}.1" for b in range(1, 4) for a in range(3)}
    )
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


def write_lora(
    folder: Path, name: str, checkpoint: Path, seed: int = 0, *, rank: int = 4, strength: float = 1.0
) -> Path:
    """Writes a kohya LoRA for attention layers of the UNet and the text encoder; strength 1 doubles their variance."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    with safe_open(checkpoint, framework="pt") as file:
        for layer, key in kohya_layers().items():
            outputs, inputs = file.get_slice(f"{key}.weight").get_shape()
            down = torch.randn((rank, inputs), generator=generator) / math.sqrt(inputs)
            up = torch.randn((outputs, rank), generator=generator) * strength / math.sqrt(rank)
            tensors[f"{layer}.lora_down.weight"] = down
            tensors[f"{layer}.lora_up.weight"] = up
            tensors[f"{layer}.alpha"] = torch.tensor(float(rank))
    path = prepared(folder, f"{name}.safetensors")
    save_file(tensors, path, metadata={"ss_output_name": name, "ss_network_dim": str(rank), "ss_v2": "False"})
    return path


def write_embedding(folder: Path, name: str, seed: int = 0, vectors: int = 2) -> Path:
    """Writes a textual inversion embedding; its word in the prompt is the file's name."""
    generator = torch.Generator().manual_seed(seed)
    path = prepared(folder, f"{name}.safetensors")
    save_file({"emb_params": 2.0 * torch.randn((vectors, CONTEXT_DIM), generator=generator)}, path)
    return path


def hypernetwork_module(size: int, generator: torch.Generator) -> OrderedDict:
    """Returns the state dict of one hypernetwork module of layer structure 1, 2, 1."""
    result = OrderedDict()
    for number, (inputs, outputs) in enumerate(((size, 2 * size), (2 * size, size))):
        result[f"linear.{number}.weight"] = torch.randn((outputs, inputs), generator=generator) / math.sqrt(inputs)
        result[f"linear.{number}.bias"] = torch.zeros(outputs)
    return result


def write_hypernetwork(folder: Path, name: str, seed: int = 0) -> Path:
    """Writes a hypernetwork in the WebUI's own format, for every width that an attention of the UNet has."""
    generator = torch.Generator().manual_seed(seed)
    content: dict = {}
    for size in sorted({CONTEXT_DIM, *(MODEL_CHANNELS * mult for mult in CHANNEL_MULT)}):
        content[size] = (hypernetwork_module(size, generator), hypernetwork_module(size, generator))
    content.update(
        {
            "step": 1,
            "name": name,
            "layer_structure": [1, 2, 1],
            "activation_func": "linear",
            "is_layer_norm": False,
            "weight_initialization": "Normal",
            "sd_checkpoint": None,
            "sd_checkpoint_name": None,
            "activate_output": False,
            "use_dropout": False,
            "dropout_structure": [0, 0, 0],
            "last_layer_dropout": False,
            "optional_info": None,
        }
    )
    path = prepared(folder, f"{name}.pt")
    save_pickle(content, path)
    return path


def prepared(folder: Path, filename: str) -> Path:
    """Returns a path inside a folder that exists afterwards."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / filename
