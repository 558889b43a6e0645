"""The existing extension's image to video in img2img: init latents that fade into noise, see `sampling.image_start`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.denoiser import encoded
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.sampling.image_start import image_start
from lib_animatediff.video.source import Source, examine, over_white, source_frames

_LATENT_RESIZE = 3  # "Just resize (latent upscale)", which resizes latents instead of images


class InitRamp:
    """The images in the initial latents of one request; nothing happens without a ramp."""

    def __init__(self, plan: ClipPlan) -> None:
        self._plan = plan
        self._last: Tensor | None = None

    @contextmanager
    def mixed(self, p: Any) -> Iterator[None]:
        """Inside, the init latents of ``p`` fade into noise: the first draw of its generators, as there.

        The sampler then adds their second draw.

        Raises:
            ClipError: the image of the last frame cannot be read.
        """
        if self._plan.ramp is None or getattr(p, "init_latent", None) is None:
            yield
            return
        former = p.init_latent
        p.init_latent = self._latents(p, former)
        try:
            yield
        finally:
            p.init_latent = former

    def _latents(self, p: Any, init: Tensor) -> Tensor:
        ramp, frames = self._plan.ramp, len(self._plan.rendered)
        assert ramp is not None
        noise = p.rng.next()
        rows = init.to(noise).expand_as(noise)
        last = self._last_latents(p)
        clips = zip(torch.split(noise, frames), torch.split(rows, frames), strict=True)
        return torch.cat([image_start(own, images, ramp.first, last, ramp.last) for own, images in clips])

    def _last_latents(self, p: Any) -> Tensor | None:
        """The latents of the last frame's image, ``c h w``."""
        assert self._plan.ramp is not None
        path = self._plan.ramp.last_image
        if path is not None and self._last is None:
            given = over_white(next(_as_stored(path))).convert("RGB")
            with a1111.encoding_means(), torch.no_grad():
                self._last = encoded(_resized(p, given), p.sd_model)[0]
        return self._last


def _resized(p: Any, image: Any) -> Any:
    """An image in the size of ``p``, as the WebUI resizes its init images."""
    mode = 0 if p.resize_mode == _LATENT_RESIZE else p.resize_mode
    return a1111.resized(image, mode, (int(p.width), int(p.height)))


def _as_stored(path: Path) -> Iterator[Any]:
    """The image of a file in its own size."""
    source = Source(path, end=0)
    return source_frames(source, examine(source, frames=1).size, 1)
