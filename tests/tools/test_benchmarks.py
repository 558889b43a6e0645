"""What docs/performance.md rests on: pairs of one round, peers that compute the same, the peak of a call."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support.matrix import every_once
from torch._subclasses.fake_tensor import FakeTensorMode

from lib_animatediff import ContextWindows, FeatureReuse, inject
from lib_animatediff.sampling.guidance import GuidanceInterval
from lib_animatediff.video import write_clip
from motion_module import temporal_transformer
from motion_module.temporal_transformer import TemporalTransformer
from tools.benchmarks import cheaper_steps, continue_seams, motion_speed, peers, window_memory
from tools.benchmarks.activation_memory import as_on_a_graphics_card, motion_of, peak_of_call, unet_of


@torch.no_grad()
def test_the_peer_computes_the_same_but_for_its_norm():
    """Diffusers' transformer with our weights; its norm is over the clip, as the SDXL beta's is."""
    ours = TemporalTransformer(32, 32, shared_norm=True).eval()
    x = torch.randn(8, 32, 4, 4)
    motion = SimpleNamespace(trained_length=32, sites=lambda: [("site", ours)])
    theirs = peers.of_diffusers(motion, 8)("site")(x)
    assert (theirs - ours(x, 8)).abs().max() < 1e-5
    ours.shared_norm = False
    assert (theirs - ours(x, 8)).abs().max() > 1e-3


@torch.no_grad()
def test_the_bare_products_are_those_of_a_transformer():
    """As many multiplications as the layers of one transformer make, of the same sizes."""
    from torch.utils.flop_counter import FlopCounterMode

    ours = TemporalTransformer(32, 32).eval().requires_grad_(False)  # training attends otherwise
    motion = SimpleNamespace(sites=lambda: [("site", ours)])
    with FlopCounterMode(display=False) as bare:
        peers.bare_products(motion, {"site": torch.randn(8, 32, 4, 4)})()
    with FlopCounterMode(display=False) as whole, torch.enable_grad():  # sums in place are not counted
        ours(torch.randn(8, 32, 4, 4), 8)
    attention = sum(count for op, count in whole.get_flop_counts()["Global"].items() if "attention" in str(op))
    assert bare.get_total_flops() == whole.get_total_flops() - attention == 44 * 32**2 * 8 * 16


@pytest.mark.parametrize(("base", "place"), every_once(["sdxl", "sd15"], ["processor", "graphics card"]))
def test_a_motion_module_does_not_raise_the_peak_of_a_call(base, place):
    """At full widths, on shapes only; the bar is 1.05 times the plain call's."""
    where = as_on_a_graphics_card() if place == "graphics card" else nullcontext()
    with FakeTensorMode(), where:
        unet, motion = unet_of(base), motion_of(base, 8)
        plain, animated = (peak_of_call(unet, each, base, 8, 32, 32, 77, torch.float32) for each in (None, motion))
    assert animated <= 1.05 * plain


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pieces_and_rows_change_nothing(monkeypatch, dtype):
    transformer = TemporalTransformer(64, 32).eval().to(dtype)
    for weight in transformer.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    x = torch.randn(6, 64, 7, 5).to(dtype)
    whole = transformer(x, 3)
    for name, value in (("CPU_PIECE", 2000), ("CPU_ROWS", 7)):
        monkeypatch.setattr(temporal_transformer, name, value)
        torch.testing.assert_close(transformer(x, 3), whole, atol=2e-2 if dtype == torch.bfloat16 else 1e-5, rtol=1e-2)
    monkeypatch.setattr(temporal_transformer, "_on_processor", lambda _: False)
    monkeypatch.setattr(temporal_transformer, "ROWS_OF_A_PART", 5)
    torch.testing.assert_close(transformer(x, 3), whole, atol=2e-2 if dtype == torch.bfloat16 else 1e-5, rtol=1e-2)


@torch.no_grad()
def test_channels_last_in_and_out():
    transformer = TemporalTransformer(64, 32).eval()
    x = torch.randn(6, 64, 7, 5)
    last = x.to(memory_format=torch.channels_last)
    kept = last.clone()
    found = transformer(last, 3)
    torch.testing.assert_close(found, transformer(x, 3), atol=1e-5, rtol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, kept)
    strided = torch.randn(6, 64, 7, 10)[..., ::2]
    torch.testing.assert_close(transformer(strided, 3), transformer(strided.contiguous(), 3))


def test_with_and_without_gradients_is_the_same():
    """Sums in place and out of it; and a gradient goes through what training computes."""
    transformer = TemporalTransformer(64, 32)
    for weight in transformer.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    x = torch.randn(6, 64, 7, 5, requires_grad=True)
    with torch.no_grad():
        without = transformer(x, 3)
    found = transformer(x, 3)
    torch.testing.assert_close(found, without, atol=1e-5, rtol=1e-5)
    found.sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in transformer.parameters())
    numeric = transformer.double()
    small = torch.randn(2, 64, 1, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: numeric(given, 2).sum(), (small,))


@torch.no_grad()
@pytest.mark.parametrize("place", ["proj_in", "attention_blocks.1.to_out.0", "ff.net.0.proj", "ff.net.2", "proj_out"])
def test_what_is_put_around_a_layer_is_heeded(place):
    """A hook, or a LoRA in the layer's place."""
    transformer = TemporalTransformer(64, 32).eval()
    x = torch.randn(6, 64, 7, 5)
    plain = transformer(x, 3)
    path = place if place.startswith("proj") else f"transformer_blocks.0.{place}"
    handle = transformer.get_submodule(path).register_forward_hook(lambda _layer, _given, out: out + 1)
    assert (transformer(x, 3) - plain).abs().max() > 1e-3
    handle.remove()
    assert torch.equal(transformer(x, 3), plain)

    class Twice(torch.nn.Linear):
        def forward(self, given):
            return 2 * super().forward(given)

    transformer.get_submodule(path).__class__ = Twice
    assert (transformer(x, 3) - plain).abs().max() > 1e-3


@pytest.mark.parametrize("positions", [1, 8191, 8192, 16384, 131072, 1016 * 1032 // 64])
def test_no_piece_is_larger_than_a_cards_grid(monkeypatch, positions):
    monkeypatch.setattr(temporal_transformer, "_on_processor", lambda _: False)
    pieces = temporal_transformer._pieces(torch.empty(1, 2, 8, positions, device="meta"), 1)
    most = temporal_transformer.CUDA_GRID_LIMIT // temporal_transformer.HEADS
    assert all(piece.stop - piece.start <= most for piece in pieces)
    assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
    assert pieces[-1].stop == positions


def test_cheaper_steps_leave_out_what_they_say():
    """Rows of the middle block in a clip of eight steps in windows of three frames."""
    widths = (32, 32, 32, 32)
    unet, motion = window_memory.sd15_unet(widths), peers.motion_of("v2", widths)
    rows: list[int] = []
    unet.mid_block.resnets[0].conv1.register_forward_pre_hook(lambda _layer, inputs: rows.append(len(inputs[0])))

    def rows_of(way):
        rows.clear()
        cheaper_steps.sampled(unet, motion, way, frames=5, length=3, side=8)
        return sorted(rows)

    windows = [len(ContextWindows(length=3, overlap=0).plan(5, step)) for step in range(8)]
    assert rows_of(cheaper_steps.Way(steps=8)) == [6] * sum(windows)
    assert rows_of(cheaper_steps.Way(FeatureReuse(2), steps=8)) == [6] * sum(windows[:4])
    halves = sum(windows[4:]), sum(windows[:4])
    assert rows_of(cheaper_steps.Way(guidance=GuidanceInterval(end=0.5), steps=8)) == [3] * halves[0] + [6] * halves[1]
    assert rows_of(cheaper_steps.Way(steps=2, has_uncond=False)) == [3] * sum(windows[:2])


@torch.no_grad()
def test_motion_only_is_every_site_once_on_inputs_of_its_size():
    """What `inject` hooks, one site after the other, computes what the sites' transformers compute."""
    widths = (32, 32, 64, 64)
    unet, motion = window_memory.sd15_unet(widths, device="meta"), peers.motion_of("v2", widths)
    rows, text = torch.empty(4, 4, 8, 8, device="meta"), torch.empty(4, *window_memory.TEXT, device="meta")
    inputs = motion_speed.inputs_of(unet, lambda: unet(rows, 5, encoder_hidden_states=text))
    with ExitStack() as undo:
        found = motion_speed.in_turn(unet, inject(unet, motion, frames=4), inputs, undo)()
    wanted = {name: transformer(inputs[name], 4) for name, transformer in motion.sites()}
    assert len(found) == len(wanted) == 21
    assert all(any(torch.equal(one, other) for other in wanted.values()) for one in found)
    assert [tuple(one.shape[1:]) for one in found] == [tuple(inputs[name].shape[1:]) for name in inputs]
    assert {tuple(x.shape[1:]) for x in inputs.values()} == {(32, 8, 8), (32, 4, 4), (64, 2, 2), (64, 1, 1)}


@pytest.mark.matrix
@torch.no_grad()
def test_a_continued_clip_does_not_jump_where_it_joins(tmp_path):
    """The first clip of docs/features.md: 0.60 where frames behind the kept ones are led on, 2.30 with pins alone."""
    studio = continue_seams.Studio()
    before = continue_seams.made(studio, 0, continue_seams.SEED, 12)
    (earlier,) = write_clip(tmp_path / "clip.png", before)
    asked = continue_seams.Asked(keep=4, inversion=0.7, leads_on=True, sparse=False, colour_match=0.0, steps=12)
    seams = [
        continue_seams.joined(studio, 0, earlier, before, replace(asked, leads_on=led)).seam for led in (True, False)
    ]
    assert seams[0] < continue_seams.MOST < seams[1]
