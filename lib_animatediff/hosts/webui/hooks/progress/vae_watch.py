"""Watches the VAE while it decodes a batch frame by frame: counts frames, and ends early when the user interrupts.

Forge and reForge decode all frames in one call; this module replaces it by one call per frame. The WebUI's loop over
the frames cannot be left, so that an interrupt repeats the last frame without computing it; the repetitions are removed
from the batch afterwards. Only calls of the thread that samples count: the live preview decodes in another one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.patching import restore
from lib_animatediff.hosts.webui.compat import a1111

from .tasks import DECODE, DECODE_FIRST, ENCODE

_DECODE, _ENCODE = "decode_first_stage", "encode_first_stage"


class VaeWatch:
    """Counts the frames of one batch that the VAE of a checkpoint decodes.

    Args:
        model: the checkpoint; its methods are replaced until `close`.
        rows: frames of the batch. When all are decoded, the watch closes itself.
        is_interrupted: whether to end early. The first frame is always decoded.
        on_frames: called after a call with the kind of work and the number of frames done.
        between_passes: whether the frames are decoded and encoded for the second pass of hires fix.
    """

    def __init__(
        self,
        model: Any,
        rows: int,
        is_interrupted: Callable[[], bool],
        on_frames: Callable[[str, int], None],
        *,
        between_passes: bool = False,
    ) -> None:
        self.decoded = 0
        self._model = model
        self._rows = rows
        self._is_interrupted = is_interrupted
        self._on_frames = on_frames
        self._thread = threading.get_ident()
        self._between_passes = between_passes
        self._seen = self._encoded = 0
        self._last: Tensor | None = None
        self._undo: list[tuple[str, Any, Any]] = []
        self._replace(_DECODE, self._decode)
        if between_passes:
            self._replace(_ENCODE, self._encode)

    @property
    def is_cut_short(self) -> bool:
        """Whether frames were left out."""
        return self._seen > self.decoded

    def with_range_of_vae(self, images: Tensor) -> Tensor:
        """The decoded images ``f c h w`` from -1 to 1, as the VAE gives them.

        Forge Neo maps them to 0 to 1 between the passes, other programs only after both.
        """
        if self._last is None:
            return images
        seen, given = self._last[0].float().cpu(), images[self.decoded - 1].float().cpu()
        mapped = ((seen + 1) / 2).clamp(0, 1)
        is_mapped = (given - mapped).abs().max() < (given - seen).abs().max()
        return images * 2 - 1 if is_mapped else images

    def close(self) -> None:
        """Restore the checkpoint's methods."""
        while self._undo:
            name, ours, original = self._undo.pop()
            restore(self._model, name, ours, original)
        self._last = None

    def _replace(self, name: str, ours: Callable[..., Tensor]) -> None:
        original = getattr(self._model, name, None)
        if original is None:
            return

        def watched(z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if threading.get_ident() != self._thread:
                return original(z, *args, **kwargs)  # type: ignore[no-any-return]
            if name != _DECODE or len(z) < 2:
                return ours(partial(original, z, *args, **kwargs), len(z))
            return _stacked((ours(partial(original, row, *args, **kwargs), 1) for row in torch.split(z, 1)), len(z))

        setattr(self._model, name, watched)
        self._undo.append((name, watched, original))

    def _decode(self, compute: Callable[[], Tensor], rows: int) -> Tensor:
        self._seen += rows
        if self._last is not None and (self._is_cut_short_before(rows) or self._is_interrupted()):
            frames = self._last.repeat(rows, *[1] * (self._last.dim() - 1))
        else:
            frames = compute()
            self.decoded += rows
            self._last = frames[-1:]
            self._on_frames(DECODE_FIRST if self._between_passes else DECODE, self.decoded)
        if self._seen >= self._rows and not self._between_passes:
            self.close()
        return frames

    def _is_cut_short_before(self, rows: int) -> bool:
        """Whether frames before the last ``rows`` were left out."""
        return self._seen - rows > self.decoded

    def _encode(self, compute: Callable[[], Tensor], rows: int) -> Tensor:
        if self._is_interrupted():
            raise a1111.InterruptedSampling
        latents = compute()
        self._encoded += rows
        self._on_frames(ENCODE, self._encoded)
        return latents


def _stacked(images: Iterator[Tensor], count: int) -> Tensor:
    """Images ``1 c h w`` in one tensor, which they are copied to one after the other, so that none is held twice."""
    first = next(images)
    stacked = first.new_empty((count, *first.shape[1:]))
    for number, image in enumerate(chain([first], images)):
        stacked[number] = image[0]
    return stacked
