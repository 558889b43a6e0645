"""Clips that start from the frames of a video: in img2img as its init images, in txt2img as latents of their own.

Each frame starts from its own frame, with the noise of its seed, by the WebUI's image to image. Its first step adds
noise to the frame at any strength, and at the highest one the frame is still there. So at 0 the sampler does not run,
and at 1 it runs as in txt2img.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.patching import patch_next_call
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.hosts.webui.compat.denoiser import HIGHEST, encoded
from lib_animatediff.request.effects import Note
from lib_animatediff.request.motion_scale import parse_frames
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.settings.video import MOST_DENOISE
from lib_animatediff.request.start.taken_over import ClipSource, VideoIn
from lib_animatediff.video.hashing import file_hash
from lib_animatediff.video.source import over_white, source_frames
from motion_module import ClipError

from .held import HeldParts, has_parts
from .pinned import is_img2img, sample_from_noise, starts_from_noise

VIDEO_FIELD, HASH_FIELD = "Video", "Video hash"  # of infotexts, as the command line writes them
MASK_FIELD = "Video mask"
VIDEO_FIELDS = (VIDEO_FIELD, HASH_FIELD, MASK_FIELD)
HASH_LENGTH = 10  # as the WebUI shows hashes


def strength_of_tab(p: Any) -> float | None:
    """The denoising strength of img2img; None in txt2img, where it belongs to hires fix."""
    given = getattr(p, "denoising_strength", None) if is_img2img(p) else None
    return None if given is None else float(given)


def video_notes(p: Any, video: VideoIn | None, plan: ClipPlan, given: Collection[str]) -> list[Note]:
    """What the user should know about the clip and its source."""
    if video is None:
        return []
    found = video.notes(plan, plan.output.formats, str(p.sampler_name))
    asked = set(parse_frames("denoise", plan.settings.denoise, plan.frames, MOST_DENOISE))
    if is_img2img(p) and "denoise" in given and len(asked) == 1 and asked != {video.start.denoise}:
        found.append(Note("denoise", "has no effect in img2img, whose own denoising strength is used."))
    return found


def clip_source(p: Any, video: VideoIn, plan: ClipPlan) -> ClipSource:
    """What a clip takes over; also writes the source into the infotext of ``p``.

    Raises:
        ClipError: the sound is damaged.
    """
    path = video.start.source.path
    values = video.start.to_json(lambda file: {"name": file.name, "sha256": file_hash(file)})
    p.extra_generation_params[VIDEO_FIELD] = path.name
    p.extra_generation_params[HASH_FIELD] = values["sha256"][:HASH_LENGTH]
    if video.start.mask is not None:
        p.extra_generation_params[MASK_FIELD] = video.start.mask.name
    return ClipSource(video.sound(plan, plan.output.formats), {"video": values})


def refuse_two_masks(p: Any, plan: ClipPlan) -> None:
    """Refuse a mask of the clip beside the one of img2img.

    Raises:
        ClipError: there are both.
    """
    if plan.video is not None and plan.video.mask is not None and getattr(p, "image_mask", None) is not None:
        raise ClipError(
            f"img2img has a mask, and the clip has {plan.video.mask.name} as another one. Remove one of them.",
            code="AD-V75",
        )


def one_image(p: Any) -> list[Any]:
    """One init image, with which img2img reaches a refusal; a black one where a video was to take its place.

    With several images, or with none, the WebUI's own error would come first.
    """
    from PIL import Image

    given = next((image for image in p.init_images or () if image is not None), None)
    return [given or Image.new("RGB", (int(p.width), int(p.height)))]


def begins_from_images(p: Any, plan: ClipPlan) -> bool:
    """Whether the sampler of the first pass begins from frames of images.

    At full strength a video is left out, unless a mask keeps parts of it.
    """
    if plan.video is not None and getattr(p, "mask", None) is None:
        return plan.video.is_used
    if starts_from_noise(p, plan):
        return False
    return getattr(p, "init_latent", None) is not None


def sampled_steps(p: Any, plan: ClipPlan) -> int:
    """The steps of one run of the first pass, which begins in the middle with an image."""
    strength = getattr(p, "denoising_strength", None) if is_img2img(p) else None
    if plan.video is not None:
        strength = plan.video.strongest
    if strength is None or a1111.img2img_samples_all_steps():
        return int(p.steps)
    return int(min(strength, HIGHEST) * p.steps) + 1


class FirstFrames:
    """The frames of the source video of one request; nothing happens without one."""

    def __init__(self, plan: ClipPlan) -> None:
        self._plan = plan
        self._latents: Tensor | None = None
        self._held: HeldParts | None = None

    def init_images(self, p: Any) -> list[Any] | None:
        """The frames as init images of img2img; None if there are others.

        Raises:
            ClipError: the source cannot be read.
        """
        video = self._plan.video
        if video is None or not is_img2img(p):
            return None
        mask = getattr(p, "image_mask", None)
        # "Only masked" cuts the same part out of image and mask.
        size = mask.size if mask is not None and p.inpaint_full_res else (int(p.width), int(p.height))
        return list(source_frames(video.source, size, len(self._plan.rendered)))

    def strength_of_frames(self, p: Any) -> float | None:
        """The denoising strength with which img2img begins if each frame has its own; None: the tab's stays."""
        video = self._plan.video
        return video.strongest if video and is_img2img(p) and isinstance(video.denoise, tuple) else None

    @contextmanager
    def encoded_alike(self) -> Iterator[None]:
        """Inside, the VAE encodes given images without noise, so that the same clip can be made again."""
        if self._plan.video is None and self._plan.pins is None and self._plan.ramp is None:
            yield
            return
        with a1111.encoding_means():
            yield

    def load(self, p: Any) -> None:
        """Read the masks, and encode the frames for txt2img, with the request's checkpoint.

        Raises:
            ClipError: the source cannot be read.
        """
        video = self._plan.video
        size = int(p.width), int(p.height)
        if video is not None and has_parts(video) and self._held is None:
            self._held = HeldParts(video, len(self._plan.rendered), size)
        if video is None or not video.is_used or is_img2img(p) or self._latents is not None:
            return
        with a1111.encoding_means(), torch.no_grad():
            frames = source_frames(video.source, size, len(self._plan.rendered))
            self._latents = torch.cat([encoded(over_white(frame), p.sd_model) for frame in frames])

    def before_sampling(self, p: Processing) -> None:
        """Make the sampler of the first pass begin with the video. Called in the hook before every sampling."""
        video = self._plan.video
        if video is None or p.is_hr_pass:
            return
        if is_img2img(p):
            if video.strongest == 0:
                patch_next_call(p.sampler, "sample_img2img", _return_given)
            elif not begins_from_images(p, self._plan):
                patch_next_call(p.sampler, "sample_img2img", sample_from_noise)
            elif self._held is not None:
                patch_next_call(p.sampler, "sample_img2img", self._held.sample)
        elif video.is_used:
            patch_next_call(p.sampler, "sample", self._sample_from_video)

    def _sample_from_video(
        self, _sample: Any, p: Any, x: Tensor, *args: Any, steps: int | None = None, **kwargs: Any
    ) -> Tensor:
        """Replaces ``Sampler.sample`` of txt2img."""
        assert self._plan.video is not None
        assert self._latents is not None
        clips = len(x) // len(self._latents)
        latents = self._latents.to(x).repeat(clips, 1, 1, 1)
        strength = self._plan.video.strongest
        if strength == 0:
            return latents
        run = p.sampler.sample_img2img
        with _denoising(p, strength):
            if self._held is not None:
                return self._held.sample(run, p, latents, x, *args, steps=steps, **kwargs)
            return run(p, latents, x, *args, steps=steps, **kwargs)  # type: ignore[no-any-return]


def _return_given(_sample: Any, _p: Any, x: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    """Replaces ``Sampler.sample_img2img`` at a denoising strength of 0, where the WebUI still runs one step."""
    return x.clone()


@contextmanager
def _denoising(p: Any, strength: float) -> Iterator[None]:
    """The denoising strength of a run: that of txt2img belongs to the second pass of hires fix."""
    former = p.denoising_strength
    p.denoising_strength = strength
    try:
        yield
    finally:
        p.denoising_strength = former
