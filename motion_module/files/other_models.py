"""Weights that people take for a motion module: how each is told by its names and shapes, and where it belongs.

The patterns search a listing of the file, one line ``name 320x4x3x3`` for each tensor. Of a name of any length they see
the beginning only: searching for one thing behind another takes the square of a line's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .key_formats import is_motion_weight
from .safe_unpickler import TensorHeader

_MAX_NAME_LENGTH = 300  # twice the longest real one
_CHOOSE = "Choose a motion module, such as v3_sd15_mm.ckpt."
_NOT_RUN = f"This version does not run it. {_CHOOSE}"
_CHECKPOINT = f"It goes where your checkpoints are. {_CHOOSE}"
_LYCORIS = r"\.(?:hada_w1_a|lokr_w1)"
_LORA = r"lora[._]linear_layer\.|lora[._](?:down|up|A|B)\b|_lora\.(?:down|up)\.|lora_(?:down|up|A|B)\."


@dataclass(frozen=True)
class KnownModel:
    """Something else than a motion module.

    Attributes:
        what: its name, with the article.
        advice: what to do with it.
        patterns: patterns, each of which some line of the listing matches.
        absent: pattern that no line matches.
    """

    what: str
    advice: str
    patterns: tuple[str, ...]
    absent: str = r"(?!)"


# These hold motion modules, or weights for them, among other things.
_ADD_ONS = (
    KnownModel(
        "a SparseCtrl encoder for scribbles",
        _NOT_RUN,
        (r"motion_modules\.", r"controlnet_cond_embedding\.conv_in\.weight "),
    ),
    KnownModel(
        "a SparseCtrl encoder for images", _NOT_RUN, (r"motion_modules\.", r"controlnet_cond_embedding\.weight ")
    ),
    KnownModel("a SparseCtrl encoder", _NOT_RUN, (r"motion_modules\.", r"controlnet_down_blocks|zero_convs")),
    KnownModel("CameraCtrl weights", _NOT_RUN, (r"qkv_merge",)),
    KnownModel("MotionCtrl weights", _NOT_RUN, (r"cc_projection",)),
    KnownModel("an AnimateLCM image-to-video module", _NOT_RUN, (r"^(?:.*\.)?img_encoder\.",)),
    KnownModel(
        "a motion LoRA",
        "It adds a movement to a motion module: choose one, and name this file in the prompt or in the panel's field "
        "for motion LoRAs, as --motion-lora on the command line.",
        (rf"motion_modules.*(?:{_LORA}|{_LYCORIS})",),
    ),
    KnownModel("FancyVideo weights", _NOT_RUN, (r"^(?:fps_embedding\.linear|motion_embedding\.linear|FancyVideo)",)),
    KnownModel("a PIA model", _NOT_RUN, (r"^conv_in\.weight \d+x9x3x3$",)),
    KnownModel(
        "a motion module for Stable Diffusion 2",
        "Use one for Stable Diffusion 1.5 or SDXL.",
        (r"motion_modules\.", r"attn2\.to_k\.weight \d+x1024$"),
    ),
)

# These hold none. The first that fits is it.
_OTHERS = (
    KnownModel(
        # Early diffusers gave every LoRA these names.
        "an image LoRA (or the v3 domain adapter)",
        f"It changes the checkpoint: name it as you would a motion LoRA, beside a motion module. {_CHOOSE}",
        (r"attn\d\.processor\.to_q_lora\.down\.weight ",),
    ),
    KnownModel("an image LoRA", f"It goes into the prompt as other LoRAs do. {_CHOOSE}", (_LORA,)),
    KnownModel("an image LoRA", f"It goes into the prompt as other LoRAs do. {_CHOOSE}", (_LYCORIS,)),
    KnownModel(
        "an IP-Adapter", f"It belongs to ControlNet. {_CHOOSE}", (r"^ip_adapter\.|^image_proj\.|^image_proj_model\.",)
    ),
    KnownModel(
        "a ControlNet",
        f"It belongs to ControlNet. {_CHOOSE}",
        (r"^control_model\.|^controlnet_|input_hint_block|^(?:.*\.)?zero_convs\.",),
    ),
    KnownModel("a T2I adapter", f"It belongs to ControlNet. {_CHOOSE}", (r"^(?:adapter\.)?body\.\d+\.block1\.",)),
    KnownModel(
        "a Stable Video Diffusion model",
        f"It makes clips absent a motion module. {_CHOOSE}",
        (r"time_stack\.|time_mixer\.|temporal_transformer_blocks\.",),
    ),
    KnownModel(
        "a ModelScope video model",
        f"It makes clips absent a motion module. {_CHOOSE}",
        (r"temp_convs\.|temp_attentions\.|temopral_conv\.",),
    ),
    KnownModel(
        "an SDXL image checkpoint", _CHECKPOINT, (r"^conditioner\.embedders\.1\.|attn2\.to_k\.weight \d+x2048$",)
    ),
    KnownModel(
        "a Stable Diffusion 2 image checkpoint",
        f"Motion modules are for Stable Diffusion 1.5 and SDXL. {_CHOOSE}",
        (r"attn2\.to_k\.weight \d+x1024$",),
    ),
    KnownModel(
        "a Flux or Stable Diffusion 3 checkpoint",
        f"Motion modules are for Stable Diffusion 1.5 and SDXL. {_CHOOSE}",
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
        f"It goes where your VAEs are. {_CHOOSE}",
        (r"^(?:first_stage_model\.)?(?:encoder|decoder)\.conv_in\.",),
    ),
    KnownModel("a text encoder", _CHOOSE, (r"text_model\.encoder\.layers\.|transformer\.resblocks\.",)),
    KnownModel(
        "a textual inversion embedding",
        f"It goes where your embeddings are. {_CHOOSE}",
        (r"^(?:string_to_param\..*|emb_params|clip_[lg]|<[^>]*>) (?:\d+x)?(?:768|1024|1280)$",),
    ),
    KnownModel("an upscaler", f"It goes where your upscalers are. {_CHOOSE}", (r"^(?:conv_first|body\.\d+\.rdb1)\b",)),
    KnownModel(
        "the state of a training run",
        f"It is there to go on with the training. {_CHOOSE}",
        (r"exp_avg|^optimizer\b",),
    ),
)


def identify_other(tensors: Mapping[str, TensorHeader]) -> KnownModel | None:
    """What weights are that are no motion module; None for a motion module, or something that nobody knows.

    Args:
        tensors: by their names absent prefixes.
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
