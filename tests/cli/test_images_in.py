"""`animate --image`, `--last`, `--key` and `--continue`: what a clip takes over, its recipe, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image
from support.cli import exit_code
from support.clip_files import psnr
from support.source_files import shades

from lib_animatediff.jobs import recipe as request
from lib_animatediff.jobs.recipe import file_hash
from lib_animatediff.video import read_clip, read_recipe, write_clip

ANIMATE = ("animate", "--checkpoint", "pocket", "--prompt", "a red disc moving right")
SHORT = ("--frames", 6, "--steps", 2)


@pytest.fixture(autouse=True)
def loaded(pipeline, monkeypatch):
    monkeypatch.setattr(request.host, "load_pipeline", lambda *_args, **_kwargs: pipeline)


@pytest.fixture(scope="module")
def made(pipeline, tmp_path_factory):
    """A clip of eight frames, without loss."""
    path = tmp_path_factory.mktemp("made") / "earlier.png"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request.host, "load_pipeline", lambda *_args, **_kwargs: pipeline)
        assert exit_code(*ANIMATE, "--frames", 8, "--steps", 8, "--seed", 3, "--fps", 10, "--output", path) == 0
    return path


@pytest.fixture
def earlier(made, tmp_path):
    """A copy of that clip."""
    (tmp_path / "in").mkdir()
    return shutil.copy(made, tmp_path / "in" / "earlier.png")


def frames_of(path):
    return [frame.image.convert("RGB") for frame in read_clip(path)]


@pytest.fixture
def pictures(earlier):
    """Frames of the clip as files."""
    paths = []
    for index, image in enumerate(frames_of(earlier)):
        paths.append(earlier.parent / f"{index}.png")
        image.save(paths[-1])
    return paths


def test_images_are_frames_and_the_recipe_makes_the_clip_again(run, tmp_path, pictures):
    clip = tmp_path / "clip.png"
    words = ("--image", pictures[0], "--last", pictures[7], "--key", f"2:{pictures[3]}", "--pin-inversion", 0.6)
    done = run(*ANIMATE, *SHORT, *words, "--output", clip, "--json")
    assert done.code == 0, done.err
    assert "The largest change beside a pinned frame is" in done.err
    assert json.loads(done.out)["seam"] > 0
    made = frames_of(clip)
    for frame, source in ((0, 0), (2, 3), (5, 7)):
        assert psnr(made[frame], Image.open(pictures[source])) > 25  # as the VAE shows it
    recipe = read_recipe(clip)
    entry = recipe.data["files"]["pins"]
    assert [(pin["frame"], pin["index"], pin["name"]) for pin in entry["frames"]] == [
        (0, 0, "0.png"),
        (2, 0, "3.png"),
        (5, 0, "7.png"),
    ]
    assert entry["frames"][0]["sha256"] == file_hash(pictures[0])
    assert (entry["strength"], entry["inversion"], entry["fit"]) == (1.0, 0.6, "crop")
    assert 'Pinned frames: "0: 0.png, 2: 3.png, 5: 7.png"' in recipe.infotext
    assert str(tmp_path).encode() not in clip.read_bytes()
    again = request.request_of(recipe.data, lambda name, _: next(iter(_found(name, pictures[0].parent))))
    ready = request.prepare(again)
    assert [image.tobytes() for image in ready.render(ready.load())] == [image.tobytes() for image in made]
    done = run("reproduce", clip, "--models", pictures[0].parent)
    assert done.out.startswith("Reproduced: frame 1 is identical"), done.err
    shutil.copy(pictures[1], pictures[3])
    assert "3.png is not the file that the clip was made with" in run("reproduce", clip, "--models", tmp_path).err


def _found(name, folder):
    from lib_animatediff.builtin_model import POCKET

    return [path for place in (folder, POCKET.folder) for path in place.rglob("*") if path.name == name]


@pytest.mark.parametrize(
    ("shape", "words", "size"),
    [
        ((96, 64), (), (96, 64)),
        ((640, 960), (), (64, 96)),
        ((123, 81), (), (96, 64)),  # cropped to multiples of 8
        ((128, 64), ("--width", 64), (64, 32)),
        ((128, 64), ("--width", 64, "--height", 64), (64, 64)),
    ],
)
def test_the_clip_has_the_shape_of_its_image(run, tmp_path, shape, words, size):
    Image.new("RGB", shape, (200, 90, 40)).save(tmp_path / "a.png")
    given = (*ANIMATE, "--frames", 2, "--steps", 1, *words, "--image", tmp_path / "a.png")
    done = run(*given, "--output", tmp_path / "b.png", "--json")
    assert tuple(json.loads(done.out)["size"]) == size, done.err


def test_a_clip_goes_on_from_the_last_frames_of_another_with_its_recipe(run, tmp_path, earlier):
    clip = tmp_path / "clip.png"
    done = run("animate", "--continue", earlier, "--keep", 3, "--steps", 2, "--output", clip, "--json")
    assert done.code == 0, done.err
    made, before = frames_of(clip), frames_of(earlier)
    assert min(psnr(one, other) for one, other in zip(made[:3], before[5:], strict=True)) > 25
    data, former = read_recipe(clip).data, read_recipe(earlier).data
    assert {name: data[name] for name in ("prompt", "cfg", "size", "sampler")} == {
        name: former[name] for name in ("prompt", "cfg", "size", "sampler")
    }
    assert (data["steps"], data["seed"]) == (2, former["seed"] + 8)
    assert data["files"]["checkpoint"] == former["files"]["checkpoint"]
    assert data["settings"] == former["settings"]
    pins = data["files"]["pins"]
    assert ([pin["index"] for pin in pins["frames"]], pins["leads_on"]) == ([5, 6, 7], True)
    assert json.loads(done.out)["fps"] == 10
    assert run("animate", "--continue", earlier, "--preview", "--steps", 1, "--output", tmp_path / "a.png").code == 0
    assert run("reproduce", clip, "--models", earlier.parent).out.startswith("Reproduced: frame 3 is identical")


def test_an_image_fades_into_the_noise_with_the_names_of_the_table(run, tmp_path, pictures):
    clip = tmp_path / "clip.png"
    ramp = ("--image", pictures[0], "--latent-power", 1, "--last-frame", pictures[7], "--denoise", 0.7)
    done = run(*ANIMATE, *SHORT, *ramp, "--output", clip)
    assert done.code == 0, done.err
    assert "--latent-scale washes frames out" in done.err
    recipe = read_recipe(clip)
    found = recipe.data["files"]["ramp"]
    names = ("latent_power", "latent_scale", "latent_scale_last", "denoise")
    assert [found[name] for name in names] == [1, 32, 32, 0.7]
    assert (found["image"]["name"], found["last_frame"]["name"]) == ("0.png", "7.png")
    assert "pins" not in recipe.data["files"]
    assert "latent_scale: 32" in recipe.infotext
    assert "Denoising strength: 0.7" in recipe.infotext
    assert run("reproduce", clip, "--models", pictures[0].parent).out.startswith("Reproduced: frame 0 is identical")
    pinned = run(*ANIMATE, *SHORT, *ramp, "--pin-init", "--pin-inversion", 0.5, "--output", clip)
    assert "--pin-inversion has no effect, since the other frames start from the images." in pinned.err
    assert psnr(frames_of(clip)[0], Image.open(pictures[0])) > 25


def test_a_clip_of_another_program_gives_its_rate_and_size(run, tmp_path):
    (path,) = write_clip(tmp_path / "a.png", shades(5), fps=12)
    done = run(*ANIMATE, *SHORT, "--continue", path, "--output", tmp_path / "b.png", "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert (made["fps"], made["size"], made["frames"]) == (12, [64, 64], 6)


def test_what_has_no_effect_is_said(run, tmp_path):
    Image.new("RGB", (64, 64), (90, 140, 60)).save(tmp_path / "a.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "b.png")
    given = (*ANIMATE, "--image", tmp_path / "a.png", "--output", tmp_path / "out.png", "--steps", 1, "--frames", 2)
    done = run(*given, "--last", tmp_path / "b.png", "--preview")
    assert "The preview is frame 0 alone, so that b.png has no effect." in done.err
    done = run(*given, "--video", tmp_path / "*.png", "--denoise", 0, "--pin-inversion", 0.5)
    assert "--pin-inversion has no effect with --video" in done.err
    assert "no effect" not in run(*given, "--video", tmp_path / "*.png", "--denoise", 0).err
    done = run(*given, "--pin-init")
    assert "--pin-init has no effect without --image and a --latent-scale above 0." in done.err
    done = run(*given, "--video", tmp_path / "*.png", "--denoise", 0, "--latent-scale", 8)
    assert "--latent-scale has no effect with --video." in done.err
    done = run(*given, "--latent-scale", 8, "--latent-power-last", 2, "--pin-strength", 0.5)
    assert "--latent-power-last has no effect, since there is no --last-frame." in done.err
    assert "--pin-strength has no effect, since no frame is pinned." in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--key", "40:IMAGE", "--frames", 16), "There is no frame 40 for a.png: the clip has 16 frames, 0 to 15"),
        (("--key", "IMAGE"), "is not valid. Write FRAME:FILE"),
        (("--image", "nothing.png"), "There is no image nothing.png"),
        (("--image", "BROKEN"), "broken.png"),
        (("--image", "LONG"), "long.png has 640x64 pixels, which is too long and narrow"),
        (("--image", "IMAGE", "--width", 60), "width must be a multiple of 8 above 0, not 60"),
        (("--image", "IMAGE", "--key", "0:IMAGE"), "Frame 0 has two images"),
        (("--image", "IMAGE", "--pin-strength", 0), "strength of pinned frames must be above 0"),
        (("--image", "IMAGE", "--pin-inversion", 1), "inversion of pinned frames must be from 0 to below 1"),
        (("--image", "IMAGE", "--motion", "Text2Video-Zero"), "cannot apply pinned frames"),
        (("--pin-strength", 0.5), "--pin-strength would have no effect without an image"),
        (("--latent-scale", 8), "--latent-scale would have no effect without an image"),
        (("--denoise", 0.5, "--image", "IMAGE"), "--denoise would have no effect without --video"),
        (("--image", "IMAGE", "--latent-scale", 8, "--denoise", "0.5, 0.6"), "the latents of a ramp have one strength"),
        (("--image", "IMAGE", "--latent-scale", -1), "latent_scale must be between 0 and 1000"),
        (("--image", "IMAGE", "--latent-scale", 8, "--last-frame", "nothing.png"), "There is no image nothing.png"),
        (("--image", "IMAGE", "--latent-scale", 8, "--motion", "Text2Video-Zero"), "cannot apply latent_scale"),
        (("--image", "IMAGE", "--keep", 2), "--keep would have no effect without --continue"),
        (
            ("--continue", "CLIP", "--keep", 9, "--frames", 16),
            "clip.png has 5 frames, and the new clip 16. Keep 1 to 5",
        ),
        (("--continue", "CLIP", "--frames", 4), "Keep 1 to 3"),
        (("--continue", "nothing.mp4"), "There is no file nothing.mp4"),
    ],
)
def test_a_refusal_is_one_line_before_anything_is_loaded(run, tmp_path, monkeypatch, words, message):
    monkeypatch.setattr(request.host, "load_pipeline", None)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    Image.new("RGB", (640, 64)).save(tmp_path / "long.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    write_clip(tmp_path / "clip.png", shades(5), fps=8)
    files = {"IMAGE": "a.png", "LONG": "long.png", "BROKEN": "broken.png", "CLIP": "clip.png"}
    given = []
    for word in words:
        start, _, name = str(word).rpartition(":")
        given.append(f"{start}:{tmp_path / files[name]}".lstrip(":") if name in files else word)
    assert message in run(*ANIMATE, *given, "--output", tmp_path / "out.gif").one_error
    assert not (tmp_path / "out.gif").exists()


def test_what_shows_no_direction_or_lacks_a_file_is_not_continued(run, tmp_path):
    clip = tmp_path / "clip.png"
    assert run(*ANIMATE, "--frames", 3, "--steps", 1, "--reverse", "--output", clip).code == 0
    assert "also plays backward" in run("animate", "--continue", clip, "--output", tmp_path / "b.png").one_error
    assert run(*ANIMATE, "--frames", 3, "--steps", 1, "--output", clip).code == 0
    recipe = read_recipe(clip)
    recipe.data["files"]["checkpoint"]["sha256"] = "0" * 64
    recipe.data["files"]["motion_loras"] = [{"name": "pan.ckpt", "sha256": "1" * 64, "strength": 1.0}]
    write_clip(clip, shades(5), fps=8, recipe=recipe)
    words = ("animate", "--continue", clip, "--keep", 1, "--output", tmp_path / "b.png")
    assert "Give both: --checkpoint and --motion." in run(*words).one_error
    done = run(*words, "--checkpoint", "pocket")
    assert "clip.png was made with pan.ckpt. To carry on with it, give --motion-lora." in done.err
