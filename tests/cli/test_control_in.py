"""`animate --control`: what steers a clip, its recipe, and what is refused before anything is loaded."""

from __future__ import annotations

import shutil
import sys

import pytest
import torch
from PIL import Image
from support.clip_files import write_film
from support.control_files import t2i_state, write, write_pocket_controlnet
from support.source_files import shades

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.video import read_clip, read_recipe, write_clip
from lib_animatediff.video.hashing import file_hash

ANIMATE = ("animate", "--checkpoint", "pocket", "--prompt", "a red disc", "--steps", 2, "--frames", 4, "--seed", 3)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_pocket_controlnet(folder / "net.safetensors")
    write(folder / "t2i.pth", t2i_state((64, 64, 64, 64)))
    return folder


@pytest.fixture(scope="module")
def written_sources(tmp_path_factory):
    """Images as a folder, a GIF and a film."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "images").mkdir()
    images = [image.copy() for image in shades(4)]
    for number, image in enumerate(images):
        image.paste((255, 255, 255), (8 * number, 16, 8 * number + 24, 40))
        image.save(folder / "images" / f"{number}.png")
    write_clip(folder / "a.gif", images, formats=["gif"], fps=8)
    write_film(folder / "a.mp4", images)
    return folder


@pytest.fixture
def sources(written_sources, tmp_path):
    """A copy of them."""
    return shutil.copytree(written_sources, tmp_path / "in")


def frames_of(path):
    return [frame.image.convert("RGB").tobytes() for frame in read_clip(path)]


def test_the_recipe_names_the_sources_by_hash_and_makes_the_clip_again(run, tmp_path, models, sources):
    clip = tmp_path / "clip.png"
    words = ("--control", f"canny:{sources / 'images'}", "--control-model", models / "net.safetensors")
    words += ("--control", f"tile:{sources / 'a.gif'}", "--control-model", f"{models / 't2i.pth'}:0.7")
    done = run(
        *ANIMATE, *words, "--control-start", 0, "--control-end", "0: 0.5, 3: 1", "--control-end", 1, "--output", clip
    )
    assert done.code == 0, done.err
    recipe = read_recipe(clip)
    first, second = recipe.data["files"]["controls"]
    assert first["model"] == {"name": "net.safetensors", "sha256": file_hash(models / "net.safetensors")}
    assert (first["source"]["name"], first["source"]["sha256"]) == ("images", file_hash(sources / "images"))
    assert (first["preprocessor"], first["weight"], first["end"]) == ("canny", "1", "0: 0.5, 3: 1")
    assert (second["preprocessor"], second["weight"], second["end"]) == ("tile", "0.7", 1.0)
    assert 'Control 1: "net.safetensors, canny of images, weight 1, steps 0 to 0: 0.5, 3: 1"' in recipe.infotext
    assert str(tmp_path).encode() not in clip.read_bytes()
    (tmp_path / "found").mkdir()
    for path in (models, sources):
        shutil.copytree(path, tmp_path / "found" / path.name)
    done = run("reproduce", clip, "--models", tmp_path / "found")
    assert done.out.startswith("Reproduced: frame 0 is identical"), done.err
    (tmp_path / "found" / "in" / "images" / "0.png").write_bytes((sources / "images" / "1.png").read_bytes())
    assert "is not the file that the clip was made with" in run("reproduce", clip, "--models", tmp_path / "found").err


def test_the_built_in_control_model_has_a_name(run, tmp_path, sources):
    clip = tmp_path / "clip.png"
    done = run(*ANIMATE, "--control", sources / "images", "--control-model", "pocket:0.8", "--output", clip)
    assert done.code == 0, done.err
    (unit,) = read_recipe(clip).data["files"]["controls"]
    file = POCKET.folder / POCKET.control
    assert (unit["model"], unit["weight"]) == ({"name": file.name, "sha256": file_hash(file)}, "0.8")
    done = run("reproduce", clip, "--models", sources)
    assert done.out.startswith("Reproduced: frame 0 is identical"), done.err


def test_every_source_of_a_clip_serves_and_weights_travel(run, tmp_path, models, sources):
    made = {}
    Image.new("L", (64, 64)).save(sources / "black.png")
    model = ("--control-model", models / "net.safetensors")
    small = ("--steps", 1, "--frames", 4, "--width", 32, "--height", 32)
    for name, words in {
        "none": (),
        "folder": ("--control", f"none:{sources / 'images'}", *model),
        "pattern": ("--control", f"none:{sources / 'images' / '*.png'}", *model),
        "no preprocessor": ("--control", sources / "images", *model),
        "one image": ("--control", f"canny:{sources / 'images' / '2.png'}", *model),
        "film": ("--control", f"invert:{sources / 'a.mp4'}", *model),
        "black mask": ("--control", sources / "images", *model, "--control-mask", sources / "black.png"),
        "weight 0": ("--control", f"none:{sources / 'images'}", *model, "--control-weight", "0: 0, 3: 0"),
    }.items():
        path = tmp_path / f"{name}.png"
        done = run(*ANIMATE, *small, *words, "--output", path)
        assert done.code == 0, done.err
        made[name] = frames_of(path)
    assert made["folder"] == made["pattern"] == made["no preprocessor"]
    assert made["weight 0"] == made["none"]
    assert made["black mask"] == made["none"]
    assert len({tuple(frames) for frames in made.values()}) == 4


def test_key_images_and_the_clips_own_video(run, tmp_path, models, sources):
    model = ("--control-model", models / "net.safetensors")
    words = ("--control", "canny", *model, "--control-key", f"2:{sources / 'images' / '1.png'}", "--control-reach", 1)
    done = run(*ANIMATE, "--effect", "0", *words, "--output", tmp_path / "keys.png")
    assert done.code == 0, done.err
    run(*ANIMATE, "--effect", "0", "--output", tmp_path / "plain.png")
    keys, plain = (frames_of(tmp_path / f"{name}.png") for name in ("keys", "plain"))
    assert [one == other for one, other in zip(keys, plain, strict=True)] == [True, True, False, True]
    done = run(*ANIMATE, "--video", sources / "images", "--control", "canny", *model, "--output", tmp_path / "own.png")
    assert done.code == 0, done.err
    (unit,) = read_recipe(tmp_path / "own.png").data["files"]["controls"]
    assert unit["source"]["name"] == "images"


WRONG = {
    "AD-H25": ("--control-fit", "loop"),
    "AD-H26": ("--control", "canny:{sources}/images"),
    "AD-H27": ("--control", "canny:{sources}/images", "--control-model", "{net}", "--control-key", "1:{sources}/a.gif"),
    "AD-H28": ("--control", "depth:{sources}/images", "--control-model", "{net}"),
    "AD-H29": ("--control", "canny", "--control-model", "{net}"),
    "AD-H30": ("--control", "canny:{sources}/images", "--control-model", "{net}:0.5", "--control-weight", "1"),
    "AD-H31": ("--control", "canny", "--control-model", "{net}", "--control-key", "c.png"),
    "AD-H33": ("--control", "canny", "--control-model", "{net}", "--control-key", "1:{sources}/none.png"),
    "AD-H32": ("--control", "canny:{sources}/images", "--control-model", "{net}", *("--control-end", 1) * 2),
    "AD-H12": ("--control", "canny:{sources}/images", "--control-model", "{net}", "--control-start", 1),
    "AD-H16": ("--control", "canny:{sources}/a.gif", "--control-model", "{net}", "--control-fit", "refuse"),
    "AD-H19": ("--control", "canny:{sources}/images", "--control-model", "{sources}/none.pth"),
    "AD-H20": ("--control", "canny:{sources}/images", "--control-model", "{sources}/other.safetensors"),
    "AD-H22": ("--control", "canny:{sources}/images", "--control-model", "{sources}/wide.safetensors"),
    "AD-V59": ("--control", "canny:{sources}/none.mp4", "--control-model", "{net}"),
    "AD-V11": ("--control", "canny:{sources}/broken", "--control-model", "{net}"),
    "AD-C28": ("--control", "canny:{sources}/images", "--control-model", "{net}:3"),
}


@pytest.mark.parametrize("code", WRONG)
def test_what_is_wrong_is_one_sentence_before_anything_is_loaded(run_early, tmp_path, models, sources, code):
    write(sources / "other.safetensors", {"nothing": torch.ones(1)})
    write(sources / "wide.safetensors", t2i_state((320, 640, 64, 64)))
    (sources / "broken").mkdir()
    (sources / "broken" / "0.png").write_bytes(b"no image")
    assert Image.open(sources / "a.gif").n_frames == 4
    words = [str(word).format(sources=sources, net=models / "net.safetensors") for word in WRONG[code]]
    done = run_early(*ANIMATE, "--frames", 6, *words, "--output", tmp_path / "clip.png")
    assert f"[{code}]" in done.one_error
    assert not (tmp_path / "clip.png").exists()


def test_a_missing_opencv_is_said_first(run_early, monkeypatch, tmp_path, models, sources):
    monkeypatch.setitem(sys.modules, "cv2", None)
    words = ("--control", f"canny:{sources / 'images'}", "--control-model", models / "net.safetensors")
    done = run_early(*ANIMATE, *words, "--output", tmp_path / "clip.png")
    assert "The preprocessor canny needs OpenCV" in done.one_error
