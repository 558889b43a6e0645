"""Clips from the frames of a video in the real WebUI: what reaches the UNet, in both tabs, and what comes back."""

from __future__ import annotations

import json
import re

import numpy
import pytest
from PIL import Image
from support.source_files import CLICKS, clicks_of, write_film_with_sound
from support.webui_real.clicking import fill, generate, open_fold, panel, prepare_clip, prose
from support.webui_real.clips import animate, clip_payload
from support.webui_real.server import file_bytes, pixels
from support.webui_real.studio import (
    FLOAT_ORDER,
    HIRES,
    arrays,
    counted,
    decoded,
    frames_of,
    left_as_it_was,
    painted,
    refused,
    sent_back,
    texts_of,
    trouble,
)

from lib_animatediff.video import read_recipe
from lib_animatediff.video.hashing import file_hash

FRAMES = 4
SAMPLERS = ["Euler a", "DPM++ 2M", "DPM++ SDE", "DPM fast", "DDIM", "UniPC", "LCM"]


@pytest.fixture(scope="module")
def video(studio):
    """A folder of frames of which each is another, in the WebUI's own folder."""
    folder = studio.data_dir / "in" / "walk"
    folder.mkdir(parents=True)
    for number in range(FRAMES):
        Image.fromarray(numpy.roll(numpy.asarray(painted()), 16 * number, axis=1)).save(folder / f"{number}.png")
    return {"video": "in/walk", "frames": 0}


@pytest.fixture(scope="module")
def other_frame(studio, video):
    """The same but for frame 2."""
    folder = studio.data_dir / "in" / "other"
    folder.mkdir()
    for number in range(FRAMES):
        image = Image.open(studio.data_dir / "in" / "walk" / f"{number}.png")
        (Image.new("RGB", image.size, "red") if number == 2 else image).save(folder / f"{number}.png")
    return {**video, "video": "in/other"}


def inputs_of(studio, clip, *, tab="txt2img", strength=0.5, **payload):
    """Latents and timesteps of each call of the UNet."""
    if tab == "txt2img":
        animate(studio, {"denoise": strength, **clip}, **payload, **trouble(conditions=True))
    else:
        given = {"init_images": [], "denoising_strength": strength, **payload, **trouble(conditions=True)}
        studio.img2img(**clip_payload(clip, **given))
    *calls, _table = arrays(studio, "inputs")
    return calls[::2], calls[1::2]


@pytest.mark.shows("Video in: each frame starts from its own frame, with every kind of sampler, in both tabs")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_rows_and_timesteps_are_those_of_image_to_image(studio, video, other_frame, sampler):
    sampler = {"sampler_name": sampler, "steps": 8}  # UniPC needs three that are left
    latents, timesteps = inputs_of(studio, video, **sampler)
    assert {len(rows) for rows in latents} == {2 * FRAMES}
    of_img2img, their_timesteps = inputs_of(studio, video, tab="img2img", **sampler)
    assert [list(each) for each in timesteps] == [list(each) for each in their_timesteps]
    assert all(abs(one - other).max() < FLOAT_ORDER for one, other in zip(latents, of_img2img, strict=True))
    _, all_steps = inputs_of(studio, video, strength=1, **sampler)
    assert timesteps[0][0] < all_steps[0][0]
    changed, _ = inputs_of(studio, other_frame, **sampler)
    rows = abs(latents[0] - changed[0]).reshape(2 * FRAMES, -1).max(axis=1)
    assert list(numpy.nonzero(rows)[0]) == [2, 2 + FRAMES]


@pytest.mark.shows("Video in: strength 0 is the video, strength 1 the clip from the prompt alone, bit for bit")
@pytest.mark.parametrize("sampler", ["Euler a", "DDIM"])
def test_both_ends_of_the_strength(studio, video, other_frame, sampler):
    frames, calls = counted(studio, {**video, "denoise": 0}, sampler_name=sampler)
    assert calls == 0
    again = frames_of(studio, {**video, "denoise": 0}, prompt="a dog", seed=9, sampler_name=sampler)
    assert (frames == again).all()
    studio.img2img(**clip_payload(video, init_images=[], denoising_strength=0, sampler_name=sampler))
    assert abs(decoded(studio) - frames).max() < FLOAT_ORDER
    changed = frames_of(studio, {**other_frame, "denoise": 0}, sampler_name=sampler)
    assert list((frames != changed).reshape(FRAMES, -1).any(axis=1)) == [False, False, True, False]
    plain = frames_of(studio, {"frames": FRAMES}, sampler_name=sampler)
    assert (frames_of(studio, {**video, "denoise": 1}, sampler_name=sampler) == plain).all()
    studio.img2img(**clip_payload(video, init_images=[], denoising_strength=1, sampler_name=sampler))
    assert (decoded(studio) == plain).all()


@pytest.mark.shows("Video in: each frame has its own strength, with every kind of sampler")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_frame_has_its_own_strength(studio, video, sampler):
    """A frame at 0 is the video's, and the strongest one is what it is without weaker ones beside it."""
    how, still = {"sampler_name": sampler, "steps": 8}, {**video, "effect": 0}
    none = frames_of(studio, {**still, "denoise": 0}, **how)
    strong = frames_of(studio, {**still, "denoise": 0.8}, **how)
    assert (frames_of(studio, {**still, "denoise": "0: 0.8, 3: 0.8"}, **how) == strong).all()
    frames = frames_of(studio, {**still, "denoise": "0.8, 0.4, 0"}, **how)
    assert (frames[2:] == none[2:]).all()
    assert abs(frames[0] - strong[0]).max() < FLOAT_ORDER
    assert abs(frames[1] - none[1]).max() > FLOAT_ORDER
    clip = {**still, "denoise": "0.8, 0.4, 0"}
    studio.img2img(**clip_payload(clip, init_images=[], denoising_strength=0.3, **how))
    assert abs(decoded(studio) - frames).max() < FLOAT_ORDER


@pytest.fixture(scope="module")
def mask(studio, video):
    """White on the left."""
    image = Image.new("L", painted().size)
    image.paste(255, (0, 0, 32, 64))
    image.save(studio.data_dir / "in" / "half.png")
    return {"mask_path": "in/half.png", "format": ["Frame"]}


@pytest.mark.shows("Video in: outside its mask every pixel is the video's, with every kind of sampler, in both tabs")
@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M", "DDIM", "UniPC"])
def test_outside_the_mask_every_pixel_is_the_videos(studio, video, mask, sampler):
    how = {"sampler_name": sampler, "steps": 8}
    with left_as_it_was(studio):
        of_img2img = studio.img2img(**clip_payload({**video, **mask}, init_images=[], denoising_strength=1, **how))
        for answer in (animate(studio, {**video, **mask, "denoise": 1}, **how), of_img2img):
            for number in range(FRAMES):
                made = pixels(answer, number).astype(int)
                given = numpy.asarray(Image.open(studio.data_dir / "in" / "walk" / f"{number}.png"))
                assert (made[:, 32:] == given[:, 32:]).all()
                assert abs(made[:, :28] - given[:, :28]).max() > 20
    assert "Video mask: half.png" in texts_of(of_img2img)[0]


@pytest.mark.shows("Video in: with FreeInit, windows, hires fix; the model is what it was")
def test_it_works_with_the_rest(studio, video):
    with left_as_it_was(studio):
        begun, once = inputs_of(studio, video)
        frames = decoded(studio)
        _, twice = inputs_of(studio, {**video, "freeinit_enable": True, "freeinit_iters": 2})
        assert [each[0] for each in twice] == 2 * [each[0] for each in once]
        windows = {"context_length": 3, "overlap": 1}
        latents, _ = inputs_of(studio, {**video, **windows})
        assert (latents[0] == begun[0]).all()
        assert abs(decoded(studio) - frames).max() > FLOAT_ORDER
        latents, timesteps = inputs_of(studio, video, **HIRES)
        assert [each[0] for each in timesteps[: len(once)]] == [each[0] for each in once]
        assert len(timesteps) > len(once)
        assert latents[-1].shape[-1] == 2 * latents[0].shape[-1]


@pytest.mark.shows("Video in: sound, recipe with the source's hash, and the same clip from the infotext")
def test_files_and_infotext(studio):
    path = studio.data_dir / "in" / "film.mp4"
    path.parent.mkdir(exist_ok=True)
    write_film_with_sound(path, "aac", frames=30)
    clip = {"video": "in/film.mp4", "video_start": 6, "video_end": 15, "format": ["MP4"], "denoise": 0.4}
    answer = studio.txt2img(**clip_payload({**clip, "frames": 0, "fps": 10}))
    frames = decoded(studio)
    made = studio.workdir / "clip.mp4"
    made.write_bytes(file_bytes(answer))
    heard, end = clicks_of(made)
    assert heard == pytest.approx([seconds - 0.6 for seconds in CLICKS if 0.6 < seconds < 1.6], abs=0.02)
    assert end == pytest.approx(1.0, abs=0.03)
    (text,) = texts_of(answer)
    digest = file_hash(path)
    assert f"Video: film.mp4, Video hash: {digest[:10]}" in text
    data = read_recipe(made).data
    assert (data["video"]["sha256"], data["video"]["denoise"]) == (digest, 0.4)
    assert str(studio.data_dir) not in json.dumps(data) + text
    assert (sent_back(studio, answer) == frames).all()


@pytest.mark.shows("Video in: what cannot be is refused before sampling")
def test_refusals(studio, video):
    with left_as_it_was(studio):
        assert "[AD-V59]" in refused(studio, {"video_source": "in/none.mp4"})
        assert "[AD-W32]" in refused(studio, {"video_path": "/etc"})
        assert "[AD-V57]" in refused(studio, {**video, "frames": 9})
        assert "[AD-W32]" in refused(studio, {**video, "mask_path": "/etc"})
        assert "[AD-V71]" in refused(studio, {**video, "mask": "alpha"})
        payload = clip_payload({"video": "/etc"}, init_images=[])
        response = studio.api("POST", "/sdapi/v1/img2img", payload)
        assert response.status_code == 422, response.text
        assert "[AD-W32]" in response.json()["detail"]


@pytest.mark.shows("Video in: the infotext gives the same clip again in img2img, too")
def test_the_infotext_of_img2img(studio, video):
    answer = studio.img2img(**clip_payload(video, init_images=[], denoising_strength=0.6))
    frames = decoded(studio)
    (text,) = texts_of(answer)
    assert "Video: walk, Video hash: " in text
    # Prompt, size, scale and strength are the client's: the API of img2img takes none of them from an infotext.
    studio.img2img(infotext=text, init_images=[], denoising_strength=0.6)
    assert (decoded(studio) == frames).all()


@pytest.mark.shows("Video in: dropped into the panel, its part chosen, generated and played, in both tabs")
@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_clicked(studio, page, tmp_path, screenshot, tab):
    path, fields = write_film_with_sound(tmp_path / "dropped.mp4", "aac", frames=20), panel(tab)
    prepare_clip(page, studio, 8, tab=tab)
    open_fold(page, "video", tab)
    page.locator(f"{fields}_video_upload input[type=file]").set_input_files(path)
    page.wait_for_function(f"document.querySelector('{fields}_video textarea').value.endsWith('dropped.mp4')")
    page.wait_for_function(f"document.querySelector('{fields}_fps input').value == '10'")
    page.locator(f"{fields}_video_upload video").wait_for()
    fill(page, {f"animatediff_{tab}_video_start": 2, f"animatediff_{tab}_video_end": 5})
    screenshot(page, f"video_in_{tab}")
    generate(page, tab)
    frames = decoded(studio)
    text = page.locator(prose(f"#html_info_{tab}")).text_content()
    assert f"Video: dropped.mp4, Video hash: {file_hash(path)[:10]}" in text
    playing = f"#{tab}_results .animatediff-player .animatediff-frame"
    first = page.locator(playing).inner_text()
    assert first.endswith("of 4")
    page.wait_for_function(f"document.querySelector('{playing}').textContent != '{first}'")
    target = studio.data_dir / "in" / "dropped.mp4"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(path.read_bytes())
    clip = {"video": "in/dropped.mp4", "video_start": 2, "video_end": 5, "frames": 0}
    same = {"sampler_name": re.search(r"Sampler: ([^,]+)", text)[1]}
    assert len(frames) == 4
    if tab == "img2img":
        same["denoising_strength"] = float(re.search(r"Denoising strength: ([^,]+)", text)[1])
        studio.img2img(**clip_payload(clip, init_images=[], **same))
        assert (decoded(studio) == frames).all()
    else:
        assert (frames_of(studio, clip, **same) == frames).all()


@pytest.mark.shows("Video in: DDIM inversion at the noise levels of the sampler's calls, backward, in both tabs")
@pytest.mark.parametrize("sampler", ["DDIM", "Euler", "DPM++ 2M"])
def test_the_video_is_inverted_at_the_levels_of_the_sampler(studio, video, sampler):
    """The first call is on the frames without noise, and the sampler begins where the last one leads to."""
    how = {"sampler_name": sampler, "steps": 8, "strength": 0.75}
    with left_as_it_was(studio):
        latents, timesteps = inputs_of(studio, {**video, "video_inversion": 1}, **how)
        count = next(number for number, rows in enumerate(latents) if len(rows) == 2 * FRAMES)
        assert {len(rows) for rows in latents[:count]} == {FRAMES}
        rising, falling = ([float(each[0]) for each in part] for part in (timesteps[:count], timesteps[count:]))
        assert rising[0] == rising[1] < rising[2]
        between = rising[2:][::-1]
        near = 0.5 if studio.host.is_patched else 0.02  # Forge and reForge round the timesteps of samplers
        assert falling[1 : 1 + len(between)] == pytest.approx(between, abs=near)
        assert falling[0] > between[0]
        plain, without = inputs_of(studio, video, **how)
        assert [float(each[0]) for each in without] == pytest.approx(falling, abs=near)
        assert abs(latents[count] - plain[0]).max() > FLOAT_ORDER
        others, their_timesteps = inputs_of(studio, {**video, "video_inversion": 1}, tab="img2img", **how)
        assert [list(each) for each in timesteps] == [list(each) for each in their_timesteps]
        assert abs(latents[0] - others[0]).max() < FLOAT_ORDER  # a random model lets rounding grow from there
