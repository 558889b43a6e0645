"""The norm that each temporal transformer begins with: over a clip's frames for SDXL beta, else frame by frame."""

from __future__ import annotations

import pytest
import torch
from support.matrix import every_once
from support.oracle import literal_clip_norm

from motion_module.kinds import KINDS
from motion_module.network import Layout, MotionModule
from motion_module.temporal_transformer import TemporalTransformer

LAYOUT = Layout(down=((32, 32),), mid=None, up=((32, 32, 32),), trained_length=16)


@pytest.mark.parametrize(("kind", "shape"), every_once(KINDS, [(1, 1), (1, 5), (2, 3), (3, 4)]))
def test_the_norm_is_that_of_the_training(kind, shape):
    clips, frames = shape
    _, transformer = next(MotionModule(LAYOUT, KINDS[kind]).sites())
    for weight in transformer.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    transformer = transformer.double().eval()
    brightness = torch.arange(clips * frames, dtype=torch.float64).view(-1, 1, 1, 1)  # tells frames and clips apart
    x = torch.randn(clips * frames, 32, 3, 5, dtype=torch.float64) * (1 + brightness) + brightness
    seen = []
    transformer.proj_in.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    with torch.no_grad():
        transformer(x, frames)
    rows = seen[0].reshape(len(x), 3 * 5, 32)  # (b f) d c
    normed = rows.permute(0, 2, 1).reshape(len(x), 32, 3, 5)
    together = frames if kind == "sdxl" else 1
    wanted = literal_clip_norm(x, together, transformer.norm.weight, transformer.norm.bias)
    torch.testing.assert_close(normed, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_takes_its_statistics_in_float32(dtype):
    """The sum of squares alone is too large for float16."""
    transformer = TemporalTransformer(32, 16, shared_norm=True).to(dtype)
    x = (torch.randn(8, 32, 32, 32) * 30).to(dtype)
    with torch.no_grad():
        normed = transformer._normalised_over_clips(x, 8)
    assert normed.dtype == dtype
    wanted = literal_clip_norm(x.double(), 8, torch.ones(32), torch.zeros(32))
    torch.testing.assert_close(normed.double(), wanted, atol=2 ** (-9 if dtype == torch.float16 else -6), rtol=2**-7)
