"""AnimateLCM-I2V in a clip: a motion module whose clip begins with one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_animatediff.request.start.pins import PinnedFrames
from motion_module import ClipError
from motion_module.files.diffusers_format import find_source
from motion_module.files.weights import read_header
from motion_module.image_encoder.header import check_image_encoder
from motion_module.sparse_ctrl.load import read_sparse_ctrl
from motion_module.sparse_ctrl.network import RGB

from .guides import AUTO, I2V, refuse_rerender
from .unit import ControlUnit


@dataclass(frozen=True)
class I2VNames:
    """What a host calls the settings that messages name.

    Attributes:
        of_file: the words behind the name of the file.
        image: of the first image.
        image_method: of the method.
        model: of the file.
    """

    of_file: str = ""
    image: str = "image"
    image_method: str = "image_method"
    model: str = "model"


NAMES = I2VNames()


def i2v_unit(
    path: Path,
    pins: PinnedFrames | None,
    method: str,
    encoders: Sequence[Path],
    weight: str,
    drift: float,
    names: I2VNames = NAMES,
    others: Sequence[str] = (),
) -> ControlUnit:
    """An AnimateLCM-I2V model with its image.

    Args:
        pins: images at frames; None: there are none.
        method: of images at frames, as asked for.
        encoders: files of SparseCtrl.
        weight: strength of the image over the frames.
        drift: how far the frames move from it.
        others: further files that would take the image, as messages name them.

    Raises:
        AnimateDiffError: the file is another model, there is not one image at frame 0, or something else takes it.
    """
    source = find_source(path)
    check_image_encoder(source.name, read_header(source.weights))
    refuse_rerender(path.name, pins)
    rivals = [f"{names.image_method} {method}"] if method not in (AUTO, I2V) else []
    rivals += [*others, *(each.name for each in encoders if read_sparse_ctrl(each).layout.kind == RGB)]
    if rivals:
        raise ClipError(
            f"{path.name}{names.of_file} has the image to itself, so that {rivals[0]} has none. Leave one of them out.",
            code="AD-QC5",
        )
    keys = pins.pins if pins else ()
    if [key.frame for key in keys] != [0]:
        raise ClipError(
            f"The clip of {path.name} begins with one image, and there are {len(keys)} or it is at another frame. Give "
            f"{names.image} alone.",
            code="AD-QC4",
        )
    return ControlUnit(path, keys=keys, weight=weight, drift=drift)


def refuse_without_i2v(method: str, names: I2VNames = NAMES) -> None:
    """Refuse the method of an AnimateLCM-I2V model where there is none.

    Raises:
        ClipError: the method is that of such a model.
    """
    if method == I2V:
        raise ClipError(
            f"{names.image_method} i2v needs an AnimateLCM-I2V model. Give one with {names.model}.", code="AD-QC6"
        )
