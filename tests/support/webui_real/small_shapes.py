"""Every tensor of a small SD1 or SDXL checkpoint: blocks and key names of the real ones at a tenth of their widths."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from support.webui_real.small_text import CLIP_INTERMEDIATE, CLIP_LAYERS, CLIP_POSITIONS, CONTEXT_DIM, vocabulary

MODEL_CHANNELS = 32
CHANNEL_MULT = (1, 2, 4, 4)
NUM_RES_BLOCKS = 2
NUM_HEADS = 8
VAE_CHANNELS = 32
LATENT_CHANNELS = 4
Shapes = "OrderedDict[str, tuple[int, ...]]"  # of every tensor, by name


@dataclass(frozen=True)
class UnetShape:
    """What the UNets of the bases differ in; `depths` are transformer blocks per level."""

    channel_mult: tuple[int, ...] = CHANNEL_MULT
    depths: tuple[int, ...] = (1, 1, 1, 0)
    middle_depth: int = 1
    context: int = CONTEXT_DIM
    linear_projections: bool = False
    label: int | None = None


def linear(shapes: dict, name: str, inputs: int, outputs: int, bias: bool = True) -> None:
    shapes[f"{name}.weight"] = (outputs, inputs)
    if bias:
        shapes[f"{name}.bias"] = (outputs,)


def conv(shapes: dict, name: str, inputs: int, outputs: int, kernel: int = 3) -> None:
    shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
    shapes[f"{name}.bias"] = (outputs,)


def norm(shapes: dict, name: str, channels: int) -> None:
    shapes[f"{name}.weight"] = (channels,)
    shapes[f"{name}.bias"] = (channels,)


def unet_resblock(shapes: dict, name: str, inputs: int, outputs: int) -> None:
    norm(shapes, f"{name}.in_layers.0", inputs)
    conv(shapes, f"{name}.in_layers.2", inputs, outputs)
    linear(shapes, f"{name}.emb_layers.1", MODEL_CHANNELS * 4, outputs)
    norm(shapes, f"{name}.out_layers.0", outputs)
    conv(shapes, f"{name}.out_layers.3", outputs, outputs)
    if inputs != outputs:
        conv(shapes, f"{name}.skip_connection", inputs, outputs, kernel=1)


def unet_attention(shapes: dict, name: str, channels: int, context: int) -> None:
    for part, inputs in (("q", channels), ("k", context), ("v", context)):
        linear(shapes, f"{name}.to_{part}", inputs, channels, bias=False)
    linear(shapes, f"{name}.to_out.0", channels, channels)


def unet_transformer(shapes: dict, name: str, channels: int, depth: int, shape: UnetShape) -> None:
    norm(shapes, f"{name}.norm", channels)
    for projection in ("proj_in", "proj_out"):
        if shape.linear_projections:
            linear(shapes, f"{name}.{projection}", channels, channels)
        else:
            conv(shapes, f"{name}.{projection}", channels, channels, kernel=1)
    for number in range(depth):
        block = f"{name}.transformer_blocks.{number}"
        unet_attention(shapes, f"{block}.attn1", channels, channels)
        linear(shapes, f"{block}.ff.net.0.proj", channels, channels * 8)
        linear(shapes, f"{block}.ff.net.2", channels * 4, channels)
        unet_attention(shapes, f"{block}.attn2", channels, shape.context)
        for part in (1, 2, 3):
            norm(shapes, f"{block}.norm{part}", channels)


def unet_shapes(shape: UnetShape) -> Shapes:
    shapes: Shapes = OrderedDict()
    embedding = MODEL_CHANNELS * 4
    linear(shapes, "time_embed.0", MODEL_CHANNELS, embedding)
    linear(shapes, "time_embed.2", embedding, embedding)
    if shape.label:
        linear(shapes, "label_emb.0.0", shape.label, embedding)
        linear(shapes, "label_emb.0.2", embedding, embedding)
    conv(shapes, "input_blocks.0.0", LATENT_CHANNELS, MODEL_CHANNELS)
    levels = list(zip(shape.channel_mult, shape.depths, strict=True))
    channels, skips, index = MODEL_CHANNELS, [MODEL_CHANNELS], 0
    for level, (mult, depth) in enumerate(levels):
        for _ in range(NUM_RES_BLOCKS):
            index += 1
            unet_resblock(shapes, f"input_blocks.{index}.0", channels, MODEL_CHANNELS * mult)
            channels = MODEL_CHANNELS * mult
            if depth:
                unet_transformer(shapes, f"input_blocks.{index}.1", channels, depth, shape)
            skips.append(channels)
        if level != len(levels) - 1:
            index += 1
            conv(shapes, f"input_blocks.{index}.0.op", channels, channels)
            skips.append(channels)
    unet_resblock(shapes, "middle_block.0", channels, channels)
    unet_transformer(shapes, "middle_block.1", channels, shape.middle_depth, shape)
    unet_resblock(shapes, "middle_block.2", channels, channels)
    index = -1
    for level, (mult, depth) in reversed(list(enumerate(levels))):
        for number in range(NUM_RES_BLOCKS + 1):
            index += 1
            block = f"output_blocks.{index}"
            unet_resblock(shapes, f"{block}.0", channels + skips.pop(), MODEL_CHANNELS * mult)
            channels = MODEL_CHANNELS * mult
            if depth:
                unet_transformer(shapes, f"{block}.1", channels, depth, shape)
            if level and number == NUM_RES_BLOCKS:
                conv(shapes, f"{block}.{2 if depth else 1}.conv", channels, channels)
    norm(shapes, "out.0", channels)
    conv(shapes, "out.2", channels, LATENT_CHANNELS)
    return shapes


def vae_resblock(shapes: dict, name: str, inputs: int, outputs: int) -> None:
    norm(shapes, f"{name}.norm1", inputs)
    conv(shapes, f"{name}.conv1", inputs, outputs)
    norm(shapes, f"{name}.norm2", outputs)
    conv(shapes, f"{name}.conv2", outputs, outputs)
    if inputs != outputs:
        conv(shapes, f"{name}.nin_shortcut", inputs, outputs, kernel=1)


def vae_middle(shapes: dict, name: str, channels: int) -> None:
    vae_resblock(shapes, f"{name}.block_1", channels, channels)
    norm(shapes, f"{name}.attn_1.norm", channels)
    for part in ("q", "k", "v", "proj_out"):
        conv(shapes, f"{name}.attn_1.{part}", channels, channels, kernel=1)
    vae_resblock(shapes, f"{name}.block_2", channels, channels)


def vae_shapes() -> Shapes:
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


def open_clip_shapes(width: int, layers: int, positions: int, tokens: int) -> Shapes:
    shapes: Shapes = OrderedDict()
    shapes["positional_embedding"] = (positions, width)
    shapes["text_projection"] = (width, width)
    shapes["token_embedding.weight"] = (tokens, width)
    for number in range(layers):
        block = f"transformer.resblocks.{number}"
        shapes[f"{block}.attn.in_proj_weight"] = (3 * width, width)
        shapes[f"{block}.attn.in_proj_bias"] = (3 * width,)
        linear(shapes, f"{block}.attn.out_proj", width, width)
        linear(shapes, f"{block}.mlp.c_fc", width, 4 * width)
        linear(shapes, f"{block}.mlp.c_proj", 4 * width, width)
        norm(shapes, f"{block}.ln_1", width)
        norm(shapes, f"{block}.ln_2", width)
    norm(shapes, "ln_final", width)
    return shapes
