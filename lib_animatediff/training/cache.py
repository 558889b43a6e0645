"""Cache of encoded videos, filled before the training. Clips are still cut anywhere, and latents sampled each time.

One file per video, size and VAE holds the mean and standard deviation of every frame. All processes fill it together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from motion_module.files.atomic import atomic_write

from .clips import BrokenClipError, Clip, Cut
from .latents import FRAMES_AT_ONCE, moments
from .settings import TrainingSettings
from .videos import VideoSource


class CachedSource:
    """The clips of a video source as latents. Videos that are not cached are read from the source.

    Args:
        source: the videos.
        folder: folder of the cache.
        vae: the VAE that encodes them.
        settings: size and shape of the frames.
    """

    def __init__(self, source: VideoSource, folder: Path, vae: Any, settings: TrainingSettings) -> None:
        self._source = source
        self._folder = folder
        self._shape = (settings.size, settings.buckets, _fingerprint(vae))
        self._mirrors = (False, True) if settings.mirror else (False,)

    def __len__(self) -> int:
        return len(self._source)

    def name(self, index: int) -> str:
        """The video's name."""
        return self._source.name(index)

    def read(self, index: int, cut: Cut) -> Clip:
        """See `Source.read`."""
        path = self._path(index, cut.mirror)
        if path is None or not path.exists():
            return self._source.read(index, cut)  # reports what is wrong with it
        with safe_open(path, framework="pt") as file:
            mean, deviation = file.get_slice("mean"), file.get_slice("deviation")
            length = mean.get_shape()[0]
            indices, poses = cut.indices(length), self._source.poses(index, cut, length)
            span = slice(indices[0], indices[-1] + 1)
            places = [index - indices[0] for index in indices]
            caption = self._source.caption(index)
            return Clip(caption, mean=mean[span][places], deviation=deviation[span][places], poses=poses)

    def fill(self, vae: Any, *, process: int, processes: int) -> None:
        """Encode this process's share of the missing videos; unreadable ones are skipped."""
        share = range(process, len(self), processes)
        for index in tqdm(share, desc="Encoding", disable=None if process == 0 else True):
            for mirror in self._mirrors:
                path = self._path(index, mirror)
                if path is not None and not path.exists():
                    self._encode(index, mirror, path, vae)

    def _encode(self, index: int, mirror: bool, path: Path, vae: Any) -> None:
        try:
            parts = [moments(vae, torch.stack(part)) for part in _chunks(self._source.whole(index, mirror=mirror))]
        except BrokenClipError:
            return
        dtype = next(vae.parameters()).dtype
        tensors = {
            name: torch.cat([part[i] for part in parts]).to(device="cpu", dtype=dtype).contiguous()
            for i, name in enumerate(("mean", "deviation"))
        }
        with atomic_write(path) as unfinished:
            save_file(tensors, unfinished)

    def _path(self, index: int, mirror: bool) -> Path | None:
        video = self._source.path(index)
        try:
            stat = video.stat()
        except OSError:
            return None
        key = (str(video.resolve()), stat.st_size, stat.st_mtime_ns, mirror, *self._shape)
        return self._folder / f"{video.stem}-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.safetensors"


def _chunks(frames: Iterator[Tensor]) -> Iterator[list[Tensor]]:
    """Yield batches of frames: a whole video does not fit into memory."""
    while part := list(islice(frames, FRAMES_AT_ONCE)):
        yield part


def _fingerprint(vae: Any) -> str:
    """Hash that distinguishes VAEs, whose latents are not interchangeable."""
    digest = hashlib.sha256(repr(float(vae.config.scaling_factor)).encode())
    for name, weight in vae.named_parameters():
        digest.update(f"{name} {weight.dtype} {float(weight.detach().double().sum()):.12g}".encode())
    return digest.hexdigest()
