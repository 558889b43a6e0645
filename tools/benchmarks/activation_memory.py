"""What one call of the UNet takes in memory: peak of live tensor bytes by rows, size of the picture and tokens.

    python -m tools.benchmarks.activation_memory    # the table and the fit, in a minute or two
    python -m tools.benchmarks.activation_memory --computed --base sd15 --dtype float32 --rows 8 --sides 32
    python -m tools.benchmarks.activation_memory --plain                # without a motion module
    python -m tools.benchmarks.activation_memory --processor            # with what spares a processor's cache

LDM's UNet with a motion module of the widest kind at full widths, its attention through torch's fused kernel, which is
what the WebUI takes unless it is told otherwise; other ones hold a matrix of all positions by all positions, or pieces
of it, on top. SDXL's has one transformer block at a place instead of two or ten: they run one after the other
and keep nothing. In float16 the norms run in float32, as under the WebUI's autocast. Every tensor counts from its
first operation to its last reference, the call's latents and text conditions among them; what an operation needs inside
itself (a convolution's workspace, say) does not, nor do weights.

Without ``--computed`` only shapes are computed, on tensors without numbers (torch's ``FakeTensorMode``, torch 2.3).
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from lib_animatediff import inject
from motion_module import MotionModule, temporal_transformer
from motion_module.kinds import KINDS
from motion_module.network import Layout

from .window_memory import SD15_WIDTHS, LiveBytes

WIDTHS = {"sd15": SD15_WIDTHS, "sdxl": SD15_WIDTHS[:3]}
TEXT_WIDTHS = {"sd15": 768, "sdxl": 2048}
POOLED = 2816  # SDXL's pooled text and sizes
ROWS, SIDES, TOKENS = (8, 32), (32, 64, 96), (77, 231)
BYTES = {torch.float32: 4, torch.float16: 2}


class Autocast(TorchFunctionMode):
    """CUDA's autocast where there is no CUDA: norms in float32 whatever comes in, products in float16."""

    _IN_FULL = (F.group_norm, F.layer_norm)
    _IN_HALF = (F.linear, F.conv2d, torch.conv2d, F.scaled_dot_product_attention)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation on arguments in the precision that it is given under autocast."""
        dtype = torch.float32 if func in self._IN_FULL else torch.float16 if func in self._IN_HALF else None
        if dtype is not None:
            args = tuple(a.to(dtype) if isinstance(a, Tensor) else a for a in args)
            kwargs = {k: a.to(dtype) if isinstance(a, Tensor) else a for k, a in (kwargs or {}).items()}
        return func(*args, **(kwargs or {}))


def fused_attention(self: Any, x: Tensor, context: Tensor | None = None) -> Tensor:
    """LDM's cross attention through torch's fused kernel; in LDM itself it holds all positions by all positions."""
    given = x if context is None else context
    q, k, v = (
        part.unflatten(2, (self.heads, -1)).transpose(1, 2)
        for part in (self.to_q(x), self.to_k(given), self.to_v(given))
    )
    return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def unet_of(base: str) -> nn.Module:
    """LDM's UNet of Stable Diffusion 1.5, or sgm's of SDXL from its parts, at full widths."""
    from ldm.modules.attention import CrossAttention
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    is_xl = base == "sdxl"
    unet = UNetModel(
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=WIDTHS[base][0],
        attention_resolutions=[4, 2] if is_xl else [4, 2, 1],
        num_res_blocks=2,
        channel_mult=[1, 2, 4] if is_xl else [1, 2, 4, 4],
        **{"num_head_channels": 64} if is_xl else {"num_heads": 8},
        use_spatial_transformer=True,
        transformer_depth=1,
        context_dim=TEXT_WIDTHS[base],
        use_linear_in_transformer=is_xl,
        use_checkpoint=False,
        legacy=False,
        num_classes=1 if is_xl else None,
    )
    if is_xl:
        width = 4 * WIDTHS[base][0]
        unet.label_emb = nn.Sequential(nn.Linear(POOLED, width), nn.SiLU(), nn.Linear(width, width))
    for layer in unet.modules():
        if isinstance(layer, CrossAttention):
            layer.forward = fused_attention.__get__(layer)
    return unet.eval().requires_grad_(False)


def motion_of(base: str, length: int) -> MotionModule:
    """A motion module with a place in the middle where the base has them, for clips of any length."""
    kind = KINDS["v2" if base == "sd15" else "sdxl"]
    widths = WIDTHS[base]
    layout = Layout(
        down=tuple((width,) * 2 for width in widths),
        mid=widths[-1] if base == "sd15" else None,
        up=tuple((width,) * 3 for width in reversed(widths)),
        trained_length=length,
    )
    return MotionModule.fresh(layout, kind).eval().requires_grad_(False)


@contextmanager
def as_on_a_graphics_card() -> Iterator[None]:
    """On a processor the motion module goes in pieces that its cache holds."""
    with patch.object(temporal_transformer, "_on_processor", lambda _x: False):
        yield


def peak_of_call(
    unet: nn.Module,
    motion: MotionModule | None,
    base: str,
    rows: int,
    height: int,
    width: int,
    tokens: int,
    dtype: torch.dtype,
) -> int:
    """Peak live bytes of one call on one clip of ``rows`` frames, whose latents are ``height`` by ``width``."""
    half = Autocast() if dtype == torch.float16 else nullcontext()
    animated = nullcontext() if motion is None else inject(unet, motion, frames=rows)
    with torch.no_grad(), half, LiveBytes() as memory, animated:
        latents = torch.randn(rows, 4, height, width, dtype=dtype)
        text = torch.randn(rows, tokens, TEXT_WIDTHS[base], dtype=dtype)
        pooled = {"y": torch.randn(rows, POOLED, dtype=dtype)} if base == "sdxl" else {}
        unet(latents, torch.full((rows,), 500), context=text, **pooled)
    return memory.peak


def fit(cases: Sequence[tuple[int, int, int]], peaks: Sequence[int]) -> tuple[float, float]:
    """Bytes per row and latent pixel, and per row and token, by least squares of the relative errors.

    Args:
        cases: rows, latent pixels and tokens of each measurement.
        peaks: what was measured.
    """
    terms = torch.tensor([(rows * pixels, rows * tokens) for rows, pixels, tokens in cases], dtype=torch.float64)
    measured = torch.tensor(peaks, dtype=torch.float64).unsqueeze(1)
    solution = torch.linalg.lstsq(terms / measured, torch.ones_like(measured)).solution
    return float(solution[0]), float(solution[1])


def main() -> None:
    """Print the table and the fit of each base and precision."""
    parser = argparse.ArgumentParser(description="Peak memory of one call of the UNet.")
    parser.add_argument("--base", choices=tuple(WIDTHS), nargs="+", default=list(WIDTHS))
    parser.add_argument("--dtype", choices=("float32", "float16"), nargs="+", default=["float32", "float16"])
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES), help="of the square latents")
    parser.add_argument("--tokens", type=int, nargs="+", default=list(TOKENS))
    parser.add_argument("--computed", action="store_true", help="with numbers; takes long, and all the memory it says")
    parser.add_argument("--plain", action="store_true", help="without a motion module")
    parser.add_argument("--processor", action="store_true", help="not as a graphics card would do it")
    asked = parser.parse_args()
    with nullcontext() if asked.processor else as_on_a_graphics_card():
        measure(asked)


def measure(asked: argparse.Namespace) -> None:
    """All that is asked for."""
    print("| base | precision | rows | latents | tokens | peak MiB | bytes per row and latent pixel |")
    print("|---|---|---|---|---|---|---|")
    for base, name in itertools.product(asked.base, asked.dtype):
        dtype = getattr(torch, name)
        cases, peaks = [], []
        with nullcontext() if asked.computed else FakeTensorMode(), torch.device("cpu"):
            torch.set_default_dtype(dtype)  # tensors without numbers cannot be turned into others' place
            unet, motion = unet_of(base), None if asked.plain else motion_of(base, max(asked.rows))
            torch.set_default_dtype(torch.float32)
            unet.dtype = dtype  # LDM's cast of what comes in
            for rows, side, tokens in itertools.product(asked.rows, asked.sides, asked.tokens):
                peak = peak_of_call(unet, motion, base, rows, side, side, tokens, dtype)
                cases.append((rows, side**2, tokens))
                peaks.append(peak)
                each = peak / rows / side**2
                print(f"| {base} | {name} | {rows} | {side} x {side} | {tokens} | {peak / 2**20:.1f} | {each:.0f} |")
        if len(peaks) > 1:
            per_pixel, per_token = fit(cases, peaks)
            told = [rows * (per_pixel * pixels + per_token * tokens) for rows, pixels, tokens in cases]
            worst = max(abs(said / peak - 1) for said, peak in zip(told, peaks, strict=True))
            print(f"\n{base} {name}: {per_pixel:.0f} bytes per row and latent pixel, {per_token:.0f} per row and token")
            print(f"(off by {worst:.1%} at most)\n", flush=True)


if __name__ == "__main__":
    main()
