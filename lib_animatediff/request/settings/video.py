"""A video as the start of a clip: entries of the settings table."""

from __future__ import annotations

from lib_animatediff.request.motion_scale import parse_frames
from lib_animatediff.request.start.video import DENOISE
from lib_animatediff.video.fitting import CROP, FITS
from lib_animatediff.video.mask import FEATHER, MOST_FEATHER

from .setting import LONGEST_CLIP, VIDEO_IN, checked_by, further

TO_THE_END = -1  # as the last frame
OWN_RATE = 0.0  # as frames per second
MOST_DENOISE = 1.0
TRANSPARENT = "alpha"  # as a mask
_MOST_FRAMES = 1_000_000  # of a file; far more than a clip can take

VIDEO = further(
    "",
    "Source video",
    "Video, animation, or folder or pattern (in/*.png) of images whose frames the clip starts from. The WebUI reads "
    "those in its own folders.",
    VIDEO_IN,
)
DENOISING = further(
    f"{DENOISE:g}",
    "Video denoising strength",
    "How much of the source video is replaced, 0 to 1; try 0.4 to 0.8. A number, one per frame, or 0: 0.8, 8: 0.3. One "
    "number: img2img has its own.",
    VIDEO_IN,
    accepts_numbers=True,
    parse=checked_by(lambda text: parse_frames("denoise", text, LONGEST_CLIP, MOST_DENOISE)),
)
VIDEO_INVERSION = further(
    0.0,
    "Video inversion",
    "Share of the noise that DDIM inversion (unsampling) finds in the source video, in the noise of the start: 1 keeps "
    "motion and layout best, 0 is off.",
    VIDEO_IN,
    minimum=0,
    maximum=1,
)
VIDEO_START = further(
    0,
    "First frame",
    "First frame of the source video, counted from 0.",
    VIDEO_IN,
    minimum=0,
    maximum=_MOST_FRAMES,
)
VIDEO_END = further(
    TO_THE_END,
    "Last frame",
    "Last frame of the source video; -1 means its last one.",
    VIDEO_IN,
    minimum=TO_THE_END,
    maximum=_MOST_FRAMES,
)
VIDEO_EVERY = further(
    1,
    "Every n-th frame",
    "Takes every n-th frame of the source video.",
    VIDEO_IN,
    minimum=1,
    maximum=_MOST_FRAMES,
)
VIDEO_FPS = further(
    OWN_RATE,
    "Source FPS",
    "Takes the frames of the source video at this rate, by their times, as variable rates need; 0 takes every frame.",
    VIDEO_IN,
    minimum=OWN_RATE,
    maximum=240,
)
VIDEO_FIT = further(
    CROP,
    "Fit",
    "How the source video fits a clip of another shape.",
    VIDEO_IN,
    choices=FITS,
    meanings={"crop": "its edges are cut off", "pad": "it gets black edges", "scale": "it is stretched"},
)
MASK = further(
    "",
    "Video mask",
    "White parts of this image or video of masks are repainted, black parts stay; alpha: where the source video is "
    "transparent.",
    VIDEO_IN,
)
MASK_INVERT = further(
    False, "Inverted mask", "Repaints the black parts of the video mask, or the opaque ones.", VIDEO_IN
)
MASK_FEATHER = further(
    FEATHER,
    "Mask feather",
    "Width in pixels over which a repainted part fades in, from the edge of the video mask inwards; 0 is a hard edge.",
    VIDEO_IN,
    minimum=0,
    maximum=MOST_FEATHER,
)
VIDEO_MUTE = further(False, "Without sound", "Leaves out the sound of the source video in MP4 and WebM.", VIDEO_IN)
