"""What infotext, recipe and notes of a clip in the WebUI say about the images that it starts from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from lib_animatediff.hosts.webui.catalog.uploads import kept_image
from lib_animatediff.request.effects import Note
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.settings import SETTINGS
from lib_animatediff.request.start.images import OF_INIT_IMAGES, ramp_is_plain
from lib_animatediff.request.start.pins import in_words
from lib_animatediff.request.start.taken_over import ClipSource
from lib_animatediff.video.hashing import file_hash
from motion_module import ClipError

from .pinned import HASHES_FIELD, PINS_FIELD, starts_from_noise
from .video import HASH_LENGTH, VIDEO_FIELDS

LAST_FIELD = "Last frame hash"
SOURCE_FIELDS = (*VIDEO_FIELDS, PINS_FIELD, HASHES_FIELD, LAST_FIELD)
_OUR_WAY = (
    "mixes the init image into the noise as sd-webui-animatediff does, which washes frames out and keeps none of them. "
    "pin_init, or image and last_image, make frames equal their images and join the clip to them."
)


def init_image_path(p: Any) -> str | None:
    """The path of the init image, which is stored for it; None in txt2img.

    Raises:
        ClipError: there is not one init image.
    """
    images = getattr(p, "init_images", None)
    if images is None:
        return None
    # The tab's batch sends the same one for each image of a batch.
    if not images or images[0] is None or any(each is not images[0] for each in images):
        raise ClipError(
            f"pin_init makes the init image frame 0, but {len(images)} init images were sent. Send one, or send image.",
            code="AD-W43",
        )
    return kept_image(images[0])


def images_source(p: Any, plan: ClipPlan, source: ClipSource | None) -> ClipSource | None:
    """What the clip's files take over, with the images' names and hashes; also writes them into the infotext of ``p``.

    Args:
        source: from a source video.
    """
    recipe: dict[str, Any] = {}
    if plan.pins is not None:
        recipe["pins"] = plan.pins.to_json(_named)
        hashes = {entry["name"]: entry["sha256"][:HASH_LENGTH] for entry in recipe["pins"]["frames"]}
        p.extra_generation_params[PINS_FIELD] = in_words(plan.pins)
        p.extra_generation_params[HASHES_FIELD] = ", ".join(f"{name}: {digest}" for name, digest in hashes.items())
    if plan.ramp is not None and plan.ramp.last_image is not None:
        recipe["last_frame"] = _named(plan.ramp.last_image)
        p.extra_generation_params[LAST_FIELD] = recipe["last_frame"]["sha256"][:HASH_LENGTH]
    if not recipe:
        return source
    return ClipSource(None, recipe) if source is None else ClipSource(source.sound, {**source.recipe, **recipe})


def image_notes(p: Any, plan: ClipPlan, asked: dict[str, Any], given: Collection[str]) -> list[Note]:
    """What the user should know about the clip and its images.

    Args:
        asked: the values of the request.
        given: names of the settings that it gives.
    """
    if not hasattr(p, "init_images"):
        idle = [name for name in OF_INIT_IMAGES if name in given and not ramp_is_plain(name, asked.get(name))]
        return [Note(name, "has no effect in txt2img, which has no init image.") for name in idle]
    found = [] if plan.ramp is None else [Note("latent_scale", _OUR_WAY)]
    shares = plan.pins is not None and plan.video is None and not starts_from_noise(p, plan)
    if shares and plan.settings.pin_inversion != SETTINGS["pin_inversion"].default:
        text = "acts in img2img at a denoising strength of 1 without a mask; otherwise all frames start from the image."
        found.append(Note("pin_inversion", text))
    return found


def _named(path: Path) -> dict[str, Any]:
    return {"name": path.name, "sha256": file_hash(path)}
