"""CLIP and DINO from a local folder through transformers; nothing is downloaded.

Images are preprocessed here, because the folder's own processor would need torchvision for a resize, a crop and two
numbers per channel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib_animatediff.builtin_model import STABLE_DIFFUSION_15

from .embedders import CLIP, DINO
from .errors import EvaluationError

if TYPE_CHECKING:
    from .embedders import Embedder
    from .flow import Frames

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BATCH = 16  # images per call
_DINO_TYPES = ("vit", "dinov2")


def load(folder: Path, device: str) -> Embedder:
    """Load the embedder of a folder, see `embedders.load_embedder`."""
    kind = _kind_of(folder)
    if kind == "clip":
        return ClipEmbedder(folder, device)
    if kind in _DINO_TYPES:
        return DinoEmbedder(folder, device)
    raise EvaluationError(
        f"{folder} contains a model of type {kind}. Choose a folder of CLIP (clip) or DINO (vit, dinov2).",
        code="AD-E02",
    )


class ClipEmbedder:
    """CLIP: embeds images and texts."""

    kind = CLIP

    def __init__(self, folder: Path, device: str) -> None:
        from transformers import CLIPModel, CLIPTokenizer

        self.name = f"CLIP ({folder.name})"
        self._device = device
        self._model = _weights(CLIPModel, folder).to(device)
        # All CLIP models of Stable Diffusion share one vocabulary.
        words = folder if (folder / "vocab.json").is_file() else STABLE_DIFFUSION_15 / "tokenizer"
        self._tokenizer = CLIPTokenizer.from_pretrained(words, local_files_only=True)

    @torch.no_grad()
    def images(self, frames: Frames) -> Tensor:
        """Embed images ``n h w 3``: ``n d``, float32 on the CPU."""
        side = self._model.config.vision_config.image_size
        rows = []
        for batch in _prepared(frames, side, _CLIP_MEAN, _CLIP_STD):
            seen = self._model.vision_model(pixel_values=batch.to(self._device)).pooler_output
            rows.append(self._model.visual_projection(seen))
        return _unit(torch.cat(rows))

    @torch.no_grad()
    def text(self, text: str) -> Tensor:
        """Embed a text, ``d``; tokens beyond CLIP's 77 are ignored."""
        longest = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(text, truncation=True, max_length=longest, return_tensors="pt").to(self._device)
        read = self._model.text_model(**tokens).pooler_output
        return _unit(self._model.text_projection(read))[0]


class DinoEmbedder:
    """DINO or DINOv2: embeds images by the class token."""

    kind = DINO

    def __init__(self, folder: Path, device: str) -> None:
        from transformers import AutoModel

        self.name = f"DINO ({folder.name})"
        self._device = device
        self._model = _weights(AutoModel, folder).to(device)

    @torch.no_grad()
    def images(self, frames: Frames) -> Tensor:
        """Embed images ``n h w 3``: ``n d``, float32 on the CPU."""
        config = self._model.config
        # DINOv2 interpolates its positional table: it was trained at 518 pixels and is used at 224.
        side = _DINO_SIDE if config.model_type == "dinov2" else config.image_size
        rows = [
            self._model(pixel_values=batch.to(self._device)).last_hidden_state[:, 0]
            for batch in _prepared(frames, side, _IMAGENET_MEAN, _IMAGENET_STD)
        ]
        return _unit(torch.cat(rows))

    def text(self, text: str) -> None:
        """None: texts are not supported."""


_DINO_SIDE = 224


def _kind_of(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(config["model_type"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EvaluationError(
            f"{folder} is not the folder of an embedder: it has no config.json with a model type. "
            "Choose a folder of CLIP or DINO as written by transformers' save_pretrained.",
            code="AD-E03",
        ) from error


def _weights(kind: Any, folder: Path) -> Any:
    with _quiet():
        try:
            model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except Exception as error:  # transformers raises whatever its parts raise
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__).split(". ")[0]
            raise EvaluationError(
                f"{folder.name} could not be loaded as an embedder: {reason.rstrip('. ')}. The folder must contain "
                "its weights as model.safetensors.",
                code="AD-E04",
            ) from error
    return model.float().eval().requires_grad_(False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings about unused head weights, and progress bars of a second."""
    from transformers.utils import logging

    former, showed_progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(former)
        if showed_progress:
            logging.enable_progress_bar()


def _prepared(frames: Frames, side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> list[Tensor]:
    """Resized and centre-cropped images, normalised, in batches ``b 3 side side``."""
    images = [_middle(Image.fromarray(frame), side) for frame in frames]
    values = torch.from_numpy(np.stack([np.asarray(each, np.float32) / 255 for each in images]))
    even = ((values - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)
    return [even[start : start + _BATCH] for start in range(0, len(even), _BATCH)]


def _middle(image: Image.Image, side: int) -> Image.Image:
    scale = side / min(image.size)
    wide, high = (max(round(length * scale), side) for length in image.size)
    left, top = (wide - side) // 2, (high - side) // 2
    resized = image.resize((wide, high), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + side, top + side))


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows.float(), dim=1).cpu()
