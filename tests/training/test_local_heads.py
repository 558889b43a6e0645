"""Heads that begin with neighbouring frames."""

from __future__ import annotations

import pytest
import torch
from training import parts

from lib_animatediff.training import TrainingError
from lib_animatediff.training.local_heads import OFFSETS, look_nearby
from lib_animatediff.training.trainables import target_of
from motion_module import MotionModule
from motion_module.kinds import KINDS
from motion_module.network import Layout
from motion_module.temporal_transformer import HEADS


def looks_at(attention, frames=16):
    """How much each head looks from frame to frame where there are only positions: heads, frames, frames."""
    positions = attention.pe[0, :frames]
    query, key = (
        layer(positions).view(frames, HEADS, -1).transpose(0, 1) for layer in (attention.to_q, attention.to_k)
    )
    return (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)


@pytest.mark.parametrize("channels", [64, 320])
def test_each_head_looks_most_at_the_frame_of_its_offset(channels):
    motion = MotionModule.fresh(Layout(((channels,),), None, (), 32), KINDS["v2"])
    look_nearby(motion)
    ((_, transformer),) = motion.sites()
    first, second = transformer.transformer_blocks[0].attention_blocks
    seen = looks_at(first)
    for head, offset in enumerate(OFFSETS):
        for frame in range(max(0, -offset), min(16, 16 - offset)):
            assert int(seen[head, frame].argmax()) == frame + offset
    assert float(seen.detach().amax(-1).mean()) > 0.25
    assert float(looks_at(second).detach().amax(-1).mean()) < 0.1  # as torch's defaults leave it: all frames alike


def test_a_new_module_with_them_still_leaves_the_unet_as_it_is(tmp_path):
    base = parts.small_base()
    rows, text = torch.randn(4, 4, 8, 8), torch.randn(4, 3, base.unet.config.cross_attention_dim)
    with torch.no_grad():
        plain = base.unet(rows, 500, text).sample
        with target_of(parts.settings(tmp_path, local_heads=True), base.unet) as target, target.inside(base.unet, 4):
            assert torch.equal(base.unet(rows, 500, text).sample, plain)


def test_a_lora_refuses_them(tmp_path):
    with pytest.raises(TrainingError, match="leaves them as they are"):
        parts.settings(tmp_path, target="adapter", local_heads=True)
