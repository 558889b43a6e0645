"""From the settings of a request to what it says about control models: those of its host, SparseCtrl and others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lib_animatediff.request.camera.choosing import choose_camera, note_of_kind
from lib_animatediff.request.effects import Note
from lib_animatediff.request.plan import ClipPlan, add_controls
from lib_animatediff.request.settings import SETTINGS, ClipSettings, clip_frames
from lib_animatediff.request.start.images import Find, keys_of, size_of
from lib_animatediff.request.start.pins import PinnedFrames
from lib_animatediff.video.fitting import CROP

from .guides import AUTO, I2V, AskedGuides, Guides, choose_guides
from .hosted import HostedControl, in_words, parse_unit_images, parse_unit_masks, with_paths
from .i2v import i2v_unit, refuse_without_i2v
from .sparse_images import check_images


@dataclass(frozen=True)
class GuideFiles:
    """A host's files by the names that settings give.

    Attributes:
        find_encoder: the file of a SparseCtrl encoder, and its name as infotexts have it.
        find_camera: the same of a CameraCtrl model.
        pia: the motion module, if it is a PIA model.
        i2v: likewise an AnimateLCM-I2V model.
        kind: of the motion module.
    """

    find_encoder: Callable[[str], tuple[Path, str]]
    find_camera: Callable[[str], tuple[Path, str]]
    pia: Path | None = None
    i2v: Path | None = None
    kind: str | None = None


def choose_guiding(
    settings: ClipSettings, pins: PinnedFrames | None, find: Find, files: GuideFiles
) -> tuple[ClipSettings, Guides]:
    """What images at frames are used for, the camera, and the settings with names and paths as infotexts have them.

    Args:
        pins: the images; None: there are none.
        find: the file for a path of the request.

    Raises:
        AnimateDiffError: a file or an image is missing or is another one, or they do not fit together.
    """
    found = [files.find_encoder(name) for name in names_in(settings.sparse_ctrl)]
    frames = clip_frames(settings)
    drawings, shown = keys_of(settings.scribbles, "scribbles", frames, find)
    for drawing in drawings:
        size_of(drawing, CROP)
    settings, camera = choose_camera(settings, find, files.find_camera)
    begun, encoders, method = None, tuple(path for path, _ in found), settings.image_method if pins else AUTO
    if files.i2v is not None:
        begun = i2v_unit(files.i2v, pins, method, encoders, settings.i2v_strength, settings.i2v_drift)
        pins, method = None, AUTO
    refuse_without_i2v(method)
    asked = AskedGuides(
        encoders,
        tuple(drawings),
        settings.sparse_strength,
        settings.sparse_start,
        settings.sparse_end,
        settings.sparse_without_key,
        settings.sparse_colour_match,
        method,  # without an image, a note says that it has no effect
        files.pia,
        settings.pia_motion,
    )
    guides = choose_guides(asked, pins, frames, is_continued=bool(settings.continue_clip.strip()))
    check_images(guides.units)
    guides = replace(guides, camera=camera)
    if begun is not None:
        line = f"The image goes to {begun.model.name}, since it is given as the motion module."
        guides = replace(guides, units=(begun, *guides.units), method=I2V, lines=(line, *guides.lines))
    return replace(settings, sparse_ctrl=", ".join(name for _, name in found), scribbles=shown), guides


def names_in(text: str) -> list[str]:
    """The names in a list such as ``rgb.safetensors, scribble.safetensors``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def with_guides(plan: ClipPlan, guides: Guides) -> ClipPlan:
    """The plan of a clip with these models and this camera.

    Raises:
        ClipError: the clip is too short for an image, or its method has no motion module.
    """
    units = (*guides.units, *((guides.camera,) if guides.camera else ()))
    return add_controls(plan, [*plan.controls, *units]) if units else plan


def guide_notes(settings: ClipSettings, guides: Guides, pins: PinnedFrames | None, files: GuideFiles) -> list[Note]:
    """What was chosen and why, and the settings that have no effect because of it."""
    notes = []
    if settings.image_method != guides.method:
        notes += [Note("image_method", f"is {guides.method}: {line[0].lower()}{line[1:]}") for line in guides.lines]
    idle: dict[str, str] = {}
    if pins is not None and guides.pins is None:
        idle |= dict.fromkeys(("pin_strength", "pin_inversion"), "has no effect, since the images are not pinned.")
    if pins is not None and any(unit.keys == pins.pins for unit in guides.units):
        idle["image_fit"] = (
            "has no effect on SparseCtrl, PIA and AnimateLCM-I2V, which crop their images to the clip's shape."
        )
    if settings.sparse_ctrl.strip() and not any(unit.colour_match for unit in guides.units):
        idle["sparse_colour_match"] = "has no effect, since no SparseCtrl encoder has images."
    if files.i2v is None:
        reason = "has no effect, since the motion module is no AnimateLCM-I2V model."
        idle |= dict.fromkeys(("i2v_drift", "i2v_strength"), reason)
    if guides.camera is not None and (text := note_of_kind(files.kind)):
        notes.append(Note(guides.camera.model.name, text))
    if files.pia is None:
        idle["pia_motion"] = "has no effect, since the motion module is no PIA model."
    changed = (name for name in idle if getattr(settings, name) != SETTINGS[name].default)
    return [*notes, *(Note(name, idle[name]) for name in changed)]


def choose_hosted(settings: ClipSettings, find: Find) -> tuple[ClipSettings, HostedControl]:
    """What the settings say about units, and the settings with the paths as infotexts have them.

    Raises:
        ClipError: a path is not one that the WebUI may read.
    """
    images, masks = parse_unit_images(settings.control_images), parse_unit_masks(settings.control_masks)
    found, found_masks = ([find(image.path) for image in each] for each in (images, masks))
    hosted = HostedControl(
        with_paths(images, [str(path) for path, _ in found]),
        settings.control_weight,
        settings.control_fill,
        settings.control_reach,
        settings.control_start,
        settings.control_end,
        with_paths(masks, [str(path) for path, _ in found_masks]),
    )
    shown, shown_masks = (
        in_words(with_paths(each, [text for _, text in paths]))
        for each, paths in ((images, found), (masks, found_masks))
    )
    return replace(settings, control_images=shown, control_masks=shown_masks), hosted
