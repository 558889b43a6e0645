"""Which settings act under which others: for each setting, the cases in which it has no effect, with the reason.

A setting without effect is never silent. The panel says so, the API's reply, the command line and `animate` report
it if it was changed, and the X/Y/Z plot refuses an axis that can do nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lib_animatediff.prompts.travel import STEP
from lib_animatediff.request.camera.moves import is_pose_file
from lib_animatediff.request.settings import FILE_FORMATS, FRAME, SETTINGS, ClipSettings, context_length
from lib_animatediff.request.settings.interpolation import OFF, shown_fps
from lib_animatediff.request.settings.start_from import NO_RAMP
from lib_animatediff.sampling.frame_noise import CONSTANT, FREENOISE, SHARED
from lib_animatediff.video import exact_fps
from lib_animatediff.video.sound import SOUND_FORMATS

from .cases import Case, Rule

_FEWEST_TO_REVERSE = 3  # with fewer frames the way back has no frame of its own
_WITHOUT_MOTION = ("TXT", FRAME)  # formats without the frames of the files


@dataclass(frozen=True)
class Note:
    """A setting that was changed and has no effect, or none that another value does not have.

    Attributes:
        setting: name of the setting, of a file that is sampled in another way than it was trained for, or of another
            extension that does not act.
        text: a sentence about it, without the name in front.
    """

    setting: str
    text: str

    def __str__(self) -> str:
        return f"{self.setting} {self.text}"


def _is_preview(case: Case) -> bool:
    return case.settings.preview


def _rule_of_freeinit(holds: Callable[[ClipSettings], bool], reason: str) -> Rule:
    return Rule(lambda case: holds(case.settings), reason)


_IMAGE = Rule(_is_preview, "the preview is one image, not a clip")
_FIRST_FRAME = Rule(_is_preview, "the preview shows the first frame only")
_STILL = Rule(_is_preview, "the preview has no motion")
_OFF = Rule(lambda case: case.has_no_motion, "the motion effect is 0")
_ONE_WINDOW = Rule(
    lambda case: case.fits and not case.settings.preview,
    "the clip is not longer than the context length, so one window holds all of its frames",
)
_CHUNKS = Rule(
    lambda case: case.is_zero and not case.fits and not case.settings.preview,
    "without a motion module a clip is not made in overlapping windows",
)
_NO_TRAVEL = Rule(lambda case: case.travels is False and not case.settings.preview, "no prompt travels")
_STEP = Rule(lambda case: case.settings.travel_interpolation == STEP, "the interpolation step switches at once")
_WINDOWED = (_FIRST_FRAME, _ONE_WINDOW, _CHUNKS)
_TRAVELLING = (_FIRST_FRAME, _NO_TRAVEL)
_MOVING = (_STILL, _OFF)
_ONCE = _rule_of_freeinit(lambda settings: settings.freeinit_iters == 1, "one iteration of FreeInit is the plain clip")
_FREEINIT = (
    _FIRST_FRAME,
    _rule_of_freeinit(lambda settings: not settings.freeinit_enable, "FreeInit is off"),
)
_FILTERED = (
    *_FREEINIT,
    _ONCE,
)
_REUSING = (
    Rule(_is_preview, "the preview computes everything at every step"),
    Rule(lambda case: case.settings.reuse == 1, "reuse is off"),
)
_NO_VIDEO = Rule(lambda case: not case.settings.video, "there is no source video")
_NO_STRENGTH = Rule(lambda case: case.keeps_video, "at a denoising strength of 0 no noise is added to the source video")
_INVERTED = Rule(
    lambda case: bool(case.settings.video) and case.settings.video_inversion == 1,
    "all noise of the start is the inverted noise of the source video",
)
_NO_MASK = Rule(lambda case: not case.settings.mask, "there is no video mask")
_SILENT = Rule(
    lambda case: not {FILE_FORMATS.get(name) for name in case.settings.formats} & set(SOUND_FORMATS),
    "none of the output formats has sound",
)
_ADDS_NONE = Rule(lambda case: case.settings.interpolate == OFF, "no frames are added")
_NO_IMAGE = Rule(lambda case: not case.has_images, "there is no image at a frame")
_NO_ENCODER = Rule(lambda case: not case.settings.sparse_ctrl.strip(), "no SparseCtrl encoder is chosen")
_NO_CAMERA = Rule(lambda case: not case.settings.camera.strip(), "there is no camera")
_NO_POSES = Rule(lambda case: not is_pose_file(case.settings.camera), "the camera has named moves")
_NO_SOURCE = Rule(
    lambda case: not case.settings.video and not case.has_images, "there is neither a source video nor an image"
)
_NO_KEYS = Rule(lambda case: "@" not in case.settings.control_images, "no image of a ControlNet unit is at a frame")
_NO_RAMP = Rule(lambda case: case.settings.latent_scale == NO_RAMP, "the latent scale is 0")
_FROM_VIDEO = Rule(lambda case: bool(case.settings.video), "the other frames start from those of the source video")
_NOT_AGAIN = Rule(lambda case: not case.settings.rerender_clip, "no clip is re-rendered")
_AGAIN = Rule(lambda case: bool(case.settings.rerender_clip), "a re-rendered clip starts from its own frames")
_OF_CLIP = Rule(lambda case: bool(case.settings.rerender_clip), "a re-rendered clip keeps its size")
_NO_LAST = Rule(lambda case: not case.settings.last_frame, "there is no last frame of the ramp")
_NOT_ZERO = Rule(lambda case: not case.is_zero, "it belongs to Text2Video-Zero, and a motion module makes the clip")

EFFECTS: dict[str, tuple[Rule, ...]] = {
    "enable": (),
    "model": (),
    "frames": (),
    "fps": (_IMAGE,),
    "loop_count": (
        _IMAGE,
        Rule(lambda case: not case.stores_loop_count, "none of the output formats stores the play count"),
    ),
    "context_length": (
        _FIRST_FRAME,
        Rule(
            lambda case: case.fits and case.settings.frames > 0,
            "has no effect, since one window holds the {frames} frames at a lower context length as well",
            of_value=True,
        ),
    ),
    "overlap": (
        *_WINDOWED,
        Rule(
            lambda case: case.settings.context_kind == "batched" and not case.is_loop, "batched windows do not overlap"
        ),
    ),
    "stride": (
        *_WINDOWED,
        Rule(
            lambda case: 2 ** (case.settings.stride - 2) >= case.frames / context_length(case.settings),
            "has the effect of a lower value, since {frames} frames have no room for its last levels",
            of_value=True,
        ),
    ),
    "context_kind": (*_WINDOWED, Rule(lambda case: case.is_loop, "a closed loop always has looped windows")),
    "fusion": (
        *_WINDOWED,
        Rule(
            lambda case: case.settings.context_kind == "batched" and not case.is_loop and case.settings.stride == 1,
            "batched windows do not overlap",
        ),
    ),
    "closed_loop": (
        _FIRST_FRAME,
        Rule(
            lambda case: case.fits and case.settings.closed_loop == "R-P",
            "R-P has no effect, since up to the context length only A closes the loop",
            of_value=True,
        ),
        Rule(
            lambda case: case.fits and case.settings.closed_loop == "R+P" and case.travels is False,
            "R+P has no effect, since up to the context length it loops prompt travel only, and no prompt travels",
            of_value=True,
        ),
        Rule(
            lambda case: (
                not case.fits
                and (case.settings.closed_loop == "R+P" or (case.settings.closed_loop == "R-P" and not case.travels))
                and case.has_firm_windows
            ),
            "makes the same clip as A, since {frames} frames have the same windows with both",
            of_value=True,
        ),
        Rule(
            lambda case: case.settings.closed_loop == "R+P" and case.travels is False and not case.fits,
            "R+P makes the same clip as R-P, since no prompt travels",
            of_value=True,
        ),
    ),
    "reverse": (
        _IMAGE,
        Rule(lambda case: case.frames < _FEWEST_TO_REVERSE, "a clip of {frames} frames is the same backward"),
    ),
    "formats": (_IMAGE,),
    "views": _WINDOWED,
    "travel_interpolation": _TRAVELLING,
    "travel_easing": (*_TRAVELLING, _STEP),
    "travel_hold": (*_TRAVELLING, _STEP),
    "scale": _MOVING,
    "effect": (_STILL,),
    "scale_steps": _MOVING,
    "effect_steps": _MOVING,
    "effect_start": _MOVING,
    "effect_end": _MOVING,
    "blocks": _MOVING,
    "motion_mask": (
        _STILL,
        Rule(lambda case: case.has_no_motion and not case.is_zero, "the motion effect is 0"),
        Rule(
            lambda case: case.settings.mask_of == "scale" and not case.is_scaled and not case.is_zero,
            "it applies to the motion scale, which is 1 everywhere",
        ),
    ),
    "mask_of": (*_MOVING, Rule(lambda case: not case.settings.motion_mask, "there is no motion mask")),
    "motion_loras": (),
    "noise": (
        _FIRST_FRAME,
        Rule(
            lambda case: _INVERTED.holds(case) and case.settings.noise != SHARED,
            "has no effect, since all noise of the start is the inverted noise of the source video",
            of_value=True,
        ),
        Rule(
            lambda case: case.settings.noise == FREENOISE and not case.repeats_noise,
            "freenoise has the effect of random, since in so short a clip repeated noise would be in one window",
            of_value=True,
        ),
    ),
    "noise_share": (
        _FIRST_FRAME,
        Rule(lambda case: case.settings.noise != SHARED, "the noise type is not shared"),
    ),
    "frame_seeds": (
        Rule(
            lambda case: (
                case.settings.noise == CONSTANT and len(case.settings.frame_seeds.replace(",", " ").split()) > 1
            ),
            "uses its first seed only, since constant noise is that of the first frame",
            of_value=True,
        ),
    ),
    "freeinit_enable": (_FIRST_FRAME, _ONCE, _INVERTED),
    "freeinit_filter": (
        *_FILTERED,
        _rule_of_freeinit(
            lambda settings: not (settings.freeinit_ds and settings.freeinit_dt), "a cutoff of 0 keeps no frequency"
        ),
    ),
    "freeinit_ds": (*_FILTERED, _rule_of_freeinit(lambda settings: settings.freeinit_dt == 0, "the other cutoff is 0")),
    "freeinit_dt": (*_FILTERED, _rule_of_freeinit(lambda settings: settings.freeinit_ds == 0, "the other cutoff is 0")),
    "freeinit_iters": _FREEINIT,
    "freeinit_coarse": _FILTERED,
    "zero_x": (_NOT_ZERO,),
    "zero_y": (_NOT_ZERO,),
    "zero_smoothing": (_NOT_ZERO,),
    "preview": (),
    "reuse": _REUSING[:1],
    "reuse_branch": _REUSING,
    "reuse_on_cpu": _REUSING,
    **dict.fromkeys(("guidance_start", "guidance_end", "speed"), ()),
    "interpolate": (
        _IMAGE,
        Rule(lambda case: case.frames == 1, "a clip of one frame has nothing in between"),
        Rule(
            lambda case: set(case.settings.formats) <= set(_WITHOUT_MOTION),
            "none of the output formats contains the moving clip",
        ),
        Rule(
            lambda case: (
                case.settings.interpolate != OFF
                and shown_fps(case.settings.interpolate, case.settings.fps) == exact_fps(case.settings.fps)
            ),
            "has no effect, since the clip has as many frames per second already; x2 doubles them",
            of_value=True,
        ),
    ),
    "interpolator": (_IMAGE, _ADDS_NONE),
    "upscale": (_IMAGE,),
    "upscale_denoise": (_IMAGE, Rule(lambda case: case.settings.upscale == 1, "the clip is not enlarged")),
    "video": (),
    "denoise": (_NO_VIDEO,),
    "video_inversion": (_NO_VIDEO, _NO_STRENGTH),
    **dict.fromkeys(
        ("video_start", "video_end", "video_every", "video_fps", "video_fit"),
        (_NO_VIDEO,),
    ),
    "video_mute": (_NO_VIDEO, _IMAGE, _SILENT),
    "mask": (_NO_VIDEO,),
    "mask_invert": (_NO_VIDEO, _NO_MASK),
    "mask_feather": (_NO_VIDEO, _NO_MASK),
    "image": (),
    "last_image": (_FIRST_FRAME,),
    "key_images": (),
    "continue_clip": (),
    "keep_frames": (Rule(lambda case: not case.settings.continue_clip, "no clip is continued"),),
    "rerender_clip": (),
    **dict.fromkeys(("rerender_frames", "rerender_strength"), (_NOT_AGAIN,)),
    "pin_init": (),
    "image_fit": (_NO_IMAGE, _OF_CLIP),
    "pin_strength": (_NO_IMAGE,),
    "pin_inversion": (_NO_IMAGE, _FIRST_FRAME, _FROM_VIDEO, _AGAIN),
    "source_size": (_NO_SOURCE, _OF_CLIP),
    "latent_power": (_NO_RAMP, _FROM_VIDEO, _AGAIN),
    "latent_scale": (_FROM_VIDEO, _AGAIN),
    "last_frame": (_NO_RAMP, _FROM_VIDEO, _AGAIN, _FIRST_FRAME),
    **dict.fromkeys(
        ("latent_power_last", "latent_scale_last"), (_NO_RAMP, _FROM_VIDEO, _AGAIN, _FIRST_FRAME, _NO_LAST)
    ),
    "image_method": (_NO_IMAGE,),
    **dict.fromkeys(("sparse_ctrl", "scribbles"), ()),
    **dict.fromkeys(("sparse_strength", "sparse_start", "sparse_end"), (_NO_ENCODER,)),
    "sparse_without_key": (_NO_ENCODER, _FIRST_FRAME, _ONE_WINDOW),
    "sparse_colour_match": (_NO_ENCODER,),
    **dict.fromkeys(("pia_motion", "i2v_drift", "i2v_strength"), (_NO_IMAGE,)),
    "camera": _MOVING,
    **dict.fromkeys(("camera_model", "camera_strength", "camera_start", "camera_end"), (_NO_CAMERA, *_MOVING)),
    "camera_every": (_NO_CAMERA, _NO_POSES, *_MOVING),
    **dict.fromkeys(("control_images", "control_weight", "control_fill"), ()),
    "control_reach": (_NO_KEYS,),
    **dict.fromkeys(("control_start", "control_end", "control_masks"), ()),
    "resume": (_IMAGE,),
    "request_id": (_IMAGE,),
}
"""For each setting of the table, the cases in which it has no effect."""


def idle_settings(settings: ClipSettings, travels: bool | None = None) -> dict[str, str]:
    """The settings that no value would give an effect as long as the others stay, each with the reason.

    Args:
        travels: whether a prompt travels; None: unknown, so that nothing is said about it.
    """
    case = Case(settings, travels)
    found = ((name, _rule(rules, case, of_value=False)) for name, rules in EFFECTS.items())
    return {name: rule.text(case) for name, rule in found if rule}


def notes_of(settings: ClipSettings, travels: bool | None = None) -> tuple[Note, ...]:
    """A note about each setting that differs from its default and has no effect; ``travels`` as above."""
    case = Case(settings, travels)
    changed = (name for name in EFFECTS if getattr(settings, name) != SETTINGS[name].default)
    found = ((name, _rule(EFFECTS[name], case, of_value=True)) for name in changed)
    return tuple(Note(name, rule.text(case)) for name, rule in found if rule)


def _rule(rules: tuple[Rule, ...], case: Case, *, of_value: bool) -> Rule | None:
    return next((rule for rule in rules if (of_value or not rule.of_value) and rule.holds(case)), None)
