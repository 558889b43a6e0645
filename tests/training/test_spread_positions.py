"""Frames that are numbered as in the video."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from training import parts

from lib_animatediff.training import MemorySource, TrainingError, train
from lib_animatediff.training.trainables import target_of
from motion_module import load_motion_module
from motion_module.temporal_transformer import TemporalAttention, positional_table

SPREAD = {"frames": 4, "stride": 3, "spread_positions": True}


def attentions(motion):
    return [layer for layer in motion.modules() if isinstance(layer, TemporalAttention)]


def test_every_attention_sees_the_positions_that_the_frames_have_in_the_video(tmp_path):
    base = parts.small_base()
    with target_of(parts.settings(tmp_path, **SPREAD), base.unet) as target:
        for layer in attentions(target.motion):
            table = positional_table(32, layer.to_q.in_features)
            assert torch.equal(layer.pe[0, :4], table[0, [0, 3, 6, 9]])


def test_the_file_has_the_usual_tables_and_its_motion_module_the_usual_positions(tmp_path):
    base, clips = parts.small_base(parts.small_unet()), MemorySource(parts.latent_clips(1, 12), latents=True)
    path = train(parts.settings(tmp_path, **SPREAD, steps=1, batch=1), base=base, clips=clips)
    tables = {name: table for name, table in load_file(path).items() if name.endswith(".pos_encoder.pe")}
    assert tables
    for table in tables.values():
        assert torch.equal(table.float(), positional_table(32, table.shape[-1]).to(table.dtype).float())
    for layer in attentions(load_motion_module(path)):
        assert torch.equal(layer.pe, positional_table(32, layer.to_q.in_features))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "motion-lora", "motion": "mm.safetensors", "stride": 2}, "leaves it as it is"),
        ({"target": "controlnet", "stride": 2}, "leaves it as it is"),
        ({"stride": 1}, "has no effect"),
        ({"stride": 2, "frames": 1}, "has no effect"),
    ],
)
def test_it_is_refused_where_it_does_nothing(tmp_path, settings, message):
    with pytest.raises(TrainingError, match=message):
        parts.settings(tmp_path, **{"spread_positions": True, **settings})


def test_positions_beyond_the_table_are_refused(tmp_path):
    base = parts.small_base()
    settings = parts.settings(tmp_path, frames=16, stride=3, spread_positions=True)
    with pytest.raises(TrainingError, match="position 45"), target_of(settings, base.unet):
        pass
