"""Images in a clip, as its start for models that steer it, and its camera: entries of the settings table."""

from __future__ import annotations

from lib_animatediff.engine.components.sparse_ctrl import NEAREST, WITHOUT_KEY
from lib_animatediff.request.camera.moves import checked_camera
from lib_animatediff.request.camera.unit import MOST_EVERY, MOST_STRENGTH
from lib_animatediff.request.compat import RAMP
from lib_animatediff.request.control.affinity import AFFINITIES, SMALL
from lib_animatediff.request.control.guides import AUTO, FULL_STRENGTH, IMAGE_METHODS
from lib_animatediff.request.control.hosted import (
    FROM_START,
    NO_FACTOR,
    TO_END,
    parse_unit_images,
    parse_unit_masks,
    parse_unit_shares,
    parse_unit_weights,
)
from lib_animatediff.request.control.unit import FILLS, HOLD, MOST_DRIFT, MOST_WEIGHT, REACH
from lib_animatediff.request.motion_scale import parse_frames
from lib_animatediff.request.start.pins import INVERSION, STRENGTH, parse_keys
from lib_animatediff.request.start.rerender import parse_ranges
from lib_animatediff.video.fitting import CROP, FITS
from motion_module.image_encoder.network import DRIFT

from .setting import CAMERA, CONTROLNET, GUIDES, LONGEST_CLIP, START_FROM, checked_by, further

NO_RAMP = 0.0  # as the scale
AS_SET, OF_SOURCE, IN_ITS_SHAPE = "as set", "source", "shape"
_MOST_REACH = 1_000  # frames
_MOST_POWER, _MOST_SCALE = 10, 1_000  # of a ramp; a clip has far fewer frames before it repeats


_MOST_AFFINITY = 1.0  # the image itself


def _checked_affinity(text: str) -> str:
    name = text.strip()
    if name.lower() in AFFINITIES:
        return name.lower()
    parse_frames("pia_motion", name, LONGEST_CLIP, _MOST_AFFINITY)
    return name


IMAGE = further(
    "",
    "First image",
    "Image that frame 0 is; the clip moves on from it. A path in the WebUI's own folders, or base64 by API.",
    START_FROM,
)
LAST_IMAGE = further(
    "",
    "Last image",
    "Image that the last frame is, as for the first image.",
    START_FROM,
)
KEY_IMAGES = further(
    "",
    "Images at frames",
    "Images that other frames are, such as 8: in/a.png, 12: in/b.png; -1 is the last frame.",
    START_FROM,
    parse=checked_by(parse_keys),
)
CONTINUE_CLIP = further(
    "",
    "Clip to continue",
    "Clip whose last frames are the first ones of this one; a path, or base64. By API, its recipe also fills in what "
    "is not sent.",
    START_FROM,
)
KEEP_FRAMES = further(
    4,
    "Kept frames",
    "How many of the last frames of the clip to continue are kept; more of them show the movement better.",
    START_FROM,
    minimum=1,
    maximum=64,
)
RERENDER_CLIP = further(
    "",
    "Clip to re-render",
    "Finished clip of which some frames are rendered again and all others stay; a path, or base64. By API, its recipe "
    "also fills in what is not sent.",
    START_FROM,
)
RERENDER_FRAMES = further(
    "",
    "Frames to re-render",
    "Frames of that clip which are rendered again, such as 8-15 or 3, 8-15, counted from 0.",
    START_FROM,
    parse=checked_by(parse_ranges),
)
RERENDER_STRENGTH = further(
    1.0,
    "Re-render strength",
    "How much of these frames is replaced: 1 renders them from noise, lower values, such as 0.6, start from what they "
    "show. Beside other frames it is lower.",
    START_FROM,
    minimum=0,
    maximum=1,
)
PIN_INIT = further(
    False,
    "Init image is frame 0",
    "Makes the init image of img2img the first image, or --image beside --latent-scale. At a strength of 1, img2img "
    "starts others from noise.",
    START_FROM,
)
IMAGE_FIT = further(
    CROP,
    "Fit of images",
    "How an image fits a clip of another shape.",
    START_FROM,
    choices=FITS,
    meanings={"crop": "its edges are cut off", "pad": "it gets black edges", "scale": "it is stretched"},
)
PIN_STRENGTH = further(
    STRENGTH,
    "Pin strength",
    "Share of the steps for which images are held. At 1 their frames equal them; below it the clip changes them.",
    START_FROM,
    minimum=0,
    maximum=1,
)
PIN_INVERSION = further(
    INVERSION,
    "Pin inversion",
    "Share of an image's inverted noise in the frame beside it. More joins more smoothly and moves less; 0 turns it "
    "off.",
    START_FROM,
    minimum=0,
    maximum=1,
)
SOURCE_SIZE = further(
    AS_SET,
    "Size of the clip",
    "Where width and height come from.",
    START_FROM,
    choices=(AS_SET, OF_SOURCE, IN_ITS_SHAPE),
    meanings={
        AS_SET: "width and height of the tab",
        OF_SOURCE: "those of the source video, or of the first image",
        IN_ITS_SHAPE: "its shape, with the shorter side of the tab",
    },
)
LATENT_POWER = further(
    RAMP["latent_power"],
    "Latent power",
    "How the init image's share in the initial latents falls over the frames: above 1 late, below 1 early.",
    START_FROM,
    minimum=0,
    maximum=_MOST_POWER,
)
LATENT_SCALE = further(
    NO_RAMP,
    "Latent scale",
    "Mixes the init image of img2img, or --image, into the noise of frame i with a share of 1 - i^power / scale, such "
    "as 32; 0 turns it off.",
    START_FROM,
    minimum=NO_RAMP,
    maximum=_MOST_SCALE,
)
LAST_FRAME = further(
    "",
    "Last frame of the ramp",
    "Image that is mixed into the last frames' noise likewise, with a latent scale; a path, or base64 by API.",
    START_FROM,
)
LATENT_POWER_LAST = further(
    RAMP["latent_power_last"],
    "Latent power (last)",
    "Latent power of the last frame's image, counted from the end.",
    START_FROM,
    minimum=0,
    maximum=_MOST_POWER,
)
LATENT_SCALE_LAST = further(
    RAMP["latent_scale_last"],
    "Latent scale (last)",
    "Latent scale of the last frame's image.",
    START_FROM,
    minimum=0.01,
    maximum=_MOST_SCALE,
)
IMAGE_METHOD = further(
    AUTO,
    "Method of images at frames",
    "What images at frames are used for.",
    GUIDES,
    choices=IMAGE_METHODS,
    meanings={
        "auto": "the model whose file is chosen, else pins",
        "pins": "their frames equal them",
        "sparse-ctrl": "an encoder carries them to all frames",
        "both": "pins and SparseCtrl",
        "pia": "a PIA model moves one image",
        "i2v": "the clip of an AnimateLCM-I2V model begins with one image",
    },
)
SPARSE_CTRL = further(
    "",
    "SparseCtrl encoders",
    "Files that carry images or drawings at frames to all frames, such as v3_sd15_sparsectrl_rgb.ckpt: at most one for "
    "images and one for drawings.",
    GUIDES,
)
SCRIBBLES = further(
    "",
    "Drawings at frames",
    "White lines on black for a SparseCtrl encoder for scribbles, such as 0: in/a.png, -1: in/b.png. Paths, or base64 "
    "by API.",
    GUIDES,
    parse=checked_by(lambda text: parse_keys(text, "scribbles")),
)
SPARSE_STRENGTH = further(
    FULL_STRENGTH,
    "SparseCtrl strength",
    f"Strength of SparseCtrl over the frames, from 0 to {MOST_WEIGHT:g}, such as 0.8 or 0: 1, 12: 0.4. Lower values "
    "flash less.",
    GUIDES,
    accepts_numbers=True,
    parse=checked_by(lambda text: parse_frames("sparse_strength", text, LONGEST_CLIP, MOST_WEIGHT)),
)
SPARSE_START = further(
    0.0,
    "SparseCtrl start",
    "Fraction of the sampling steps after which SparseCtrl begins.",
    GUIDES,
    minimum=0,
    maximum=1,
)
SPARSE_END = further(
    1.0,
    "SparseCtrl end",
    "Fraction of the sampling steps after which SparseCtrl ends. Below 1 the frames with images flash less.",
    GUIDES,
    minimum=0,
    maximum=1,
)
SPARSE_WITHOUT_KEY = further(
    NEAREST,
    "Windows without an image",
    "What SparseCtrl has in a context window without an image.",
    GUIDES,
    choices=WITHOUT_KEY,
    meanings={"nearest": "the nearest image, at the end of the window", "none": "no SparseCtrl"},
)
SPARSE_COLOUR_MATCH = further(
    0.0,
    "SparseCtrl colour match",
    "Moves colours and contrast of all frames towards those of the images, against a flash at frames with images: 0 "
    "off, 1 fully.",
    GUIDES,
    minimum=0,
    maximum=1,
)
PIA_MOTION = further(
    SMALL,
    "PIA motion",
    "How much moves with a PIA model: small, medium, large, with -loop or -style. Or how closely frames follow the "
    "image, such as 0: 1, 15: 0.7.",
    GUIDES,
    suggestions=AFFINITIES,
    accepts_numbers=True,
    parse=_checked_affinity,
)
I2V_DRIFT = further(
    DRIFT,
    "I2V drift",
    "How far the frames of an AnimateLCM-I2V model move from the image. Lower keeps closer to it.",
    GUIDES,
    minimum=0,
    maximum=MOST_DRIFT,
)
I2V_STRENGTH = further(
    FULL_STRENGTH,
    "I2V strength",
    f"Strength of the image of an AnimateLCM-I2V model over the frames, from 0 to {MOST_WEIGHT:g}, such as 0.8 or "
    "0: 1, 12: 0.4.",
    GUIDES,
    accepts_numbers=True,
    parse=checked_by(lambda text: parse_frames("i2v_strength", text, LONGEST_CLIP, MOST_WEIGHT)),
)
CAMERA_PATH = further(
    "",
    "Camera",
    "How the camera moves, such as pan-left 0.5, zoom-in 0.3; 8: static. Or a file of poses (.txt) in the WebUI's own "
    "folders.",
    CAMERA,
    parse=checked_camera,
)
CAMERA_MODEL = further(
    "",
    "CameraCtrl model",
    "File that makes the clip follow the camera, such as CameraCtrl_pruned.safetensors, with the v3 motion module.",
    CAMERA,
)
CAMERA_STRENGTH = further(
    FULL_STRENGTH,
    "Camera strength",
    f"Strength of the camera over the frames, from 0 to {MOST_STRENGTH:g}, such as 0.8 or 0: 1, 12: 0.4.",
    CAMERA,
    accepts_numbers=True,
    parse=checked_by(lambda text: parse_frames("camera_strength", text, LONGEST_CLIP, MOST_STRENGTH)),
)
CAMERA_START = further(
    0.0,
    "Camera start",
    "Fraction of the sampling steps after which the camera begins to act.",
    CAMERA,
    minimum=0,
    maximum=1,
)
CAMERA_END = further(
    1.0,
    "Camera end",
    "Fraction of the sampling steps after which the camera no longer acts.",
    CAMERA,
    minimum=0,
    maximum=1,
)
CAMERA_EVERY = further(
    1,
    "Every n-th pose",
    "Takes each n-th pose of a file, such as 4 of a video with 30 frames per second.",
    CAMERA,
    minimum=1,
    maximum=MOST_EVERY,
)
CONTROL_IMAGES = further(
    "",
    "Images of the units",
    "One image per frame for a ControlNet unit: 0: in/walk.mp4, 1: in/poses; 0@8: in/a.png is an image at frame 8. "
    "Without a number: for all units.",
    CONTROLNET,
    parse=checked_by(parse_unit_images),
)
CONTROL_WEIGHT = further(
    NO_FACTOR,
    "Weights over frames",
    "Factor on the weights of ControlNet units over the frames, 0 to 2, such as 0: 1, 12: 0.4. One for all units, or "
    "one for each: 1; 0: 1, 8: 0.",
    CONTROLNET,
    accepts_numbers=True,
    parse=checked_by(parse_unit_weights),
)
CONTROL_FILL = further(
    HOLD,
    "With fewer images than frames",
    "What frames have beyond the last image of a ControlNet unit.",
    CONTROLNET,
    choices=FILLS,
    meanings={
        "hold": "the last one",
        "stretch": "all images are spread over the clip",
        "loop": "they start again",
        "refuse": "the clip is refused",
    },
)
CONTROL_REACH = further(
    REACH,
    "Reach of images at frames",
    "Frames from a unit's image at a frame to the first one that it does not change.",
    CONTROLNET,
    minimum=1,
    maximum=_MOST_REACH,
)
CONTROL_START = further(
    FROM_START,
    "Starts over frames",
    "Share of the steps after which ControlNet units begin, within their own, such as 0: 0, 12: 0.4. One for all "
    "units, or one for each: 0; 0.2.",
    CONTROLNET,
    accepts_numbers=True,
    parse=checked_by(lambda text: parse_unit_shares("control_start", text)),
)
CONTROL_END = further(
    TO_END,
    "Ends over frames",
    "Share of the steps after which ControlNet units end, within their own, such as 0: 1, 12: 0.4. One for all units, "
    "or one for each: 1; 0.6.",
    CONTROLNET,
    accepts_numbers=True,
    parse=checked_by(lambda text: parse_unit_shares("control_end", text)),
)
CONTROL_MASKS = further(
    "",
    "Masks of the units",
    "White where a ControlNet unit acts: one image per frame, or one for all, such as 0: in/masks, 1: in/left.png. "
    "Without a number: for all units.",
    CONTROLNET,
    parse=checked_by(parse_unit_masks),
)
