"""Recognise an AnimateLCM-I2V file, a motion module beside an image encoder, by its header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from motion_module.completeness import in_words, problems_of
from motion_module.errors import MotionFileError
from motion_module.files.diffusers_format import find_source
from motion_module.files.key_formats import is_motion_weight, without_prefixes
from motion_module.files.weights import FileHeader, read_header

from .network import BLOCKS, LEVELS, ImageEncoder

PREFIX = "img_encoder."


def encoder_keys(header: FileHeader) -> Mapping[str, str]:
    """Key in the file by the encoder's name of each weight; empty for other files."""
    names = {without_prefixes(key): key for key in header.tensors}
    found = {name.removeprefix(PREFIX): key for name, key in names.items() if name.startswith(PREFIX)}
    return found if any(map(is_motion_weight, names)) else {}


def has_image_encoder(path: str | Path) -> bool:
    """Whether a file is an AnimateLCM-I2V model; False for files that cannot be read."""
    try:
        return bool(encoder_keys(read_header(find_source(Path(path)).weights)))
    except MotionFileError:
        return False


def check_image_encoder(name: str, header: FileHeader) -> tuple[int, ...]:
    """Check that a file is a complete AnimateLCM-I2V model beside its motion module.

    Returns:
        The widths of its encoder.

    Raises:
        MotionFileError: it is another file, or weights of the encoder are missing.
    """
    keys = encoder_keys(header)
    if not keys:
        raise MotionFileError(
            f"{name} is not an AnimateLCM-I2V model: it has no motion modules beside an img_encoder. Choose "
            "AnimateLCM_sd15_i2v.ckpt.",
            what="not an AnimateLCM-I2V model",
            code="AD-QB1",
        )
    tensors = {own: header.tensors[key] for own, key in keys.items()}
    firsts = [tensors.get(f"body.{BLOCKS * level}.block1.bias") for level in range(LEVELS)]
    widths = tuple(first.shape[0] if first is not None and first.shape else 0 for first in firsts)
    problems = ["img_encoder.body is missing"]
    if all(widths):
        problems = problems_of(tensors, ImageEncoder.expected_shapes(widths))
    if problems:
        raise MotionFileError(
            f"{name} is not a complete AnimateLCM-I2V model: {in_words(problems)}. Download it again.",
            what="an incomplete AnimateLCM-I2V model",
            code="AD-QB2",
        )
    return widths
