"""What images at frames are used for, by the files that are there: SparseCtrl, PIA, or pinned frames.

An encoder of SparseCtrl for images, or a PIA model, takes them; without either, their frames equal them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lib_animatediff.engine.components.sparse_ctrl import NEAREST
from lib_animatediff.request.camera.unit import CameraUnit
from lib_animatediff.request.start.pins import Pin, PinnedFrames
from motion_module import ClipError
from motion_module.files.diffusers_format import find_source
from motion_module.files.weights import read_header
from motion_module.image_input import check_image_input
from motion_module.sparse_ctrl.load import read_sparse_ctrl
from motion_module.sparse_ctrl.network import RGB, SCRIBBLE

from .affinity import AFFINITIES, SMALL, affinity, as_weights
from .unit import ControlUnit

AUTO, PINS, SPARSE_CTRL, BOTH, PIA, I2V = "auto", "pins", "sparse-ctrl", "both", "pia", "i2v"
IMAGE_METHODS = (AUTO, PINS, SPARSE_CTRL, BOTH, PIA, I2V)
FULL_STRENGTH = "1"


@dataclass(frozen=True)
class GuideNames:
    """What a host calls the settings that messages name.

    Attributes:
        sparse_ctrl: of encoders.
        scribble: of drawings.
        drawing: an example of one.
        images, one_image: of images at frames, of which PIA takes one.
        image_method: of the method.
        pia: of the PIA model, and the words after its file.
        of_pia: the words behind the name of the file.
        pia_motion: of its affinities.
    """

    sparse_ctrl: str = "sparse_ctrl"
    scribble: str = "scribbles"
    drawing: str = "0: in/drawing.png"
    images: str = "image, last_image or key_images"
    one_image: str = "image, or key_images for another frame"
    image_method: str = "image_method"
    pia: str = "model"
    of_pia: str = ""
    pia_motion: str = "pia_motion"


NAMES = GuideNames()


@dataclass(frozen=True)
class AskedGuides:
    """What a request says about the models that carry images to other frames.

    Attributes:
        encoders: files of SparseCtrl.
        drawings: for an encoder for scribbles.
        strength: of SparseCtrl over the frames.
        start, end: the part of the sampling steps in which it acts.
        without_key: what it has in a context window without an image.
        colour_match: how far the colours of the frames move towards those of the images.
        method: one of `IMAGE_METHODS`.
        pia: the PIA model; None: there is none.
        pia_motion: one of `AFFINITIES`, or the affinity over the frames.
    """

    encoders: tuple[Path, ...] = ()
    drawings: tuple[Pin, ...] = ()
    strength: str = FULL_STRENGTH
    start: float = 0.0
    end: float = 1.0
    without_key: str = NEAREST
    colour_match: float = 0.0
    method: str = AUTO
    pia: Path | None = None
    pia_motion: str = SMALL


@dataclass(frozen=True)
class Guides:
    """What the images of a clip are used for.

    Attributes:
        units: encoders of SparseCtrl, and a PIA or an AnimateLCM-I2V model, with their images.
        pins: frames that equal their images; None: none do.
        lines: what was chosen, and why.
        method: what was chosen, of `IMAGE_METHODS`.
        kinds: of the encoders, by file.
        camera: None: there is none.
    """

    units: tuple[ControlUnit, ...] = ()
    pins: PinnedFrames | None = None
    lines: tuple[str, ...] = ()
    method: str = PINS
    kinds: dict[Path, str] = field(default_factory=dict)
    camera: CameraUnit | None = None


def choose_guides(
    asked: AskedGuides, pins: PinnedFrames | None, frames: int, names: GuideNames = NAMES, *, is_continued: bool = False
) -> Guides:
    """Choose what images at frames are used for.

    Args:
        pins: the images; None: there are none.
        frames: of the clip.
        is_continued: whether the first images are the last frames of an earlier clip.

    Raises:
        AnimateDiffError: a file is another model, a value is malformed, or they do not fit together.
    """
    moved = None if asked.pia is None else pia_unit(asked.pia, asked.pia_motion, pins, frames, names)
    kinds = {path: read_sparse_ctrl(path).layout.kind for path in asked.encoders}
    _check_together(asked, kinds, pins, names)
    if moved is None:
        method, line = _chosen(asked, kinds, pins, names, is_continued=is_continued)
    else:
        method, line = _chosen_with_pia(asked, kinds, moved, names)
    units = tuple(
        ControlUnit(
            path,
            keys=asked.drawings if reads == SCRIBBLE or pins is None else pins.pins,
            weight=asked.strength,
            start=asked.start,
            end=asked.end,
            without_key=asked.without_key,
            colour_match=0.0 if reads == SCRIBBLE else asked.colour_match,
        )
        for path, reads in kinds.items()
        if reads == SCRIBBLE or (pins is not None and method != PINS)
    )
    held = None if method in (SPARSE_CTRL, PIA) else pins
    return Guides((moved, *units) if moved else units, held, (line,) if line else (), method, kinds)


def pia_unit(path: Path, motion: str, pins: PinnedFrames | None, frames: int, names: GuideNames = NAMES) -> ControlUnit:
    """A PIA model with its image.

    Args:
        motion: see `AskedGuides`.

    Raises:
        AnimateDiffError: the file is another model, there is not one image, or an affinity is out of range.
    """
    source = find_source(path)
    check_image_input(source.name, read_header(source.weights))
    refuse_rerender(path.name, pins)
    keys = pins.pins if pins else ()
    if len(keys) != 1:
        raise ClipError(
            f"{path.name} moves one image, and there are {len(keys)}. Give {names.one_image}.", code="AD-Q62"
        )
    (key,) = keys
    unit = ControlUnit(path, keys=(key,), weight=affinity_text(motion, frames, key.frame))
    if max(unit.strengths(frames)) > 1:
        raise ClipError(f"{names.pia_motion} {motion:.60}: each value must be between 0 and 1.", code="AD-Q63")
    return unit


def refuse_rerender(name: str, pins: PinnedFrames | None) -> None:
    """Refuse a clip of which some frames are rendered again with a model that has one image to itself.

    Args:
        name: of the model.

    Raises:
        ClipError: the images are the other frames of such a clip.
    """
    if pins is not None and pins.keeps_pixels:
        raise ClipError(
            f"{name} makes a clip from one image, and the frames that stay of a re-rendered clip are many. Choose "
            "another motion module.",
            code="AD-Q66",
        )


def affinity_text(motion: str, frames: int, given: int = 0) -> str:
    """The affinities of a clip by their name, or as they are written."""
    name = motion.strip().lower()
    return as_weights(affinity(name, frames, given)) if name in AFFINITIES else motion


def _check_together(asked: AskedGuides, kinds: dict[Path, str], pins: PinnedFrames | None, names: GuideNames) -> None:
    if len(asked.encoders) > len(set(kinds.values())):
        raise ClipError(
            f"Two files of {names.sparse_ctrl} are encoders of one kind. Give one for images and one for scribbles at "
            "most.",
            code="AD-Q31",
        )
    for path, kind in kinds.items():
        if kind == SCRIBBLE and not asked.drawings:
            raise ClipError(
                f"{path.name} reads drawings, and there are none. Give them with {names.scribble}, such as "
                f"{names.drawing}.",
                code="AD-Q32",
            )
        if kind == RGB and pins is None:
            raise ClipError(
                f"{path.name} reads images, and there are none. Give them with {names.images}.", code="AD-Q33"
            )
    if asked.drawings and SCRIBBLE not in kinds.values():
        raise ClipError(
            f"{names.scribble} needs a SparseCtrl encoder for scribbles, and there is none. Give one with "
            f"{names.sparse_ctrl}, or the images with {names.images}.",
            code="AD-Q34",
        )


def _chosen(
    asked: AskedGuides, kinds: dict[Path, str], pins: PinnedFrames | None, names: GuideNames, *, is_continued: bool
) -> tuple[str, str]:
    """What images at frames are used for, and a line about it where it was not named."""
    method = asked.method
    encoder = next((path.name for path, kind in kinds.items() if kind == RGB), None)
    if method != AUTO and pins is None:
        raise ClipError(
            f"{names.image_method} would have no effect without an image. Give {names.images}.", code="AD-Q35"
        )
    if method in (SPARSE_CTRL, BOTH) and encoder is None:
        raise ClipError(
            f"{names.image_method} {method} needs a SparseCtrl encoder for images. Give one with {names.sparse_ctrl}.",
            code="AD-Q36",
        )
    if method == PIA:
        raise ClipError(f"{names.image_method} pia needs a PIA model. Give one with {names.pia}.", code="AD-Q64")
    if method == PINS and encoder is not None:
        raise ClipError(
            f"{encoder} would have no effect with {names.image_method} pins. Leave one of them out, or write both.",
            code="AD-Q37",
        )
    if encoder is not None and pins is not None and pins.keeps_pixels:  # the other frames of a clip stay as they are
        return BOTH, f"The frames that stay are pinned, and {encoder} carries them on."
    if method != AUTO or encoder is None:
        return (PINS if method == AUTO else method), ""
    if is_continued:
        return (
            BOTH,
            f"The kept frames are pinned, and {encoder} carries them on; {names.image_method} names one of both.",
        )
    return SPARSE_CTRL, f"The images go to {encoder}, since it is given; {names.image_method} both also pins them."


def _chosen_with_pia(
    asked: AskedGuides, kinds: dict[Path, str], moved: ControlUnit, names: GuideNames
) -> tuple[str, str]:
    """The same with a PIA model, which has the image to itself."""
    method, name = asked.method, moved.model.name
    if method not in (AUTO, PIA) or RGB in kinds.values():
        other = f"{names.image_method} {method}" if method not in (AUTO, PIA) else "a SparseCtrl encoder for images"
        raise ClipError(f"{name}{names.of_pia} and {other} exclude each other. Leave one of them out.", code="AD-Q65")
    return PIA, "" if method == PIA else f"The image goes to {name}, since it is given{_with(names)}."


def _with(names: GuideNames) -> str:
    return f" with {names.pia}" if names.of_pia else " as the motion module"
