"""The base model as the trainer needs it: a UNet, a text encoder's results, and a VAE where images are encoded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .settings import TrainingError, TrainingSettings

TEXTS_KEPT = 1024  # 77 tokens of 768 floats are a quarter of a megabyte


class Base:
    """A base model whose weights no training touches.

    Args:
        unet: of Stable Diffusion 1.5's topology, diffusers' or LDM's. Only a diffusers UNet can take an adapter.
        encode_text: captions in, their conditions out, ``n t d``. Each caption is encoded once and kept.
        vae: diffusers' ``AutoencoderKL``; not needed for clips that are latents.
        pipeline: a diffusers pipeline around the same UNet, for validation clips.
        prediction: what the UNet predicts.

    Raises:
        TrainingError: the UNet predicts something else than the noise.
    """

    def __init__(
        self,
        unet: nn.Module,
        encode_text: Callable[[list[str]], Tensor],
        *,
        vae: Any = None,
        pipeline: Any = None,
        prediction: str = "epsilon",
    ) -> None:
        if prediction != "epsilon":
            raise TrainingError(f"This base model predicts {prediction}; motion modules are trained on epsilon only.")
        self.unet = unet
        self.vae = vae
        self.pipeline = pipeline
        self._encode_text = encode_text
        self._texts: OrderedDict[str, Tensor] = OrderedDict()

    @classmethod
    def of_pipeline(cls, pipeline: Any) -> Base:
        """The parts of a diffusers ``StableDiffusionPipeline``."""

        def encode(captions: list[str]) -> Tensor:
            conditions, _ = pipeline.encode_prompt(
                captions, pipeline.text_encoder.device, 1, do_classifier_free_guidance=False
            )
            return conditions  # type: ignore[no-any-return]

        prediction = pipeline.scheduler.config.get("prediction_type", "epsilon")
        return cls(pipeline.unet, encode, vae=pipeline.vae, pipeline=pipeline, prediction=prediction)

    @classmethod
    def load(cls, settings: TrainingSettings) -> Base:
        """The base model that the settings name.

        Raises:
            AnimateDiffError: it cannot be loaded; the message says why.
        """
        if not settings.checkpoint:
            raise TrainingError("Say which base model to train on: checkpoint, a file or a diffusers folder.")
        path = Path(settings.checkpoint)
        if path.is_dir():
            return cls.of_pipeline(_from_folder(path))
        from lib_animatediff.hosts.diffusers.pipeline import load_pipeline

        config = Path(settings.config) if settings.config else None
        return cls.of_pipeline(load_pipeline(path, config=config))

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move everything to where the training runs, in evaluation mode, with nothing to train."""
        for part in (self.unet, self.vae, getattr(self.pipeline, "text_encoder", None)):
            if part is not None:
                nn.Module.to(part, device=device, dtype=dtype)  # diffusers' own warns of nothing
                part.requires_grad_(False).eval()

    @torch.no_grad()
    def texts(self, captions: Sequence[str]) -> Tensor:
        """Conditions of captions, ``n t d``; those of the last few captions are kept."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._texts]
        if new:
            self._texts.update(zip(new, self._encode_text(new).detach(), strict=True))
        found = torch.stack([self._texts[caption] for caption in captions])
        for caption in captions:
            self._texts.move_to_end(caption)
        while len(self._texts) > TEXTS_KEPT:
            self._texts.popitem(last=False)
        return found


def _from_folder(folder: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            str(folder), local_files_only=True, safety_checker=None, requires_safety_checker=False
        )
    except Exception as error:  # diffusers raises whatever its parts raise
        raise TrainingError(f"{folder.name} could not be loaded as a diffusers folder: {error}") from error
    pipeline.vae.enable_slicing()
    return pipeline
