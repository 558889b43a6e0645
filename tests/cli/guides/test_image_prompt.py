"""`animate --ip-adapter`: images as a prompt, its recipe, and what is refused before anything is loaded."""

from __future__ import annotations

import shutil

import pytest
import torch
from support.control_files import write
from support.image_prompt_files import FACE, PLAIN, adapter_state, write_adapter, write_encoder
from support.source_files import shades

from lib_animatediff.video import read_clip, read_recipe
from lib_animatediff.video.hashing import file_hash

ANIMATE = ("animate", "--checkpoint", "pocket", "--prompt", "a red disc", "--steps", 2, "--frames", 4, "--seed", 3)
ANIMATE = (*ANIMATE, "--width", 32, "--height", 32)


@pytest.fixture(scope="module")
def models(tmp_path_factory, pipeline):
    folder = tmp_path_factory.mktemp("models")
    write_adapter(folder / "ip.safetensors", adapter_state(pipeline.unet, PLAIN))
    write_encoder(folder / "image_encoder")
    (folder / "images").mkdir()
    for number, image in enumerate(shades(4)):
        image.save(folder / "images" / f"{number}.png")
    return folder


def frames_of(path):
    return [frame.image.convert("RGB").tobytes() for frame in read_clip(path)]


def test_the_recipe_names_all_files_by_hash_and_makes_the_clip_again(run, tmp_path, models):
    clip, made = tmp_path / "clip.png", {}
    words = ("--ip-adapter", models / "ip.safetensors", "--image-encoder", models / "image_encoder")
    images = models / "images"
    for name, more in {
        "none": None,
        "weight 0": ("--ip-image", images, "--ip-weight", 0),
        "one": ("--ip-image", images / "0.png"),
        "each": ("--ip-image", images),
        "travel": ("--ip-image", f"0:{images / '0.png'}", "--ip-image", f"3:{images / '3.png'}", "--ip-end", 0.9),
    }.items():
        done = run(*ANIMATE, *(() if more is None else (*words, *more)), "--output", clip)
        assert done.code == 0, done.err
        made[name] = frames_of(clip)
    assert made["weight 0"] == made["none"]
    assert len({tuple(frames) for frames in made.values()}) == 4
    (unit,) = read_recipe(clip).data["files"]["controls"]
    for name, file in (("model", "ip.safetensors"), ("encoder", "image_encoder")):
        assert unit[name] == {"name": file, "sha256": file_hash(models / file)}
    assert [key["frame"] for key in unit["keys"]] == [0, 3]
    assert unit["end"] == 0.9
    shutil.copytree(models, tmp_path / "found")
    done = run("reproduce", clip, "--models", tmp_path / "found")
    assert done.out.startswith("Reproduced: frame 0 is identical"), done.err


WRONG = {
    "AD-H76": ("--ip-weight", 0.5),
    "AD-H77": ("--ip-adapter", "{models}/ip.safetensors", "--ip-image", "{models}/images"),
    "AD-H78": ("{all}", "--ip-image", "0:{models}/images/0.png", "--ip-fit", "loop"),
    "AD-H79": ("{all}", "--ip-image", "0:{models}/images/0.png", "--ip-image", "{models}/images/1.png"),
    "AD-H80": ("{all}", "--ip-image", "0:{models}/none.png"),
    "AD-H17": ("{all}", "--ip-image", "9:{models}/images/0.png"),
    "AD-H65": (
        *("--ip-adapter", "{models}/ip.safetensors", "--image-encoder", "{models}/images"),
        "--ip-image",
        "{one}",
    ),
    "AD-H66": (*("--ip-adapter", "{models}/ip.safetensors", "--image-encoder", "{folder}/text"), "--ip-image", "{one}"),
    "AD-H68": ("--ip-adapter", "{folder}/sdxl.safetensors", "--image-encoder", "{encoder}", "--ip-image", "{one}"),
    "AD-H69": ("--ip-adapter", "{folder}/wide.safetensors", "--image-encoder", "{encoder}", "--ip-image", "{one}"),
    "AD-H70": ("--ip-adapter", "{folder}/other.safetensors", "--image-encoder", "{encoder}", "--ip-image", "{one}"),
    "AD-H71": ("--ip-adapter", "{folder}/face.safetensors", "--image-encoder", "{encoder}", "--ip-image", "{one}"),
    "AD-H72": ("--ip-adapter", "{folder}/short.safetensors", "--image-encoder", "{encoder}", "--ip-image", "{one}"),
    "AD-H19": ("--ip-adapter", "{folder}/none.safetensors", "--image-encoder", "{encoder}", "--ip-image", "{one}"),
    "AD-V59": ("{all}", "--ip-image", "{folder}/none.mp4"),
}


@pytest.mark.parametrize("code", WRONG)
def test_what_is_wrong_is_one_sentence_before_anything_is_loaded(run_early, tmp_path, models, pipeline, code):
    state = adapter_state(pipeline.unet)
    write_adapter(tmp_path / "wide.safetensors", adapter_state(pipeline.unet, reads=7))
    write_adapter(tmp_path / "face.safetensors", adapter_state(pipeline.unet, FACE))
    write_adapter(tmp_path / "short.safetensors", {**state, "ip_adapter": {"1.to_k_ip.weight": torch.ones(64, 64)}})
    foreign = {name: torch.ones(64, 2048) for name in state["ip_adapter"]}
    write_adapter(tmp_path / "sdxl.safetensors", {**state, "ip_adapter": foreign})
    write(tmp_path / "other.safetensors", {"nothing": torch.ones(1)})
    shutil.copytree(models / "image_encoder", tmp_path / "text")
    (tmp_path / "text" / "config.json").write_text('{"hidden_size": 8}')
    places = {"models": models, "folder": tmp_path, "one": models / "images" / "0.png"}
    places["encoder"] = models / "image_encoder"
    adapter = ("--ip-adapter", models / "ip.safetensors", "--image-encoder", models / "image_encoder")
    words = [each for word in WRONG[code] for each in (adapter if word == "{all}" else (str(word).format(**places),))]
    done = run_early(*ANIMATE, *words, "--output", tmp_path / "clip.png")
    assert f"[{code}]" in done.one_error
