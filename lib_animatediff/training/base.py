"""The frozen base model of a training: UNet, text encoder and, for clips that are images, VAE."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from motion_module.limits import is_folder

from .settings import TrainingError, TrainingSettings

TEXTS_KEPT = 1024  # conditionings in the cache, of a quarter of a megabyte each (77 tokens, 768 floats)


class Base:
    """A frozen base model.

    Args:
        unet: a UNet with the topology of Stable Diffusion 1.5, from diffusers or LDM. Domain adapters need diffusers.
        encode_text: maps captions to conditionings, ``n t d``. Each caption is encoded once and cached.
        vae: diffusers' ``AutoencoderKL``; not needed for clips that are latents.
        pipeline: a diffusers pipeline with the same UNet, for validation clips.
        prediction: prediction type of the UNet.

    Raises:
        TrainingError: the UNet does not predict noise (epsilon).
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
            raise TrainingError(
                f"This base model predicts {prediction}, but motion modules are trained on epsilon only. "
                "Choose another base model.",
                code="AD-T01",
            )
        self.unet = unet
        self.vae = vae
        self.pipeline = pipeline
        self._encode_text = encode_text
        self._texts: OrderedDict[str, Tensor] = OrderedDict()

    @classmethod
    def of_pipeline(cls, pipeline: Any) -> Base:
        """Build from the parts of a diffusers ``StableDiffusionPipeline``."""

        def encode(captions: list[str]) -> Tensor:
            conditions, _ = pipeline.encode_prompt(
                captions, pipeline.text_encoder.device, 1, do_classifier_free_guidance=False
            )
            return conditions  # type: ignore[no-any-return]

        prediction = pipeline.scheduler.config.get("prediction_type", "epsilon")
        return cls(pipeline.unet, encode, vae=pipeline.vae, pipeline=pipeline, prediction=prediction)

    @classmethod
    def load(cls, settings: TrainingSettings) -> Base:
        """Load the base model that the settings name.

        Raises:
            AnimateDiffError: it cannot be loaded.
        """
        if not settings.checkpoint:
            raise TrainingError(
                "No base model is set. Set checkpoint to a Stable Diffusion 1.5 file or a diffusers folder.",
                code="AD-T02",
            )
        path = Path(settings.checkpoint)
        if is_folder(path):
            return cls.of_pipeline(_from_folder(path))
        from lib_animatediff.hosts.diffusers.pipeline import load_pipeline

        config = Path(settings.config) if settings.config else None
        return cls.of_pipeline(load_pipeline(path, config=config))

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move everything to the training device, in evaluation mode and frozen."""
        for part in (self.unet, self.vae, getattr(self.pipeline, "text_encoder", None)):
            if part is not None:
                nn.Module.to(part, device=device, dtype=dtype)  # avoids the warnings of diffusers' own method
                part.requires_grad_(False).eval()

    @torch.no_grad()
    def texts(self, captions: Sequence[str]) -> Tensor:
        """Conditionings of captions, ``n t d``; the most recent ones are cached."""
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
    except Exception as error:  # diffusers raises all kinds of exceptions
        raise TrainingError(
            f"{folder.name} could not be loaded as a diffusers folder ({error}). Check that it is complete.",
            code="AD-T03",
        ) from error
    pipeline.vae.enable_slicing()
    return pipeline
