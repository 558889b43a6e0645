"""`animate --video`: what a clip takes over from its video, what its recipe says of it, and what is refused."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction

import pytest
from PIL import Image
from support.clip_files import psnr, write_film
from support.source_files import CLICKS, clicks_of, shades, write_film_with_sound

from lib_animatediff.jobs import recipe as request
from lib_animatediff.video import read_clip, read_recipe, write_clip
from lib_animatediff.video.hashing import file_hash

ANIMATE = ("animate", "--checkpoint", "pocket", "--steps", "2")


@pytest.fixture(autouse=True)
def loaded(pipeline, monkeypatch):
    monkeypatch.setattr(request.host, "load_pipeline", lambda *_args, **_kwargs: pipeline)


@pytest.fixture
def film(tmp_path):
    (tmp_path / "in").mkdir()
    return write_film_with_sound(tmp_path / "in" / "a.mp4", "aac")


def test_frames_rate_size_and_sound_are_the_videos(run, tmp_path, film):
    done = run(
        *ANIMATE, "--video", film, "--denoise", 0, "--video-start", 6, "--output", tmp_path / "clip.mp4", "--json"
    )
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert (made["frames"], made["fps"], made["size"]) == (24, 10, [64, 64])
    frames = list(read_clip(tmp_path / "clip.mp4"))
    assert (len(frames), frames[-1].time + frames[-1].duration) == (24, Fraction(24, 10))
    heard, end = clicks_of(tmp_path / "clip.mp4")
    assert heard == pytest.approx([seconds - 0.6 for seconds in CLICKS if seconds > 0.6], abs=0.02)
    assert end == pytest.approx(2.4, abs=0.02)


def test_what_is_given_is_not_taken_over(run, tmp_path, film):
    words = ("--frames", 4, "--fps", 5, "--width", 32, "--video-fit", "pad", "--denoise", 0.5)
    done = run(*ANIMATE, "--video", film, *words, "--output", tmp_path / "clip.mp4", "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert (made["frames"], made["fps"], made["size"]) == (4, 5, [32, 32])
    assert "The clip has no sound, since it plays at another speed than a.mp4." in done.err
    silent = run(*ANIMATE, "--video", film, "--frames", 2, "--reverse", "--denoise", 0, "--output", tmp_path / "b.webm")
    assert "The clip has no sound, since it also plays backward." in silent.err
    mute = run(*ANIMATE, "--video", film, "--frames", 2, "--video-mute", "--denoise", 0, "--output", tmp_path / "c.mp4")
    assert "sound" not in mute.err


def test_a_variable_rate_is_said(run, tmp_path):
    first, *others = shades(3)
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=[50, 300, 250], loop=0)
    words = (*ANIMATE, "--video", tmp_path / "a.gif", "--denoise", 0)
    done = run(*words, "--output", tmp_path / "b.gif")
    assert "a.gif shows its frames for different times, which the clip does not: it has 5 frames" in done.err
    assert len(list(read_clip(tmp_path / "b.gif"))) == 3
    done = run(*words, "--video-fps", 20, "--output", tmp_path / "b.gif", "--json")
    assert "different times" not in done.err
    assert (json.loads(done.out)["frames"], json.loads(done.out)["fps"]) == (12, 20)


def test_the_recipe_names_the_video_and_makes_the_clip_again(run, tmp_path, film):
    clip = tmp_path / "clip.png"
    words = ("--video", film, "--video-every", 8, "--video-end", 20, "--denoise", 0.6)
    assert run(*ANIMATE, *words, "--output", clip).code == 0
    recipe = read_recipe(clip)
    entry = recipe.data["files"]["video"]
    assert (entry["name"], entry["sha256"]) == ("a.mp4", file_hash(film))
    assert (entry["every"], entry["end"], entry["denoise"], entry["fit"]) == (8, 20, 0.6, "crop")
    assert f'Denoising strength: 0.6, Video: "a.mp4", Video hash: {entry["sha256"][:10]}' in recipe.infotext
    assert str(tmp_path).encode() not in clip.read_bytes()
    done = run("reproduce", clip, "--models", film.parent)
    assert done.out.startswith("Reproduced: frame 0 is identical"), done.err
    assert "was made with a.mp4" in run("reproduce", clip).err
    shutil.copy(write_film(tmp_path / "b.mkv", shades(30), codec="ffv1", pix_fmt="bgr0"), film)
    assert "its SHA-256 differs" in run("reproduce", clip, "--models", film.parent).err


def test_a_pattern_of_images_is_reproduced_too(run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index, image in enumerate(shades(3)):
        image.save(folder / f"shot {index}.png")
        Image.new("RGB", (8, 8)).save(folder / f"other {index}.png")
    clip = tmp_path / "clip.png"
    assert run(*ANIMATE, "--video", folder / "shot*.png", "--denoise", 0.5, "--output", clip).code == 0
    assert read_recipe(clip).data["files"]["video"]["name"] == "shot*.png"
    (folder / "other 1.png").unlink()  # is none of them
    assert run("reproduce", clip, "--models", tmp_path).out.startswith("Reproduced: frame 0 is identical")
    (folder / "shot 1.png").unlink()
    assert "its SHA-256 differs" in run("reproduce", clip, "--models", tmp_path).err


def test_strength_0_gives_the_frames_back(run, tmp_path):
    """Frames of the built-in model's own world, which its VAE knows."""
    source, clip = tmp_path / "source.png", tmp_path / "clip.png"
    assert run(*ANIMATE, "--steps", 8, "--frames", 3, "--output", source).code == 0
    assert run(*ANIMATE, "--video", source, "--denoise", 0, "--output", clip).code == 0
    before, after = (list(read_clip(path)) for path in (source, clip))
    assert [frame.time for frame in after] == [frame.time for frame in before]
    assert min(psnr(one.image, other.image) for one, other in zip(before, after, strict=True)) > 25


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--denoise", 0.5), "--denoise would have no effect without --video"),
        (("--video", "https://example.com/a.mp4"), "is an address"),
        (("--video", "nothing.mp4"), "There is no video nothing.mp4"),
        (("--video", "FILM", "--denoise", 2), "denoise must be between 0 and 1"),
        (("--video", "FILM", "--frames", 31), "gives 30 frames with this start and end, but 31 are needed"),
        (("--video", "FILM", "--video-start", 30), "so there is no frame 30"),
        (("--video", "FILM", "--motion", "Text2Video-Zero"), "cannot apply a source video"),
        (("--mask", "FILM"), "--mask would have no effect without --video"),
        (("--video", "FILM", "--mask", "nothing.png"), "There is no mask nothing.png"),
        (("--video", "FILM", "--mask", "alpha"), "a.mp4 has no transparent pixels in these frames"),
        (("--video", "FILM", "--mask", "SLOW"), "slow.png has 2 masks for a clip of 30 frames"),
        (("--video", "FILM", "--denoise", "0: 0.8, 40: 0.3"), "the clip has no frame 40"),
        (("--video", "SLOW"), "has 0.5 frames per second, and a clip can have 1 to 120"),
    ],
)
def test_a_refusal_is_one_line_before_anything_is_loaded(run, tmp_path, film, monkeypatch, words, message):
    monkeypatch.setattr(request.host, "load_pipeline", None)
    (slow,) = write_clip(tmp_path / "slow.png", shades(2), fps=0.5)
    given = [{"FILM": film, "SLOW": slow}.get(word, word) for word in words]
    assert message in run(*ANIMATE, *given, "--output", tmp_path / "clip.gif").one_error
    assert not (tmp_path / "clip.gif").exists()


def test_a_mask_and_strengths_are_in_the_recipe_which_makes_the_clip_again(run, tmp_path, film):
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 24, 64))
    mask.save(tmp_path / "in" / "half.png")
    clip = tmp_path / "clip.png"
    words = ("--video", film, "--frames", 3, "--denoise", "0: 0.8, 2: 0.4", "--mask", tmp_path / "in" / "half.png")
    assert run(*ANIMATE, "--steps", 5, *words, "--mask-feather", 0, "--output", clip).code == 0
    recipe = read_recipe(clip)
    entry = recipe.data["files"]["video"]
    assert entry["denoise"] == pytest.approx([0.8, 0.6, 0.4])
    assert entry["mask"] == {
        "name": "half.png",
        "sha256": file_hash(tmp_path / "in" / "half.png"),
        "invert": False,
        "feather": 0,
    }
    assert 'Denoising strength: 0.8, Video: "a.mp4"' in recipe.infotext
    assert 'Video mask: "half.png"' in recipe.infotext
    assert str(tmp_path).encode() not in clip.read_bytes()
    for made, original in zip(read_clip(clip), read_clip(film), strict=False):
        right = (24, 0, 64, 64)
        assert made.image.convert("RGB").crop(right).tobytes() == original.image.convert("RGB").crop(right).tobytes()
    done = run("reproduce", clip, "--models", film.parent)
    assert done.out.startswith("Reproduced: frame 0 is identical"), done.err
    mask.save(tmp_path / "in" / "half.png", "BMP")
    assert "its SHA-256 differs" in run("reproduce", clip, "--models", film.parent).err
