"""SparseCtrl encoders and PIA models as the trainer's targets: what is given, what is trained, and what is written."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from training import parts

from lib_animatediff import inject
from lib_animatediff.engine.components.pia import PiaComponent
from lib_animatediff.engine.components.sparse_ctrl import GivenFrames, SparseCtrlComponent
from lib_animatediff.training import MemorySource, TrainingError, train
from lib_animatediff.training.clips import Clip
from lib_animatediff.training.loss import Objective, text_once_per_clip
from lib_animatediff.training.pia import LEAST_AFFINITY, PiaObjective, affinities, largest_differences
from lib_animatediff.training.rng import Draws
from lib_animatediff.training.sparse import MOST_GIVEN, SparseCtrlObjective, given_frames, new_sparse_ctrl
from lib_animatediff.training.trainables import target_of
from motion_module import load_motion_module
from motion_module.image_input import load_image_input
from motion_module.kinds import PIA
from motion_module.sparse_ctrl.load import load_sparse_ctrl
from motion_module.sparse_ctrl.network import RGB, SCRIBBLE

ALPHAS = torch.linspace(0.999, 0.01, 1000)
FRAMES = 2


def settings(output, target, **more):
    return parts.settings(output, target=target, frames=FRAMES, stride=1, **parts.motion_for(target, output), **more)


def clips(count=3):
    return MemorySource(parts.latent_clips(count, FRAMES), latents=True)


def shake(weights):
    """Every weight somewhere: new outputs are zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in weights:
            weight += 0.05 * torch.randn(weight.shape, generator=generator)


def group_of(objective, number=0):
    """One clip with noise, and what the objective wants of it."""
    latents, caption = parts.latent_clips(1, FRAMES)[0]
    group = {
        "latents": latents[None],
        "noise": torch.randn(latents.shape, generator=torch.Generator().manual_seed(4))[None],
        "timesteps": torch.tensor([600]),
        "text": torch.randn(1, parts.TOKENS, parts.CONTEXT, generator=torch.Generator().manual_seed(5)),
    }
    given = objective.given(Clip(caption, mean=latents), latents, Draws(1, number))
    return group | {name: tensor[None] for name, tensor in given.items()}


def loss_of(objective, target, unet, group):
    with target.inside(unet, FRAMES), text_once_per_clip(objective, FRAMES):
        return objective([group])


def loss_with(unet, group, *components):
    """The loss of the clip that components make when they are used."""
    signal = ALPHAS[600]
    noisy = signal.sqrt() * group["latents"][0] + (1 - signal).sqrt() * group["noise"][0]
    text = group["text"].expand(FRAMES, -1, -1)
    with torch.no_grad(), inject(unet, *components, frames=FRAMES):
        found = unet(noisy, torch.full((FRAMES,), 600), encoder_hidden_states=text).sample
    return float((found - group["noise"][0]).square().mean())


def test_an_encoder_learns_by_the_clip_that_it_makes_and_all_that_is_used_gets_a_gradient(tmp_path):
    unet = parts.small_unet()
    with target_of(settings(tmp_path, "sparsectrl"), unet) as target:
        objective = SparseCtrlObjective(unet, target.motion, target.encoder, ALPHAS, 1.0)
        group = group_of(objective)
        new = float(loss_of(objective, target, unet, group).detach())
        assert new == pytest.approx(loss_with(unet, group, target.motion), rel=1e-5)  # it changes nothing
        shake(target.weights.values())
        loss = loss_of(objective, target, unet, group)
        (places,) = group["mask"].nonzero()[:, 1:].unbind(1)
        given = GivenFrames(places.tolist(), group["latents"][0, places])
        used = SparseCtrlComponent(target.encoder, given)
        assert float(loss.detach()) == pytest.approx(loss_with(unet, group, target.motion, used), rel=1e-4)
        assert float(loss.detach()) != pytest.approx(new, rel=1e-3)
        loss.backward()
        reached = {name for name, weight in target.weights.items() if weight.grad is not None and weight.grad.any()}
        assert reached == set(target.weights) == {*dict(target.encoder.named_parameters())} - {"conv_in.weight"}
        assert not any(weight.grad is not None for weight in (*unet.parameters(), *target.motion.parameters()))


def test_a_new_encoder_is_a_copy_of_the_unet_and_of_the_first_attentions(tmp_path):
    unet, motion = parts.small_unet(), load_motion_module(parts.written_motion(tmp_path))
    encoder = new_sparse_ctrl(unet, motion, settings(tmp_path, "sparsectrl")).state_dict()
    copied = unet.state_dict() | motion.state_dict()
    assert {name for name in encoder if name not in copied} == {name for name in encoder if "controlnet_" in name}
    assert all(torch.equal(weight, copied[name]) for name, weight in encoder.items() if name in copied)
    embedding = encoder.pop("controlnet_cond_embedding.weight")
    assert torch.equal(embedding[:, :4], copied["conv_in.weight"])  # an image is read as a latent without noise
    assert not embedding[:, 4].any()
    assert not any(weight.any() for name, weight in encoder.items() if "controlnet_" in name)


@pytest.mark.parametrize("condition", [RGB, pytest.param(SCRIBBLE, marks=pytest.mark.matrix)])
def test_a_written_encoder_is_an_official_one_and_what_was_trained(tmp_path, condition):
    base = parts.small_base(parts.small_unet())
    before = {name: weight.clone() for name, weight in base.unet.state_dict().items()}
    hints = [(*clip, torch.rand(FRAMES, 3, 128, 128)) for clip in parts.latent_clips(3, FRAMES)]
    how = settings(tmp_path, "sparsectrl", condition=condition, steps=1, lr=1e-2, checkpointing=True)
    path = train(how, base=base, clips=MemorySource(hints, latents=True))
    assert parts.equal(before, base.unet.state_dict())
    encoder, written = load_sparse_ctrl(path), parts.load_file(path)
    assert (encoder.kind, encoder.trained_length, encoder.layout.widths) == (condition, 32, parts.WIDTHS)
    assert all(torch.equal(weight, written[name]) for name, weight in encoder.state_dict().items())
    tables = {f"down_blocks.{level}.motion_modules.{n}.temporal_transformer.transformer_blocks.0.attention_blocks.0"
              for level in range(4) for n in range(2)}  # fmt: skip
    assert written.keys() - encoder.state_dict().keys() == {f"{name}.pos_encoder.pe" for name in tables}
    assert all(weight.any() for name, weight in written.items() if name.startswith("controlnet_down_blocks"))


def test_the_frames_that_are_given_are_often_the_first_alone_or_both_ends():
    found = Counter(tuple(given_frames(Draws(3, number), 16)) for number in range(2000))
    assert 0.3 < found[0,] / 2000 < 0.45
    assert 0.2 < found[0, 15] / 2000 < 0.3
    assert {frame for frames in found for frame in frames} == set(range(16))
    assert {len(frames) for frames in found} == set(range(1, MOST_GIVEN + 1))
    assert given_frames(Draws(3, 5), 16) == given_frames(Draws(3, 5), 16)
    assert all(given_frames(Draws(3, number), 1) == [0] for number in range(20))


def test_only_the_given_frames_are_shown(tmp_path):
    unet = parts.small_unet()
    latents, caption = parts.latent_clips(1, FRAMES)[0]
    motion = load_motion_module(parts.written_motion(tmp_path))
    for kind, shown in ((RGB, latents), (SCRIBBLE, torch.rand(FRAMES, 3, 128, 128))):
        encoder = new_sparse_ctrl(unet, motion, settings(tmp_path, "sparsectrl", condition=kind))
        objective = SparseCtrlObjective(unet, motion, encoder, ALPHAS, 1.0)
        hints = shown if kind == SCRIBBLE else None
        given = objective.given(Clip(caption, mean=latents, hints=hints), latents, draws := Draws(1, 2))
        at = given_frames(draws, FRAMES)
        assert given["mask"].nonzero().flatten().tolist() == at
        assert torch.equal(given["conditions"][at], shown[at])
        assert not given["conditions"][given["mask"] == 0].any()


def test_a_pia_model_learns_by_the_clip_that_it_makes_and_its_file_makes_it_again(tmp_path):
    unet = parts.small_unet()
    with target_of(settings(tmp_path, "pia"), unet) as target:
        differences = torch.linspace(0, 2, FRAMES)
        objective = PiaObjective(unet, target.motion, target.image_input, differences, ALPHAS, 1.0)
        group = group_of(objective)
        new = float(loss_of(objective, target, unet, group).detach())
        shake(target.weights.values())
        loss = loss_of(objective, target, unet, group)
        used = PiaComponent("p", target.image_input.detach(), group["image"][0], group["affinity"][0].tolist())
        assert float(loss.detach()) == pytest.approx(loss_with(unet, group, target.motion, used), rel=1e-4)
        assert float(loss.detach()) != pytest.approx(new, rel=1e-3)
        loss.backward()
        assert all(weight.grad is not None and weight.grad.any() for weight in target.weights.values())
        assert not any(weight.grad is not None for weight in unet.parameters())


def test_a_written_pia_model_is_an_official_one_and_is_gone_on_from(tmp_path):
    base = parts.small_base(parts.small_unet())
    path = train(settings(tmp_path / "a", "pia", steps=1, lr=1e-2), base=base, clips=clips())
    written = parts.load_file(path)
    own = base.unet.conv_in
    assert written["conv_in.weight"].shape == (parts.WIDTHS[0], 9, 3, 3)
    assert torch.equal(written["conv_in.weight"][:, :4], own.weight)
    assert torch.equal(written["conv_in.bias"], own.bias)
    assert load_image_input(path).any()
    motion = load_motion_module(path, kind=PIA.name)
    assert (motion.kind, motion.trained_length, motion.layout.mid) == (PIA.name, 32, None)
    assert all(torch.equal(weight, written[name]) for name, weight in motion.state_dict().items())

    again = parts.settings(tmp_path / "b", target="pia", frames=FRAMES, motion=str(path), steps=1, lr=1e-9)
    further = parts.load_file(train(again, base=base, clips=clips()))
    assert parts.largest_difference(written, further) < 1e-6
    v2 = parts.written_motion(tmp_path, "v2")  # which has a site in the middle block
    with target_of(parts.settings(tmp_path, target="pia", motion=str(v2)), base.unet) as target:
        assert target.motion.layout.mid is None
        name, weight = next(iter(target.motion.state_dict().items()))
        assert torch.equal(weight, parts.load_file(v2)[name])


def test_affinities_fall_with_the_difference_to_the_image_and_are_comparable_between_clips():
    calm, wild = (torch.linspace(0, most, 4).view(-1, 1, 1, 1).expand(-1, 4, 2, 2) for most in (1.0, 4.0))
    source = MemorySource([(calm, "calm"), (wild, "wild")], latents=True)
    how = parts.settings("unused", frames=4, stride=1)
    largest = largest_differences(source, [0, 1], how, None, lambda *_: None)
    assert largest.tolist() == pytest.approx([0, 4 / 3, 8 / 3, 4])
    assert affinities(wild, largest).tolist() == pytest.approx([1, *[LEAST_AFFINITY] * 3])
    assert affinities(calm, largest).tolist() == pytest.approx([1, 0.8, 0.8, 0.8])
    assert affinities(2 * wild, largest).min() == pytest.approx(LEAST_AFFINITY)
    assert affinities(calm, torch.zeros(4))[0] == 1


@pytest.mark.matrix
@pytest.mark.parametrize("target", ["sparsectrl", "pia"])
def test_the_loss_falls_on_a_toy(tmp_path, target):
    """Clips of noise that stands still: only who is given a frame can know the others."""
    still = [(latents[:1].expand(2, -1, -1, -1), "still") for latents, _ in parts.latent_clips(10, 2)]
    more = {"target": target, "steps": 60, "lr": 3e-3, "timestep_power": 0.3, **parts.motion_for(target, tmp_path)}
    parts.trained(tmp_path, base=parts.small_base(parts.small_unet()), clips=MemorySource(still, latents=True), **more)
    losses = [line["loss"] for line in parts.records(tmp_path) if "loss" in line]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_what_cannot_be_trained_is_refused(tmp_path):
    motion = load_motion_module(parts.written_motion(tmp_path))
    with pytest.raises(TrainingError, match="diffusers' UNet"):
        new_sparse_ctrl(torch.nn.Linear(1, 1), motion, settings(tmp_path, "sparsectrl"))
    with pytest.raises(TrainingError, match="has another one"):
        new_sparse_ctrl(parts.tiny_unet(), motion, settings(tmp_path, "sparsectrl"))
    for target, wrong, words in (
        ("sparsectrl", {"motion": ""}, "trained for a motion module"),
        ("sparsectrl", {"cache": "c", "condition": SCRIBBLE}, "Leave out cache"),
        ("sparsectrl", {"validation_prompts": ("a",)}, "no images"),
        ("sparsectrl", {"distill_cfg": 3.0}, "distilled from one"),
        ("sparsectrl", {"local_heads": True}, "leaves them as they are"),
        ("pia", {"validation_prompts": ("a",)}, "no images"),
        ("pia", {"rank": 4}, "Only a LoRA"),
    ):
        with pytest.raises(TrainingError, match=words):
            parts.settings(tmp_path, **{"target": target, "motion": "m.safetensors", **wrong})
    parts.settings(tmp_path, target="sparsectrl", motion="m.safetensors", cache="c")
    assert Objective(parts.tiny_unet(), None, ALPHAS, 1.0).given(None, None, None) == {}
