"""What a clip's length costs in memory: peak of live tensor bytes while a clip is sampled in context windows.

    python -m tools.benchmarks.window_memory --frames 32 64 200

Stable Diffusion 1.5's UNet and a v1 motion module at full widths, random weights, float32, two streams together,
windows of 16 frames. Every tensor that comes to life while sampling counts from its first operation to its last
reference; latents and text conditions, which are one for each frame by nature, are subtracted. Nothing else is: the
doubled batch and the outputs' sums, in the latents' size too, stay in. With ``--device meta`` shapes only are computed,
in seconds.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib_animatediff import ContextWindows, inject
from motion_module import MotionModule
from motion_module.kinds import KINDS
from motion_module.network import Layout

SD15_WIDTHS = (320, 640, 1280, 1280)
TEXT = (77, 768)
PIXELS = 64
CFG_SCALE = 7.5


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations inside give out, as long as they live.

    Attributes:
        live: bytes that live now.
        peak: most bytes that lived at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and counts the storages that are new in its result."""
        inside = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in self._known | inside:
                    self._count(storage)
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def peak_of_sampling(
    unet: nn.Module,
    motion: MotionModule,
    frames: int,
    windows: ContextWindows,
    *,
    text: tuple[int, int] = TEXT,
    pixels: int = PIXELS,
    timesteps: Sequence[int] = (999, 500),
    device: str = "cpu",
) -> int:
    """Peak live bytes of sampling one clip with two streams, without its latents and text conditions."""
    side = pixels // 8
    with torch.no_grad(), LiveBytes() as memory, inject(unet, motion, frames=frames, windows=windows):
        latents = torch.randn(frames, 4, side, side, device=device)
        conditions = torch.randn(2 * frames, *text, device=device)
        for timestep in timesteps:
            rows = torch.cat([latents, latents])
            uncond, cond = unet(rows, timestep, encoder_hidden_states=conditions).sample.chunk(2)
            latents = latents - 0.5 * (uncond + CFG_SCALE * (cond - uncond))
            del rows, uncond, cond
    return memory.peak - latents.nbytes - conditions.nbytes


def sd15_unet(widths: Sequence[int] = SD15_WIDTHS, text_width: int = TEXT[1], device: str = "cpu") -> nn.Module:
    """Diffusers' UNet of Stable Diffusion 1.5 with random weights."""
    from diffusers import UNet2DConditionModel

    with torch.device(device):
        unet = UNet2DConditionModel(block_out_channels=tuple(widths), cross_attention_dim=text_width)
    return unet.eval().requires_grad_(False)


def v1_motion(widths: Sequence[int] = SD15_WIDTHS, device: str = "cpu") -> MotionModule:
    """A v1 motion module, which needs the most memory: it normalises over whole windows."""
    layout = Layout(
        down=tuple((width,) * 2 for width in widths),
        mid=None,
        up=tuple((width,) * 3 for width in reversed(widths)),
        trained_length=KINDS["v1"].table_length,
    )
    with torch.device(device):
        return MotionModule.fresh(layout, KINDS["v1"]).eval().requires_grad_(False)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Peak memory of sampling by the clip's length.")
    parser.add_argument("--frames", type=int, nargs="+", default=[32, 64, 200])
    parser.add_argument("--device", choices=("cpu", "meta"), default="cpu")
    asked = parser.parse_args()
    unet, motion = sd15_unet(device=asked.device), v1_motion(device=asked.device)
    print("| frames | peak live MiB | against the first |")
    print("|---|---|---|")
    first = None
    for frames in asked.frames:
        peak = peak_of_sampling(unet, motion, frames, ContextWindows(), device=asked.device)
        first = first or peak
        print(f"| {frames} | {peak / 2**20:.2f} | {peak / first - 1:+.2%} |", flush=True)


if __name__ == "__main__":
    main()
