"""The norm that each temporal transformer begins with: over a clip's frames for SDXL beta, else frame by frame."""

from __future__ import annotations

import pytest
import torch
from support.matrix import every_once

from motion_module.kinds import KINDS
from motion_module.network import Layout, MotionModule
from motion_module.temporal_transformer import TemporalTransformer

LAYOUT = Layout(down=((32, 32),), mid=None, up=((32, 32, 32),), trained_length=16)


def literal_norm(x, frames, weight, bias, *, shared):
    """Group by group: subtract the mean, divide by the deviation; of all frames of a clip if shared, else of each."""
    out = torch.empty_like(x)
    size = x.shape[1] // 32
    rows = frames if shared else 1
    for start in range(0, x.shape[0], rows):
        for group in range(32):
            at = (slice(start, start + rows), slice(group * size, (group + 1) * size))
            values = x[at]
            mean = values.mean()
            variance = ((values - mean) ** 2).mean()
            out[at] = (values - mean) / torch.sqrt(variance + 1e-6)
    return out * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)


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
    wanted = literal_norm(x, frames, transformer.norm.weight, transformer.norm.bias, shared=kind == "sdxl")
    torch.testing.assert_close(normed, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_takes_its_statistics_in_float32(dtype):
    """The sum of squares alone is too large for float16."""
    transformer = TemporalTransformer(32, 16, shared_norm=True).to(dtype)
    x = (torch.randn(8, 32, 32, 32) * 30).to(dtype)
    with torch.no_grad():
        normed = transformer._normalised_over_clips(x, 8)
    assert normed.dtype == dtype
    wanted = literal_norm(x.double(), 8, torch.ones(32), torch.zeros(32), shared=True)
    torch.testing.assert_close(normed.double(), wanted, atol=2 ** (-9 if dtype == torch.float16 else -6), rtol=2**-7)
