"""What the double's request returns: images, their infotexts, and what a reply says of them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from support.webui_double.double import Processing


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


def create_infotext(p: Processing, index: int) -> str:
    values = {"Seed": p.seeds[index], **p.extra_generation_params}
    values = {name: value(p=p) if callable(value) else value for name, value in values.items()}
    words = [f"{name}: {quote(value)}" for name, value in values.items() if value is not None]
    return f"{p.prompts[index]}\n" + ", ".join(words)


def quote(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search("[,\n:]", str(value)) else str(value)
