"""What a person directs reaches a clip of the command line, and its recipe: the built-in model, a few steps."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image
from support.adapter_files import diffusers_layers, random_adapter, write_adapter
from support.pocket_clips import BLUE, CFG, RED, STEPS, TINY, near, pixels

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers import networks
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.jobs import recipe as request
from lib_animatediff.video import read_clip, read_recipe

PAN, MOTION = (POCKET.folder / name for name in (POCKET.motion_loras[0], POCKET.motion))


@pytest.fixture
def adapter(pipeline, tmp_path):
    changes = random_adapter(diffusers_layers(pipeline.unet), seed=1)
    return changes, write_adapter(tmp_path / "domain.safetensors", changes)


def test_a_motion_lora_is_that_of_its_strength(written, pipeline, motion):
    found = written("--motion-lora", f"{PAN}:-1.5")
    panning = networks.with_motion_loras(motion, [networks.LoraFile(PAN, -1.5)]).motion
    more = {"seed": 3, "frames": 4, "size": TINY, "steps": STEPS, "cfg": CFG}
    assert torch.equal(found, pixels(animate(pipeline, panning, prompt=RED, **more)))
    assert not near(found, pixels(animate(pipeline, motion, prompt=RED, **more)), 5)


def test_how_much_of_each_file_found_a_place_is_said(run, adapter, tmp_path):
    words = ("--steps", STEPS, "--frames", 4, "--output", tmp_path / "clip.png")
    done = run(
        "animate", "--checkpoint", "pocket", "--prompt", RED, *words, "--motion-lora", PAN, "--motion-lora", adapter[1]
    )
    layers = len(adapter[0])
    assert re.search(rf"{PAN.name}: (\d+) of its \1 weights match", done.err)
    assert f"{adapter[1].name}: {layers} of its {layers} layers match the checkpoint." in done.err


def test_a_domain_adapter_comes_by_the_same_option(written, clip, pipeline, adapter):
    """What merged weights give."""
    changes, path = adapter
    plain = clip(size=TINY)
    found = written("--motion-lora", f"{path}:0.5")
    layers = {name: layer for name, layer in pipeline.unet.named_modules() if name in changes}
    kept = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    with torch.no_grad():
        for name, (down, up) in changes.items():
            layers[name].weight += 0.5 * up @ down
        try:
            merged = clip(size=TINY)
        finally:
            for name, weight in kept.items():
                layers[name].weight.copy_(weight)
    assert near(found, merged)
    assert not near(found, plain, 20)
    assert torch.equal(clip(size=TINY), plain)
    assert torch.equal(written("--motion-lora", f"{path}:0"), plain)


@pytest.mark.parametrize(("grey", "effect"), [(255, 1), (0, 0)])
def test_a_mask_is_a_picture_file(written, clip, tmp_path, grey, effect):
    Image.new("L", (200, 100), grey).save(tmp_path / "mask.jpg")
    found = written("--motion-mask", tmp_path / "mask.jpg")
    assert near(found, clip(effect=effect, size=TINY), 2)
    assert not near(found, clip(effect=1 - effect, size=TINY), 20)


def test_a_mask_that_is_none_is_refused_before_the_checkpoint_is_loaded(run_early, tmp_path):
    (tmp_path / "words.txt").write_text("white")
    assert "nothing.png cannot be read" in run_early("animate", "--motion-mask", tmp_path / "nothing.png").one_error
    assert "motion mask is not an image" in run_early("animate", "--motion-mask", tmp_path / "words.txt").one_error
    assert "cannot be read" in run_early("animate", "--motion-mask", tmp_path).one_error


WRONG = [
    (["--prompt", "0: spring\n16: autumn"], "Line 2 of the prompt"),
    (["--prompt", "0: spring\n4 slowly: autumn"], "Line 2 of the prompt"),
    (["--negative-prompt", "0: dark\n-17: bright"], "Line 2 of the negative prompt"),
    (["--scale", "0: 1, 99: 2"], "scale"),
    (["--effect", "3"], "effect must be between 0 and 2"),
    (["--frame-seeds", "5, x"], "frame_seeds"),
    (["--motion-lora", "nothing.safetensors"], "no file nothing.safetensors"),
    (["--blocks", "roof effect 1"], "is not a block with a factor"),
    (["--motion", MOTION, "--motion", "nothing.ckpt"], "nothing.ckpt"),
    (["--motion", MOTION, "--motion", f"{MOTION}:3"], "with effect from 0 to 2"),
    (["--motion", MOTION, "--motion", f"{MOTION}:-1"], "with effect from 0 to 2"),
    (["--motion", MOTION, "--motion", f"{MOTION}:nan"], "with effect from 0 to 2"),
    (["--motion", MOTION, "--motion", f"{MOTION}:speed=1"], "is not valid. Write FILE:effect=0.5,scale=1.2"),
    (["--motion", MOTION, "--motion", f"{MOTION}:scale=11"], "scale must be between 0 and 10"),
    (["--motion", MOTION, "--motion", f"{MOTION}:much"], f"{POCKET.motion}:much"),
    (["--motion", "Text2Video-Zero", "--motion-lora", PAN], "motion_loras"),
    (["--motion", "Text2Video-Zero", "--freeinit-enable"], "freeinit_enable"),
    (["--motion", "Text2Video-Zero", "--scale", "1.2", "--closed-loop", "A"], "scale, closed_loop"),
    (["--motion", "Text2Video-Zero", "--zero-smoothing", "0.5"], "needs a mask"),
]


@pytest.mark.parametrize(("words", "told"), WRONG, ids=[str(words[-1]) for words, _ in WRONG])
def test_what_is_wrong_is_said_in_one_line_before_the_checkpoint_is_loaded(run_early, tmp_path, words, told):
    assert told in run_early("animate", "--checkpoint", "pocket", "--output", tmp_path / "clip.gif", *words).one_error
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_of_all_of_it_gives_the_same_clip(run, pipeline, adapter, tmp_path):
    _, domain = adapter
    mask = tmp_path / "mask.png"
    Image.linear_gradient("L").save(mask)
    path = tmp_path / "clip.png"
    words = f"--frames 6 --context-length 4 --overlap 2 --seed 9 --steps {STEPS} --sampler euler-a".split()
    words += ["--width", 32, "--height", 32]
    words += ["--prompt", f"0: {RED}\n3 hold: {BLUE}\nbest quality", "--negative-prompt", "0: bad\n4: blurry"]
    words += ["--travel-interpolation", "linear", "--travel-easing", "ease-out", "--travel-hold", 0.2]
    words += ["--scale", "0: 1, -1: 1.2", "--effect", "0.9", "--effect-steps", "0%: 1, 60%: 0.8", "--effect-start", 0.1]
    words += ["--blocks", "mid effect 0.7", "--motion-mask", mask, "--mask-of", "both", "--views"]
    words += ["--noise", "shared", "--noise-share", 0.3, "--frame-seeds", "5, 8", "--freeinit-enable"]
    words += ["--freeinit-iters", 2, "--freeinit-coarse", "--freeinit-filter", "gaussian"]
    words += ["--motion-lora", f"{PAN}:0.5", "--motion-lora", f"{domain}:0.4"]
    done = run("animate", "--checkpoint", "pocket", "--output", path, *words)
    assert done.code == 0, done.err
    frames = pixels([frame.image for frame in read_clip(path)])
    mask.unlink()  # the recipe holds the mask itself
    data = json.loads(json.dumps(read_recipe(path).data))
    where = {file.name: file for file in (domain, *POCKET.folder.iterdir())}
    again = request.request_of(data, lambda name, _digest: where[name])
    assert torch.equal(pixels(request.prepare(again).render(pipeline)), frames)
    without = replace(again.settings, motion_mask="")
    assert not torch.equal(pixels(request.prepare(replace(again, settings=without)).render(pipeline)), frames)
    done = run("reproduce", path, "--models", tmp_path)
    assert done.code == 0, done.err
    assert done.out == "Reproduced: frame 0 is identical.\n"
