"""The image input of a PIA model (arXiv 2312.13964): five more channels of the UNet's first convolution.

A PIA file is a motion module beside a convolution from nine channels: four of the noisy latents, of which the
checkpoint keeps its own weights, one of a mask and four of the image's latent. Training saves a whole UNet, whose other
weights are dropped.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from .errors import MotionFileError
from .files.diffusers_format import MotionSource, find_source
from .files.key_formats import is_motion_weight, without_prefixes
from .files.weights import FileHeader, are_weights, describe, read_header, read_tensors

LATENT_CHANNELS = 4
CHANNELS = 9
_WEIGHT = "conv_in.weight"
_SIDE = 3


def image_input_key(header: FileHeader) -> str | None:
    """The key of the convolution in a PIA file; None for other files."""
    found = None
    for key, tensor in header.tensors.items():
        if without_prefixes(key) == _WEIGHT and tensor.shape[1:] == (CHANNELS, _SIDE, _SIDE):
            found = key
    return found if any(is_motion_weight(without_prefixes(key)) for key in header.tensors) else None


def check_image_input(name: str, header: FileHeader) -> None:
    """Check that a file is a PIA model.

    Raises:
        MotionFileError: it is another file.
    """
    if image_input_key(header) is None:
        raise MotionFileError(
            f"{name} is not a PIA model: it has no motion modules beside a conv_in of {CHANNELS} channels. Choose "
            "pia.ckpt.",
            what="not a PIA model",
            code="AD-Q40",
        )


def has_image_input(path: str | Path) -> bool:
    """Whether a file is a PIA model; False for files that cannot be read."""
    try:
        return image_input_key(read_header(find_source(Path(path)).weights)) is not None
    except MotionFileError:
        return False


def image_input_width(path: str | Path) -> int:
    """The channels that the first convolution of a PIA model makes. Only the header is read.

    Raises:
        MotionFileError: the file cannot be read, or is another model.
    """
    _, header, key = _found(path)
    return header.tensors[key].shape[0]


def load_image_input(path: str | Path) -> Tensor:
    """The weights of a PIA model for mask and image, ``c 5 3 3``, the mask first, in the file's dtype.

    Raises:
        MotionFileError: the file cannot be read, or is not a PIA model.
    """
    source, header, key = _found(path)
    weight = read_tensors(source.weights, [key])[key]
    if describe(weight) != header.tensors[key] or not are_weights(weight):
        raise MotionFileError(
            f"{source.name} has no usable weights for its image ({key}). Download it again from its publisher.",
            what="a damaged PIA model",
            code="AD-Q41",
        )
    return weight[:, LATENT_CHANNELS:].clone()


def _found(path: str | Path) -> tuple[MotionSource, FileHeader, str]:
    source = find_source(Path(path))
    header = read_header(source.weights)
    check_image_input(source.name, header)
    key = image_input_key(header)
    assert key is not None
    return source, header, key
