"""Distillation for few steps: the teacher's step and the student's distance, written out by hand."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from training import parts

from lib_animatediff.training.consistency import GRID_STEPS, HUBER_C, ConsistencyObjective, Teacher
from lib_animatediff.training.settings import TrainingError
from motion_module.schedules import LINEAR

CFG = 3.0


class Linear(nn.Module):
    """A UNet whose noise is a number times its rows, plus the mean of its text."""

    def __init__(self, factor=0.1):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.input_blocks = []

    def forward(self, rows, timesteps, context):
        self.seen = timesteps
        text = context.mean(dim=(1, 2)).repeat_interleave(len(rows) // len(context))
        return rows * self.factor + text.view(-1, 1, 1, 1)


@pytest.fixture
def teacher(monkeypatch):
    """One without motion: what is injected is another test's matter."""
    monkeypatch.setattr("lib_animatediff.training.consistency.inject", lambda *_args, **_more: nullcontext())
    return Teacher(Linear(), nn.Identity(), LINEAR.alphas_cumprod(), CFG, torch.full((1, 5, 16), 0.5))


def group_of(*timesteps):
    generator = torch.Generator().manual_seed(1)
    shape = (len(timesteps), 2, 4, 8, 8)
    return {
        "latents": torch.randn(shape, generator=generator),
        "noise": torch.randn(shape, generator=generator),
        "timesteps": torch.tensor(timesteps),
        "text": torch.randn(len(timesteps), 5, 16, generator=generator),
    }


def test_the_teacher_takes_one_ddim_step_with_cfg(teacher):
    group = group_of(999, 505, 3)
    found = teacher.extend(group)
    assert found["timesteps"].tolist() == [999, 519, 19]
    assert found["earlier"].tolist() == [979, 499, -1]
    alphas = LINEAR.alphas_cumprod()
    for clip, (late, early) in enumerate(((999, 979), (519, 499), (19, -1))):
        a, b = alphas[late], alphas[early] if early >= 0 else torch.tensor(1.0)
        noisy = a.sqrt() * group["latents"][clip] + (1 - a).sqrt() * group["noise"][clip]
        uncond, cond = 0.1 * noisy + 0.5, 0.1 * noisy + group["text"][clip].mean()
        noise = uncond + CFG * (cond - uncond)
        clean = (noisy - (1 - a).sqrt() * noise) / a.sqrt()
        assert torch.allclose(found["noisy"][clip], noisy, atol=1e-6)
        assert torch.allclose(found["stepped"][clip], b.sqrt() * clean + (1 - b).sqrt() * noise, atol=1e-4)


def test_the_path_is_diffusers_own_of_lcm():
    from diffusers import LCMScheduler

    scheduler = LCMScheduler(num_train_timesteps=1000)
    scheduler.set_timesteps(GRID_STEPS, original_inference_steps=GRID_STEPS)
    assert sorted(scheduler.timesteps.tolist()) == [20 * step - 1 for step in range(1, GRID_STEPS + 1)]


def test_the_students_clean_clip_is_that_of_lcms_sampler():
    """Diffusers' `LCMScheduler` makes the same clean latents of the same noise."""
    from diffusers import LCMScheduler

    scheduler = LCMScheduler(num_train_timesteps=1000, trained_betas=LINEAR.betas().numpy())
    scheduler.set_timesteps(4)
    unet = Linear()
    student = ConsistencyObjective(unet, None, LINEAR.alphas_cumprod(), 1.0)
    latents, text = torch.randn(1, 2, 4, 8, 8), torch.zeros(1, 5, 16)
    for timestep in scheduler.timesteps:
        wanted = scheduler.step(0.1 * latents[0], timestep, latents[0], generator=torch.Generator()).denoised
        found = student.clean(latents, timestep[None], text)[0]
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_distance_of_both_ends_and_only_the_noisy_one_is_trained(teacher):
    unet = Linear(0.3)
    student = ConsistencyObjective(unet, None, LINEAR.alphas_cumprod(), 1.0)
    group = teacher.extend(group_of(700, 10))
    loss = student([group])
    ends = [
        student.clean(group[x], group[t], group["text"]) for x, t in (("noisy", "timesteps"), ("stepped", "earlier"))
    ]
    distance = ((ends[0] - ends[1]).square() + HUBER_C**2).sqrt() - HUBER_C
    assert loss.item() == pytest.approx(distance.mean().item(), rel=1e-5)
    assert torch.equal(ends[1][1], group["stepped"][1])  # clean latents stay as they are
    loss.backward()
    found = unet.factor.grad.clone()
    unet.factor.grad = None
    half = ((ends[0] - ends[1].detach()).square() + HUBER_C**2).sqrt().mean()
    half.backward()
    assert float(found) == pytest.approx(float(unet.factor.grad), rel=1e-4)


def test_a_motion_module_is_distilled_and_the_base_stays(tmp_path):
    motion = parts.written_motion(tmp_path)
    base = parts.small_base(parts.small_unet())
    before = {name: weight.clone() for name, weight in base.unet.state_dict().items()}
    found = parts.trained(tmp_path / "out", base=base, steps=2, motion=str(motion), distill_cfg=CFG, lr=1e-3)
    kept = parts.load_file(motion)
    assert kept.keys() <= found.keys()
    assert any(not torch.equal(found[name], kept[name]) for name in kept)
    assert all(torch.equal(weight, before[name]) for name, weight in base.unet.state_dict().items())


@pytest.mark.parametrize("more", [{}, {"target": "adapter"}])
def test_there_must_be_something_to_distil(tmp_path, more):
    with pytest.raises(TrainingError, match=r"trained already.*\[AD-T38\]"):
        parts.trained(tmp_path, steps=1, distill_cfg=CFG, **more)
