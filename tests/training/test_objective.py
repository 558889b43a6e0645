"""The loss against the paper's formula, written out by hand, and the optimiser against its settings."""

from __future__ import annotations

import math
from contextlib import ExitStack

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from training import parts

from lib_animatediff.training import MemorySource
from lib_animatediff.training.clips import Cut
from lib_animatediff.training.dataset import Example
from lib_animatediff.training.loop import Loop
from lib_animatediff.training.loss import Objective, moving_weights
from lib_animatediff.training.trainables import target_of

LINEAR_BETAS = torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64)
SCALED_BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2


class Recorder(nn.Module):
    """A UNet that predicts a tenth of what it gets, and remembers it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.input_blocks = []

    def forward(self, rows, timesteps, context):
        self.seen = rows, timesteps, context
        return rows * 0.1


def group_of(b=2, f=3):
    generator = torch.Generator().manual_seed(1)
    return {
        "latents": torch.randn(b, f, 4, 8, 8, generator=generator),
        "noise": torch.randn(b, f, 4, 8, 8, generator=generator),
        "timesteps": torch.tensor([100, 900]),
        "text": torch.randn(b, 5, 16, generator=generator),
    }


@pytest.mark.parametrize("largest", [1.0, 3.0, 100.0])
def test_the_loss_is_the_papers(largest):
    unet, group = Recorder(), group_of()
    signal = torch.cumprod(1 - LINEAR_BETAS, 0)
    found = Objective(unet, None, signal.float(), largest)([group])

    expected = 0.0
    for clip, t in enumerate((100, 900)):
        noisy = signal[t].sqrt() * group["latents"][clip] + (1 - signal[t]).sqrt() * group["noise"][clip]
        assert torch.allclose(unet.seen[0][clip * 3 : clip * 3 + 3], noisy, atol=1e-5)
        sigma = math.sqrt((1 - signal[t]) / signal[t])
        expected += min(1 + sigma**2, largest) * float((0.1 * noisy - group["noise"][clip]).square().mean()) / 2
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert unet.seen[1].tolist() == [100] * 3 + [900] * 3
    assert torch.equal(unet.seen[2], group["text"])


def test_what_moves_weighs_more_and_a_clip_as_much_as_before():
    unet, group = Recorder(), group_of(b=1)
    still, moving = torch.zeros(1, 3, 4, 8, 8), torch.tensor([0.0, 1.0, 2.0])[None, :, None]
    still[..., 2, 3] = moving  # one place changes
    still[..., 5, 5] = moving / 2  # and one half as much
    weights = torch.ones(8, 8)
    weights[2, 3], weights[5, 5] = 6.0, 3.5
    weights = weights / weights.mean()
    signal = torch.cumprod(1 - LINEAR_BETAS, 0).float()
    noisy = signal[100].sqrt() * still + (1 - signal[100]).sqrt() * group["noise"]
    expected = ((0.1 * noisy - group["noise"]).square() * weights).mean()
    group = {**group, "latents": still, "timesteps": group["timesteps"][:1]}
    assert float(Objective(unet, None, signal, 1.0, 6.0)([group])) == pytest.approx(float(expected), rel=1e-5)
    same = torch.zeros(1, 3, 4, 8, 8)
    assert torch.equal(moving_weights(same, 6.0), torch.ones(1, 1, 1, 8, 8))


@pytest.fixture
def make_loop(tmp_path):
    """Loops that are set up and not run."""
    with ExitStack() as stack:

        def make(**more):
            settings, base = parts.settings(tmp_path, **more), parts.small_base()
            target = stack.enter_context(target_of(settings, base.unet))
            source = MemorySource([(latents, "a") for latents, _ in parts.latent_clips(4)], latents=True)
            base.unet.requires_grad_(False)
            return Loop(settings, base, source, target, Accelerator(cpu=True))

        yield make


def test_noise_differs_from_frame_to_frame_and_clip_to_clip(make_loop):
    loop = make_loop(frames=3, caption_dropout=0.5)
    examples = [Example(number, loop.source.read(number % 4, Cut(3, 1))) for number in range(60)]
    (group,) = loop.groups(examples)
    noise = group["noise"]
    assert noise.shape == (60, 3, 4, parts.SIDE, parts.SIDE)
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.var()) - 1) < 0.01
    frames = torch.corrcoef(noise[0].flatten(1))
    assert (frames - torch.eye(3)).abs().max() < 0.15
    assert len({float(clip[0, 0, 0, 0]) for clip in noise}) == 60
    assert len(set(group["timesteps"].tolist())) > 40
    texts = {float(text.sum()) for text in group["text"]}
    assert len(texts) == 2  # the caption, and none


@pytest.mark.parametrize(
    ("target", "betas"), [("motion-module", LINEAR_BETAS), ("adapter", SCALED_BETAS)], ids=["linear", "scaled"]
)
def test_noise_levels_are_those_of_the_target(make_loop, target, betas):
    loop = make_loop(target=target)
    assert torch.allclose(loop.objective.alphas.double(), torch.cumprod(1 - betas, 0), atol=1e-6)


def test_the_optimiser_does_what_the_settings_say(tmp_path):
    more = {"lr": 1e-3, "warmup": 4, "beta1": 0.8, "beta2": 0.95, "weight_decay": 0.3, "clip_norm": 0.01}
    found = parts.trained(tmp_path, steps=1, **more)
    optimizer = torch.load(next((tmp_path / "states").iterdir()), weights_only=True)["optimizer"]
    (group,) = optimizer["param_groups"]
    assert (group["betas"], group["weight_decay"], group["lr"]) == ((0.8, 0.95), 0.3, 1e-3 / 4)
    gradients = [state["exp_avg"] / (1 - 0.8) for state in optimizer["state"].values()]
    assert float(torch.stack([g.norm() for g in gradients]).norm()) == pytest.approx(0.01, rel=1e-3)
    # Adam's first step is the learning rate, whatever the gradient; proj_out began as zero.
    steps = [float(weight.abs().max()) for name, weight in found.items() if name.endswith("proj_out.weight")]
    assert steps == pytest.approx([1e-3 / 4] * len(steps), rel=0.01)
