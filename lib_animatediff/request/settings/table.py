"""The settings table: every field of the dataclass `ClipSettings` carries its `Setting`."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lib_animatediff.engine.context_windows import FUSIONS, WINDOW_KINDS, WINDOW_MEANINGS
from lib_animatediff.prompts.travel import EASINGS, INTERPOLATIONS
from lib_animatediff.request.compat import ALIASES
from lib_animatediff.request.masks import packed_mask
from lib_animatediff.request.motion_scale import MOST_EFFECT, MOST_SCALE, parse_blocks, parse_frames, parse_steps

from . import noise as noises
from . import start_from as start
from . import video as video_in
from .interpolation import INTERPOLATE, INTERPOLATOR
from .second_pass import UPSCALE, UPSCALE_DENOISE
from .setting import (
    ADVANCED,
    KEY,
    LONGEST_CLIP,
    MOTION,
    OUTPUT,
    PROMPTS,
    WINDOWS,
    Setting,
    checked_by,
    further,
    setting,
)
from .speed import GUIDANCE_END, GUIDANCE_START, PREVIEW, REUSE, REUSE_BRANCH, REUSE_ON_CPU, SPEED_CHOICE

FRAME = "Frame"
FILE_FORMATS = {  # the existing extension's name of each format: its key in `video.FORMATS`; the usual ones first
    "GIF": "gif",
    "MP4": "mp4",
    "WEBP": "webp",
    "APNG": "apng",
    "WEBM": "webm",
    "AVIF": "avif",
    "PNG": "frames",
    "TXT": "txt",
}
FORMATS = (*FILE_FORMATS, FRAME)
_LARGEST_SHIFT = 64.0  # pixels: an eighth of the image per frame


@dataclass(frozen=True)
class ClipSettings:
    """The settings of a clip. `parse_settings` makes one and checks the values.

    The order of the fields is the order of the panel, of the API's positional arguments and of the infotext.
    """

    enable: bool = setting(False, "AnimateDiff", "Makes a clip instead of an image.", in_panel=False)
    model: str = setting(
        "", "Motion module", "Decides how things move in the clip; the checkpoint decides how they look."
    )
    frames: int = setting(
        16,
        "Frames",
        "Number of frames in the clip; 0 makes as many as the source video has, or else as the context length.",
        minimum=0,
        maximum=LONGEST_CLIP,
    )
    fps: float = setting(
        8.0,
        "FPS",
        "Frames per second: the playback speed of the clip. Motion modules were trained on about 8.",
        minimum=1,
        maximum=120,
    )
    loop_count: int = setting(
        0,
        "Play count",
        "Number of times the clip plays; 0 repeats it forever.",
        minimum=0,
        maximum=100,
        group=OUTPUT,
    )
    context_length: int = setting(
        16,
        "Context length",
        "Number of frames that the motion module sees together, and so the length of a window: 16 for most modules, "
        "8 for HotShot-XL; 0 means 16.",
        minimum=0,
        maximum=128,
        group=WINDOWS,
    )
    overlap: int = setting(
        -1,
        "Window overlap",
        "Number of frames that two neighbouring windows share: more hides seams but takes longer; -1 means a quarter "
        "of the context length.",
        minimum=-1,
        maximum=127,
        group=WINDOWS,
    )
    stride: int = setting(
        1,
        "Window stride",
        "1: consecutive frames in each window. 2 adds windows of every 2nd frame, 3 those of every 4th: long clips "
        "stay more consistent and take longer.",
        minimum=1,
        maximum=8,
        group=WINDOWS,
    )
    context_kind: str = setting(
        "uniform",
        "Window schedule",
        "Places the windows of a long clip.",
        choices=WINDOW_KINDS,
        meanings=WINDOW_MEANINGS,
        group=WINDOWS,
    )
    fusion: str = setting(
        "pyramid",
        "Window fusion",
        "Blends the windows where they overlap.",
        choices=tuple(FUSIONS),
        meanings={
            "pyramid": "the middle of a window counts most",
            "flat": "all frames of a window count the same",
            "overlap-linear": "a window fades in and out over the overlap",
        },
        group=WINDOWS,
    )
    closed_loop: str = setting(
        "N",
        "Closed loop",
        "Leads the end of the clip back to its start.",
        choices=("N", "R-P", "R+P", "A"),
        meanings={
            "N": "off",
            "R-P": "weakly, in clips above the context length only",
            "R+P": "the same, and changing prompts return to the first one",
            "A": "strongly, in clips of any length",
        },
        group=ADVANCED,
    )
    reverse: bool = setting(
        False,
        "Reverse (ping-pong)",
        "Plays the clip forward and then backward, without repeating the first and the last frame.",
        group=ADVANCED,
    )
    formats: tuple[str, ...] = setting(
        ("GIF",),
        "Save as",
        "Files in which each clip is saved.",
        choices=FORMATS,
        meanings={
            "GIF": "plays everywhere, in 256 colours",
            "MP4": "a video in all colours, the smallest file",
            "WEBP": "an image in all colours",
            "APNG": "an image without loss, a large file",
            "WEBM": "a video for web pages",
            "AVIF": "a small image in all colours",
            "PNG": "a folder of frames",
            "TXT": "the settings as text",
            "Frame": "single images in the gallery and in the API's reply",
        },
    )
    views: bool = further(
        False,
        "Attention views",
        "Applies the windows only inside the motion module. All frames pass through the UNet together: more "
        "consistent, but more memory.",
        WINDOWS,
    )
    travel_interpolation: str = further(
        INTERPOLATIONS[0],
        "Prompt interpolation",
        "Transition between prompts.",
        PROMPTS,
        choices=INTERPOLATIONS,
        meanings={"slerp": "rotates one encoding into the next", "linear": "fades", "step": "switches at once"},
    )
    travel_easing: str = further(
        next(iter(EASINGS)),
        "Prompt easing",
        "Pace of each transition between prompts; a line can set its own, such as 8 ease-in: autumn.",
        PROMPTS,
        choices=tuple(EASINGS),
    )
    travel_hold: float = further(
        0.0,
        "Prompt hold",
        "Fraction of the frames between two prompts that keep the first prompt before the transition starts.",
        PROMPTS,
        minimum=0,
        maximum=1,
    )
    scale: str = further(
        "1",
        "Motion scale",
        "How much frames differ, best from 0.7 to 1.3: below 1 is calmer, above 1 livelier. A number, one per frame "
        "(1, 1.1, ...), or 0: 1, 8: 1.3.",
        MOTION,
        accepts_numbers=True,
        parse=checked_by(lambda text: parse_frames("scale", text, LONGEST_CLIP, MOST_SCALE)),
    )
    effect: str = further(
        "1",
        "Motion effect",
        "Share of the motion module that is applied, best from 0.8 to 1: 0 gives unrelated images. A number, one per "
        "frame (1, 0.9, ...), or 0: 1, 8: 0.8.",
        MOTION,
        accepts_numbers=True,
        parse=checked_by(lambda text: parse_frames("effect", text, LONGEST_CLIP, MOST_EFFECT)),
    )
    scale_steps: str = further(
        "",
        "Motion scale per step",
        "Multiplies the motion scale during sampling, such as 0%: 1, 60%: 1.2; empty means 1.",
        ADVANCED,
        accepts_numbers=True,
        parse=checked_by(lambda text: parse_steps("scale_steps", text, MOST_SCALE)),
    )
    effect_steps: str = further(
        "",
        "Motion effect per step",
        "Multiplies the motion effect during sampling, such as 0%: 1, 60%: 0.5; empty means 1.",
        ADVANCED,
        accepts_numbers=True,
        parse=checked_by(lambda text: parse_steps("effect_steps", text, MOST_EFFECT)),
    )
    effect_start: float = further(
        0.0,
        "Motion start",
        "Fraction of the sampling steps that run without motion at the beginning.",
        ADVANCED,
        minimum=0,
        maximum=1,
    )
    effect_end: float = further(
        1.0,
        "Motion end",
        "Fraction of the sampling steps after which motion is switched off.",
        ADVANCED,
        minimum=0,
        maximum=1,
    )
    blocks: str = further(
        "",
        "Motion per UNet block",
        "Multiplies scale or effect in parts of the UNet, such as up.1 effect 0.5, mid scale 1.2.",
        ADVANCED,
        parse=checked_by(lambda text: parse_blocks("blocks", text)),
    )
    motion_mask: str = further(
        "",
        "Motion mask",
        "Image that limits motion to its white areas; black areas are images of the checkpoint alone (API: base64).",
        MOTION,
        parse=packed_mask,
        image=True,
    )
    mask_of: str = further(
        "effect",
        "Mask applies to",
        "What the motion mask limits.",
        MOTION,
        choices=("effect", "scale", "both"),
        meanings={
            "effect": "black areas are without the motion module",
            "scale": "the motion scale applies to white areas only",
            "both": "effect and scale",
        },
    )
    motion_loras: str = further(
        "",
        "Motion LoRAs",
        "Adds camera movements, such as pan:0.8, zoom:0.5; <lora:pan:0.8> in the prompt does the same.",
        MOTION,
    )
    noise: str = noises.NOISE_TYPE
    noise_share: float = noises.NOISE_SHARE
    frame_seeds: str = noises.FRAME_SEEDS
    freeinit_enable: bool = noises.FREEINIT_ENABLE
    freeinit_filter: str = noises.FREEINIT_FILTER
    freeinit_ds: float = noises.FREEINIT_SPATIAL
    freeinit_dt: float = noises.FREEINIT_TEMPORAL
    freeinit_iters: int = noises.FREEINIT_ITERS
    freeinit_coarse: bool = noises.FREEINIT_COARSE
    zero_x: float = further(
        12.0,
        "Text2Video-Zero shift x",
        "Pixels per frame that the image moves to the left, at a width of 512; negative values move it to the right.",
        ADVANCED,
        minimum=-_LARGEST_SHIFT,
        maximum=_LARGEST_SHIFT,
    )
    zero_y: float = further(
        12.0,
        "Text2Video-Zero shift y",
        "Pixels per frame that the image moves up, at a height of 512; negative values move it down.",
        ADVANCED,
        minimum=-_LARGEST_SHIFT,
        maximum=_LARGEST_SHIFT,
    )
    zero_smoothing: float = further(
        0.0,
        "Text2Video-Zero smoothing",
        "Blends the first frame's background into all frames where the motion mask is black; needs a mask, try 0.6.",
        ADVANCED,
        minimum=0,
        maximum=1,
    )
    preview: bool = PREVIEW
    reuse: int = REUSE
    reuse_branch: int = REUSE_BRANCH
    reuse_on_cpu: bool = REUSE_ON_CPU
    guidance_start: float = GUIDANCE_START
    guidance_end: float = GUIDANCE_END
    speed: str = SPEED_CHOICE
    interpolate: str = INTERPOLATE
    interpolator: str = INTERPOLATOR
    upscale: float = UPSCALE
    upscale_denoise: float = UPSCALE_DENOISE
    video: str = video_in.VIDEO
    denoise: str = video_in.DENOISING
    video_inversion: float = video_in.VIDEO_INVERSION
    video_start: int = video_in.VIDEO_START
    video_end: int = video_in.VIDEO_END
    video_every: int = video_in.VIDEO_EVERY
    video_fps: float = video_in.VIDEO_FPS
    video_fit: str = video_in.VIDEO_FIT
    video_mute: bool = video_in.VIDEO_MUTE
    mask: str = video_in.MASK
    mask_invert: bool = video_in.MASK_INVERT
    mask_feather: int = video_in.MASK_FEATHER
    image: str = start.IMAGE
    last_image: str = start.LAST_IMAGE
    key_images: str = start.KEY_IMAGES
    continue_clip: str = start.CONTINUE_CLIP
    keep_frames: int = start.KEEP_FRAMES
    rerender_clip: str = start.RERENDER_CLIP
    rerender_frames: str = start.RERENDER_FRAMES
    rerender_strength: float = start.RERENDER_STRENGTH
    pin_init: bool = start.PIN_INIT
    image_fit: str = start.IMAGE_FIT
    pin_strength: float = start.PIN_STRENGTH
    pin_inversion: float = start.PIN_INVERSION
    source_size: str = start.SOURCE_SIZE
    latent_power: float = start.LATENT_POWER
    latent_scale: float = start.LATENT_SCALE
    last_frame: str = start.LAST_FRAME
    latent_power_last: float = start.LATENT_POWER_LAST
    latent_scale_last: float = start.LATENT_SCALE_LAST
    image_method: str = start.IMAGE_METHOD
    sparse_ctrl: str = start.SPARSE_CTRL
    scribbles: str = start.SCRIBBLES
    sparse_strength: str = start.SPARSE_STRENGTH
    sparse_start: float = start.SPARSE_START
    sparse_end: float = start.SPARSE_END
    sparse_without_key: str = start.SPARSE_WITHOUT_KEY
    sparse_colour_match: float = start.SPARSE_COLOUR_MATCH
    pia_motion: str = start.PIA_MOTION
    i2v_drift: float = start.I2V_DRIFT
    i2v_strength: str = start.I2V_STRENGTH
    camera: str = start.CAMERA_PATH
    camera_model: str = start.CAMERA_MODEL
    camera_strength: str = start.CAMERA_STRENGTH
    camera_start: float = start.CAMERA_START
    camera_end: float = start.CAMERA_END
    camera_every: int = start.CAMERA_EVERY
    control_images: str = start.CONTROL_IMAGES
    control_weight: str = start.CONTROL_WEIGHT
    control_fill: str = start.CONTROL_FILL
    control_reach: int = start.CONTROL_REACH
    control_start: str = start.CONTROL_START
    control_end: str = start.CONTROL_END
    control_masks: str = start.CONTROL_MASKS
    resume: bool = further(
        False,
        "Resume",
        "Goes on with the unfinished clip of exactly these settings and seed, if the WebUI was ended while it was "
        "sampled.",
        OUTPUT,
    )
    request_id: str = setting(
        "", "Request ID", "Text of the client's choice at the end of the clip's file names.", in_panel=False
    )


SETTINGS: dict[str, Setting] = {
    f.name: Setting(f.name, type(f.default), f.default, aliases=ALIASES.get(f.name, ()), **f.metadata[KEY])
    for f in fields(ClipSettings)
}
CANONICAL = {alias: s.name for s in SETTINGS.values() for alias in (s.name, *s.aliases)}

NO_LOOP, FIRM_LOOP = "N", "A"
UNIFORM, LOOPED = "uniform", "looped"
MOVING_KINDS = (UNIFORM, LOOPED)
AUTOMATIC_CONTEXT = 16  # the length that every official module was trained on
