"""CameraCtrl models as the trainer's target: whose camera is read, what is trained, and what is written."""

from __future__ import annotations

import pytest
import torch
from training import parts

from lib_animatediff import inject
from lib_animatediff.engine.components.camera_ctrl import CameraCtrlComponent
from lib_animatediff.request.camera.moves import poses_of_moves
from lib_animatediff.training import MemorySource, TrainingError, train
from lib_animatediff.training.camera import CameraObjective, new_camera_ctrl
from lib_animatediff.training.clips import BrokenClipError, Clip, Cut
from lib_animatediff.training.loss import text_once_per_clip
from lib_animatediff.training.rng import Draws
from lib_animatediff.training.trainables import target_of
from lib_animatediff.training.videos import VideoSource
from lib_animatediff.video import write_gif
from motion_module.camera_ctrl.load import OFFICIAL, load_camera_ctrl, read_camera_ctrl
from motion_module.camera_ctrl.network import MULTIPLE
from motion_module.camera_ctrl.poses import CameraPose, write_poses
from motion_module.camera_ctrl.rays import pluecker_rays

ALPHAS = torch.linspace(0.999, 0.01, 1000)
FRAMES = 2
PATHS = [poses_of_moves(moves, FRAMES, 8) for moves in ("pan-left", "tilt-up, zoom-in", "orbit-down 2")]


def settings(output, **more):
    motion = str(parts.written_motion(output))
    return parts.settings(output, target="cameractrl", frames=FRAMES, stride=1, motion=motion, **more)


def clips(count=3):
    given = [(*clip, None, poses) for clip, poses in zip(parts.latent_clips(count, FRAMES), PATHS, strict=False)]
    return MemorySource(given, latents=True)


def group_of(objective, count):
    """Some clips with noise, and what the objective wants of them."""
    groups = []
    for number, (latents, caption) in enumerate(parts.latent_clips(count, FRAMES)):
        clip = Clip(caption, mean=latents, poses=PATHS[number])
        generator = torch.Generator().manual_seed(number)
        group = {"latents": latents, "noise": torch.randn(latents.shape, generator=generator)}
        group |= {"text": torch.randn(parts.TOKENS, parts.CONTEXT, generator=generator)}
        groups.append(group | objective.given(clip, latents, Draws(1, number)))
    stacked = {name: torch.stack([group[name] for group in groups]) for name in groups[0]}
    return stacked | {"timesteps": torch.full((count,), 600)}


def loss_with(unet, group, motion, model=None):
    """The mean loss of clips that the motion module makes when it is used, each under its own camera."""
    signal, found = ALPHAS[600], []
    for number in range(len(group["latents"])):
        noisy = signal.sqrt() * group["latents"][number] + (1 - signal).sqrt() * group["noise"][number]
        text = group["text"][number : number + 1].expand(FRAMES, -1, -1)
        camera = [] if model is None else [CameraCtrlComponent(model, PATHS[number])]
        with torch.no_grad(), inject(unet, motion, *camera, frames=FRAMES):
            made = unet(noisy, torch.full((FRAMES,), 600), encoder_hidden_states=text).sample
        found.append(float((made - group["noise"][number]).square().mean()))
    return sum(found) / len(found)


@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.matrix)])
def test_it_learns_by_the_clips_that_it_makes_each_under_its_own_camera(tmp_path, checkpointing):
    unet = parts.small_unet()
    with target_of(settings(tmp_path), unet) as target:
        objective = CameraObjective(unet, target.motion, target.steering, ALPHAS, 1.0)
        group = group_of(objective, 2)
        if checkpointing:
            unet.enable_gradient_checkpointing()
            unet.train()
        with target.inside(unet, FRAMES), text_once_per_clip(objective, FRAMES):
            new = float(objective([group]).detach())
            generator = torch.Generator().manual_seed(7)
            with torch.no_grad():
                for weight in target.weights.values():
                    weight += 0.05 * torch.randn(weight.shape, generator=generator)
            loss = objective([group])
            loss.backward()
        unet.disable_gradient_checkpointing()
        assert new == pytest.approx(loss_with(unet, group, target.motion), rel=1e-5)  # it changes nothing
        used = loss_with(unet, group, target.motion, target.steering.model)
        assert float(loss.detach()) == pytest.approx(used, rel=1e-4)
        assert used != pytest.approx(new, rel=1e-3)
        reached = {name for name, weight in target.weights.items() if weight.grad is not None and weight.grad.any()}
        assert reached == {*dict(target.steering.model.named_parameters())}
        assert not any(weight.grad is not None for weight in (*unet.parameters(), *target.motion.parameters()))


@pytest.mark.matrix
def test_groups_of_two_sizes_keep_their_features_in_one_step(tmp_path):
    """The backward pass comes after both, and may run the UNet again."""
    unet = parts.small_unet()
    with target_of(settings(tmp_path), unet) as target:
        objective = CameraObjective(unet, target.motion, target.steering, ALPHAS, 1.0)
        wide = group_of(objective, 2)
        small = {**wide, **{name: wide[name][..., :8] for name in ("latents", "noise")}}
        small["rays"] = torch.stack([pluecker_rays(poses, (64, 128)) for poses in PATHS[:2]])
        torch.nn.init.normal_(target.steering.model.merge("up_blocks.0.motion_modules.0").weight)
        with torch.no_grad(), target.inside(unet, FRAMES), text_once_per_clip(objective, FRAMES):
            one, other = float(objective([wide])), float(objective([small]))
            assert float(objective([wide, small])) == pytest.approx((one + other) / 2, rel=1e-5)
        assert one != pytest.approx(other, rel=1e-3)


@pytest.mark.matrix
def test_a_written_model_is_an_official_one_and_what_was_trained(tmp_path):
    base = parts.small_base(parts.small_unet())
    before = {name: weight.clone() for name, weight in base.unet.state_dict().items()}
    path = train(settings(tmp_path, steps=2, lr=1e-2), base=base, clips=clips())
    assert parts.equal(before, base.unet.state_dict())
    written, file = parts.load_file(path), read_camera_ctrl(path)
    assert (file.layout.widths, file.layout.trained_length) == (parts.WIDTHS, 16)
    assert file.spelling != OFFICIAL  # the form that other programs take: both parts side by side
    model = load_camera_ctrl(path)
    names = model.official_names
    assert all(torch.equal(weight, written[names[name]]) for name, weight in model.state_dict().items())
    assert written.keys() - {*names.values()} == {
        f"encoder_down_attention_blocks.{level}.{n}.attention_blocks.0.pos_encoder.pe"
        for level in range(4)
        for n in range(2)
    }
    assert all(weight.any() for name, weight in written.items() if "qkv_merge" in name)


def test_a_cut_takes_its_frames_cameras_and_a_mirror_turns_them_round():
    poses = [CameraPose((1, 0, 0, 0.1 * i, 0, 1, 0, 0.2, 0, 0, 1, 0), cx=0.4) for i in range(5)]
    cut = Cut(2, 2, position=0.99)
    assert cut.poses(poses, 5) == [poses[2], poses[4]]
    assert cut.poses(poses[:3], 5) == [poses[2], poses[2]]  # the last one stays
    left, right = (poses_of_moves(f"pan-{side}, tilt-{side} 0.5, zoom-in 0.3", 3, 8) for side in ("left", "right"))
    mirrored = Cut(3, 1, mirror=True).poses(left, 3)
    assert [pose.matrix for pose in mirrored] == [pytest.approx(pose.matrix) for pose in right]
    assert Cut(5, 1, mirror=True).poses(poses, 5)[0].cx == pytest.approx(0.6)
    rays = pluecker_rays(poses, (16, 16)).flip(-1) * torch.tensor([1, -1, -1, -1, 1, 1]).view(6, 1, 1)
    assert (pluecker_rays([pose.mirrored for pose in poses], (16, 16)) - rays).abs().max() <= 1e-6


def test_cameras_of_videos_are_in_files_beside_them(tmp_path):
    from PIL import Image

    how = settings(tmp_path, size=64, mirror=True)
    for name in ("a", "b"):
        write_gif(tmp_path / f"{name}.gif", [Image.new("RGB", (64, 64), (i * 40, 0, 0)) for i in range(5)], fps=8)
    poses = poses_of_moves("pan-left", 5, 8)
    (tmp_path / "a.camera.txt").write_text(write_poses(poses))
    source = VideoSource([(tmp_path / "a.gif", "a"), (tmp_path / "b.gif", "b")], how)
    cut = Cut(2, 2, position=0.99)
    found = source.read(0, cut).poses
    assert [pose.matrix for pose in found] == [pytest.approx(poses[i].matrix, abs=1e-8) for i in (2, 4)]
    with pytest.raises(BrokenClipError, match=r"b\.gif has no camera: The camera file b\.camera\.txt cannot be read"):
        source.read(1, cut)
    plain = VideoSource([(tmp_path / "b.gif", "b")], parts.settings(tmp_path, size=64))
    assert plain.read(0, cut).poses is None


def test_what_cannot_be_trained_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="this base model has others"):
        new_camera_ctrl(parts.tiny_unet(), settings(tmp_path))
    unet = parts.small_unet()
    with target_of(settings(tmp_path), unet) as target:
        objective = CameraObjective(unet, target.motion, target.steering, ALPHAS, 1.0)
        latents, caption = parts.latent_clips(1, FRAMES)[0]
        with pytest.raises(TrainingError, match="with a camera for each frame"):
            objective.given(Clip(caption, mean=latents), latents, Draws(1, 0))
    for wrong, words in (
        ({"motion": ""}, "A CameraCtrl model is trained for a motion module"),
        ({"validation_prompts": ("a",)}, "no camera"),
        ({"distill_cfg": 3.0}, "distilled from one"),
    ):
        with pytest.raises(TrainingError, match=words):
            parts.settings(tmp_path, **{"target": "cameractrl", "motion": "m.safetensors", **wrong})
    for poses in (PATHS[0][:1], [1, 2]):
        with pytest.raises(TrainingError, match="camera for each frame"):
            MemorySource([(*parts.latent_clips(1, FRAMES)[0], None, poses)], latents=True)
    assert MULTIPLE == 64  # of the sides, as `TrainingSettings.size` is


@pytest.mark.matrix
def test_the_loss_falls_on_a_toy(tmp_path):
    """Latents whose second frame is brighter or darker as the camera goes left or right: only the camera knows."""
    made = []
    for number, (latents, _) in enumerate(parts.latent_clips(10, FRAMES)):
        side, shift = (("left", 1.0), ("right", -1.0))[number % 2]
        drift = torch.tensor([0.0, shift]).view(-1, 1, 1, 1)
        made.append((0 * latents + drift, "same", None, poses_of_moves(f"pan-{side} 4", FRAMES, 8)))
    how = settings(tmp_path, steps=60, lr=3e-3, timestep_power=0.3)
    train(how, base=parts.small_base(parts.small_unet()), clips=MemorySource(made, latents=True))
    losses = [line["loss"] for line in parts.records(tmp_path) if "loss" in line]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
