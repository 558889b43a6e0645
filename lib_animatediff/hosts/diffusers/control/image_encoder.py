"""CLIP's image encoder from a folder that the user has, read without running code from it and without downloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lib_animatediff.hosts.diffusers.networks import NetworkError
from lib_animatediff.video.pixels import levels_of
from motion_module.files.load import read_checked
from motion_module.files.weights import FileHeader, read_header
from motion_module.limits import is_file, is_folder, parse_json, read_limited

if TYPE_CHECKING:
    from PIL.Image import Image

_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "model.fp16.safetensors", "pytorch_model.bin")
_MOST_CONFIG_BYTES = 100_000
_PARTS = ("vision_model.", "visual_projection.")  # of a whole CLIP, whose text encoder is left out
_PLACES = "vision_model.embeddings.position_ids"  # numbers from 0, which some versions write
_NEEDED = ("hidden_size", "image_size", "num_hidden_layers", "patch_size")
_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the colours in CLIP's training, by OpenAI's code
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
_LEVELS = 255
_AT_ONCE = 8  # images in a batch


@dataclass(frozen=True)
class EncoderFolder:
    """An image encoder by its configuration.

    Attributes:
        name: for messages.
        weights: the file with the weights.
        header: of that file.
        config: of the encoder.
    """

    name: str
    weights: Path
    header: FileHeader
    config: Mapping[str, Any]

    @property
    def side(self) -> int:
        """Width and height of the images that it reads."""
        return int(self.config["image_size"])

    @property
    def width(self) -> int:
        """Numbers for each part of an image in its layers."""
        return int(self.config["hidden_size"])

    @property
    def projected(self) -> int:
        """Numbers for a whole image."""
        return int(self.header.tensors["visual_projection.weight"].shape[0])


def read_encoder(folder: Path) -> EncoderFolder:
    """Read what is known of an image encoder before it is loaded.

    Args:
        folder: as ``save_pretrained`` of transformers writes it.

    Raises:
        MotionFileError: the weights cannot be read.
        NetworkError: it is not the folder of CLIP's image encoder.
    """
    weights = next((folder / name for name in _WEIGHTS if is_file(folder / name)), None)
    try:
        config = parse_json(read_limited(folder / _CONFIG, _MOST_CONFIG_BYTES))
    except (OSError, ValueError):
        config = None
    if not is_folder(folder) or weights is None or not isinstance(config, dict):
        raise NetworkError(
            f"{folder} is not an image encoder: a folder needs {_CONFIG} and {_WEIGHTS[0]}. Give the folder "
            "image_encoder that the IP-Adapter was published with.",
            code="AD-H65",
        )
    config = config.get("vision_config", config)
    header = read_header(weights)
    is_clip = isinstance(config, dict) and all(isinstance(config.get(name), int) for name in _NEEDED)
    if not is_clip or "visual_projection.weight" not in header.tensors:
        raise NetworkError(
            f"{folder.name} has no image encoder of CLIP with its projection. Give the folder image_encoder that the "
            "IP-Adapter was published with.",
            code="AD-H66",
        )
    return EncoderFolder(folder.name, weights, header, config)


class ImageEncoder:
    """CLIP's image encoder on a device.

    Args:
        network: transformers' ``CLIPVisionModelWithProjection``.
        side: width and height of its images.
    """

    def __init__(self, network: Any, side: int) -> None:
        self._network = network
        self.side = side

    @torch.no_grad()
    def embed(self, images: Sequence[Image], *, in_parts: bool) -> tuple[Tensor, Tensor]:
        """What an IP-Adapter reads of images, ``n ...``, and of no image, ``1 ...``.

        Args:
            in_parts: a vector for each part of an image, from the last layer but one, ``n t c``; else one for the
                whole image, ``n c``. No image is a black one in the first case, and zeros in the second.
        """
        pixels = torch.stack([_normal(image) for image in images])
        made = torch.cat([self._of(part, in_parts=in_parts) for part in torch.split(pixels, _AT_ONCE)])
        nothing = self._of(torch.zeros_like(pixels[:1]), in_parts=True) if in_parts else torch.zeros_like(made[:1])
        return made, nothing

    def _of(self, pixels: Tensor, *, in_parts: bool) -> Tensor:
        output = self._network(pixels.to(self._network.device, self._network.dtype), output_hidden_states=in_parts)
        return output.hidden_states[-2] if in_parts else output.image_embeds  # type: ignore[no-any-return]


def load_encoder(folder: EncoderFolder, device: Any, dtype: torch.dtype) -> ImageEncoder:
    """The encoder on a device.

    Raises:
        MotionFileError: the file is damaged.
        NetworkError: weights are missing, or do not fit the configuration.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    names = [name for name in folder.header.tensors if name.startswith(_PARTS) and name != _PLACES]
    tensors = read_checked(folder.weights, folder.header, names)
    try:
        config = CLIPVisionConfig.from_dict({**folder.config, "projection_dim": folder.projected})
        with torch.device("meta"):
            network = CLIPVisionModelWithProjection(config)
        network.load_state_dict(tensors, strict=True, assign=True)
        embeddings = network.vision_model.embeddings
        embeddings.position_ids = torch.arange(embeddings.num_positions).expand(1, -1)  # no weights, so still empty
    except Exception as error:  # transformers raises errors of any type
        reason = next(iter(str(error).strip().splitlines()[1:2] or [str(error)]), "").strip()
        raise NetworkError(
            f"{folder.name} could not be used as an image encoder: {reason:.200}. Check that it is complete.",
            code="AD-H67",
        ) from error
    network = torch.nn.Module.to(network, device=device, dtype=dtype).eval().requires_grad_(False)
    return ImageEncoder(network, folder.side)


def _normal(image: Image) -> Tensor:
    """``3 h w`` as CLIP reads an image."""
    levels = levels_of(image.convert("RGB")).permute(2, 0, 1).float() / _LEVELS
    return (levels - torch.tensor(_MEAN).view(3, 1, 1)) / torch.tensor(_DEVIATION).view(3, 1, 1)
