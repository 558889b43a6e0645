"""Weights that are mistaken for motion modules: how to detect them, and where they belong.

The patterns search a listing of the file with one line per tensor, such as ``name 320x4x3x3``. Names are truncated,
because some patterns take quadratic time in the length of a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .key_formats import is_motion_weight
from .safe_unpickler import TensorHeader

_MAX_NAME_LENGTH = 300  # characters: twice the longest real name
_CHOOSE = "Choose a motion module such as v3_sd15_mm.ckpt."
_NOT_RUN = f"This version does not support it. {_CHOOSE}"
_SPARSE_CTRL = f"Give it with images at frames, as --sparse-ctrl on the command line. {_CHOOSE}"
_PIA = f"Give it with an image, as --pia on the command line. {_CHOOSE}"
_I2V = f"Give it with an image, as --i2v on the command line. {_CHOOSE}"
_CAMERA_CTRL = f"Give it with a path, as --camera-model and --camera on the command line. {_CHOOSE}"
_CHECKPOINT = f"Put it into the folder of your checkpoints. {_CHOOSE}"
_CONTROLNET = f"Use it with ControlNet. {_CHOOSE}"
_IMAGE_LORA = f"Use it like any image LoRA. {_CHOOSE}"
_OTHER_BASE = f"There are motion modules for Stable Diffusion 1.5 and SDXL only. {_CHOOSE}"
_VIDEO_MODEL = f"It renders clips without a motion module. {_CHOOSE}"
_LYCORIS = r"\.(?:hada_w1_a|lokr_w1)"
_LORA = r"lora[._]linear_layer\.|lora[._](?:down|up|A|B)\b|_lora\.(?:down|up)\.|lora_(?:down|up|A|B)\."


@dataclass(frozen=True)
class KnownModel:
    """A type of model that is not a motion module.

    Attributes:
        what: its name, with the article.
        advice: what to do with the file.
        patterns: patterns that must each match a line of the listing.
        absent: pattern that must not match any line.
    """

    what: str
    advice: str
    patterns: tuple[str, ...]
    absent: str = r"(?!)"


# Models that contain motion modules, or weights for them.
_ADD_ONS = (
    KnownModel(
        "a SparseCtrl encoder for scribbles",
        _SPARSE_CTRL,
        (r"motion_modules\.", r"(?:controlnet_cond_embedding|input_hint_block\.0)\.conv_in\.weight "),
    ),
    KnownModel(
        "a SparseCtrl encoder for images",
        _SPARSE_CTRL,
        (r"motion_modules\.", r"(?:controlnet_cond_embedding|input_hint_block\.0)\.weight "),
    ),
    KnownModel("a SparseCtrl encoder", _NOT_RUN, (r"motion_modules\.", r"controlnet_down_blocks|zero_convs")),
    KnownModel("a CameraCtrl model", _CAMERA_CTRL, (r"qkv_merge",)),
    KnownModel("the camera encoder of CameraCtrl", _CAMERA_CTRL, (r"^(?:.*\.)?encoder_down_attention_blocks\.",)),
    KnownModel("MotionCtrl weights", _NOT_RUN, (r"cc_projection",)),
    KnownModel("an AnimateLCM-I2V model", _I2V, (r"^(?:.*\.)?img_encoder\.",)),
    KnownModel(
        "a motion LoRA",
        "Choose a motion module, and add this file to it as a motion LoRA.",
        (rf"motion_modules.*(?:{_LORA}|{_LYCORIS})",),
    ),
    KnownModel("FancyVideo weights", _NOT_RUN, (r"^(?:fps_embedding\.linear|motion_embedding\.linear|FancyVideo)",)),
    KnownModel("a PIA model", _PIA, (r"^conv_in\.weight \d+x9x3x3$",)),
    KnownModel(
        "a motion module for Stable Diffusion 2",
        "Choose one for Stable Diffusion 1.5 or SDXL.",
        (r"motion_modules\.", r"attn2\.to_k\.weight \d+x1024$"),
    ),
)

# Models without motion weights. The first match counts.
_OTHERS = (
    KnownModel(
        # Early versions of diffusers named the weights of every LoRA like this.
        "an image LoRA (or the v3 domain adapter)",
        f"Add it to a motion module as a domain adapter. {_CHOOSE}",
        (r"attn\d\.processor\.to_q_lora\.down\.weight ",),
    ),
    KnownModel("an image LoRA", _IMAGE_LORA, (_LORA,)),
    KnownModel("an image LoRA", _IMAGE_LORA, (_LYCORIS,)),
    KnownModel("an IP-Adapter", _CONTROLNET, (r"^ip_adapter\.|^image_proj\.|^image_proj_model\.",)),
    KnownModel(
        "a ControlNet",
        _CONTROLNET,
        (r"^control_model\.|^controlnet_|input_hint_block|^(?:.*\.)?zero_convs\.",),
    ),
    KnownModel("a T2I adapter", _CONTROLNET, (r"^(?:adapter\.)?body\.\d+\.block1\.",)),
    KnownModel(
        "a Stable Video Diffusion model",
        _VIDEO_MODEL,
        (r"time_stack\.|time_mixer\.|temporal_transformer_blocks\.",),
    ),
    KnownModel(
        "a ModelScope video model",
        _VIDEO_MODEL,
        (r"temp_convs\.|temp_attentions\.|temopral_conv\.",),
    ),
    KnownModel(
        "an SDXL image checkpoint", _CHECKPOINT, (r"^conditioner\.embedders\.1\.|attn2\.to_k\.weight \d+x2048$",)
    ),
    KnownModel(
        "a Stable Diffusion 2 image checkpoint",
        _OTHER_BASE,
        (r"attn2\.to_k\.weight \d+x1024$",),
    ),
    KnownModel(
        "a Flux or Stable Diffusion 3 checkpoint",
        _OTHER_BASE,
        (r"(?:^|\.)(?:double_blocks|joint_blocks|transformer_blocks)\.\d+\.(?:img_|x_block|context_block|attn\.)",),
    ),
    KnownModel(
        "an image checkpoint",
        _CHECKPOINT,
        (r"^(?:input_blocks|down_blocks)\.\d+\.|^cond_stage_model\.",),
        absent=r"^encoder\.",
    ),
    KnownModel(
        "a VAE",
        f"Put it into the folder of your VAEs. {_CHOOSE}",
        (r"^(?:first_stage_model\.)?(?:encoder|decoder)\.conv_in\.",),
    ),
    KnownModel("a text encoder", _CHOOSE, (r"text_model\.encoder\.layers\.|transformer\.resblocks\.",)),
    KnownModel(
        "a textual inversion embedding",
        f"Put it into the folder of your embeddings. {_CHOOSE}",
        (r"^(?:string_to_param\..*|emb_params|clip_[lg]|<[^>]*>) (?:\d+x)?(?:768|1024|1280)$",),
    ),
    KnownModel(
        "an upscaler", f"Put it into the folder of your upscalers. {_CHOOSE}", (r"^(?:conv_first|body\.\d+\.rdb1)\b",)
    ),
    KnownModel(
        "the state of a training run",
        f"Use it to resume that training. {_CHOOSE}",
        (r"exp_avg|^optimizer\b",),
    ),
)


def identify_other(tensors: Mapping[str, TensorHeader]) -> KnownModel | None:
    """Identify weights of other models; None for motion modules and unknown weights.

    Args:
        tensors: tensor headers by keys without prefixes.
    """
    listing = [f"{name[:_MAX_NAME_LENGTH]} {'x'.join(map(str, header.shape))}" for name, header in tensors.items()]
    known = _ADD_ONS if any(map(is_motion_weight, tensors)) else _ADD_ONS + _OTHERS
    return next((model for model in known if _is_model(model, listing)), None)


def _is_model(model: KnownModel, listing: Iterable[str]) -> bool:
    lines = list(listing)
    return all(_matches(pattern, lines) for pattern in model.patterns) and not _matches(model.absent, lines)


def _matches(pattern: str, lines: Iterable[str]) -> bool:
    compiled = re.compile(pattern)
    return any(compiled.search(line) for line in lines)
