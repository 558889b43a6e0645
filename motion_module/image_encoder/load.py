"""Load the image encoder of an AnimateLCM-I2V file."""

from __future__ import annotations

from pathlib import Path

from motion_module.files.diffusers_format import find_source
from motion_module.files.load import read_checked, usable
from motion_module.files.weights import read_header

from .header import check_image_encoder, encoder_keys
from .network import ImageEncoder


def load_image_encoder(path: str | Path) -> ImageEncoder:
    """The image encoder of an AnimateLCM-I2V file, on the CPU, in the file's dtype.

    Its motion module is loaded by ``load_motion_module(path, kind="i2v")``.

    Raises:
        MotionFileError: the file cannot be read, is another model, or lacks weights.
    """
    source = find_source(Path(path))
    header = read_header(source.weights)
    widths = check_image_encoder(source.name, header)
    keys = encoder_keys(header)
    tensors = read_checked(source.weights, header, keys.values())
    state = {name: usable(source.weights, key, tensors.pop(key)) for name, key in keys.items()}
    return ImageEncoder.from_state_dict(state, widths, source.name)
