"""Images as the start of a clip in the real WebUI: what reaches the UNet, in both tabs, and what comes back."""

from __future__ import annotations

import base64
import json

import numpy
import pytest
from PIL import Image
from support.webui_real.clicking import PANEL, generate, open_fold, prepare_clip, prose
from support.webui_real.clips import animate, clip_payload
from support.webui_real.studio import (
    FLOAT_ORDER,
    HIRES,
    arrays,
    decoded,
    frames_of,
    left_as_it_was,
    painted,
    refused,
    sent_back,
    texts_of,
    trouble,
)

from lib_animatediff.video.hashing import file_hash

FRAMES = 4
PINNED = {"frames": FRAMES, "image": "in/start/0.png", "last_image": "in/start/3.png"}
ALONE = {**PINNED, "pin_inversion": 0}


@pytest.fixture(scope="module")
def images(studio):
    """Four images in the WebUI's own folder, of which the first and the last are pinned."""
    folder = studio.data_dir / "in" / "start"
    folder.mkdir(parents=True)
    for number in range(FRAMES):
        Image.fromarray(numpy.roll(numpy.asarray(painted()), 16 * number, axis=0)).save(folder / f"{number}.png")
    return folder


def init(path, **fields):
    """The fields of an img2img request with an image."""
    return {"init_images": [base64.b64encode(path.read_bytes()).decode("ascii")], **fields}


def reached(studio, clip, *, tab="txt2img", **payload):
    """Latents and embedded timesteps of each call of the UNet on whole clips, after all that replaces them."""
    payload = clip_payload(clip, **payload, **trouble(reached=True))
    (studio.txt2img if tab == "txt2img" else studio.img2img)(**payload)
    seen = arrays(studio, "reached")
    steps = [each for each in seen if each.ndim == 2]
    latents = [each for each in seen if each.ndim == 4]
    calls = [(x, step) for x, step in zip(latents, steps, strict=True) if len(x) == 2 * FRAMES]
    return calls, len(latents) - len(calls)


@pytest.mark.shows("Images in: pinned frames reach the UNet as their images, at timestep 0, in both tabs")
@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M", "DDIM", "UniPC"])
@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_rows_and_timesteps_of_pinned_frames(studio, images, tab, sampler):
    fields = {} if tab == "txt2img" else init(images / "1.png", denoising_strength=0.75)
    calls, inverting = reached(studio, ALONE, tab=tab, sampler_name=sampler, steps=8, **fields)
    assert inverting == 0
    assert len(calls) >= 5
    pinned = [0, 3, 4, 7]
    begins = calls[0][0][pinned]
    for number, (x, steps) in enumerate(calls):
        half = steps.shape[1] // 2
        is_clean = [bool((step[:half] == 1).all() and (step[half:] == 0).all()) for step in steps]
        is_last = number == len(calls) - 1  # k-diffusion's last step is at timestep 0 for all frames
        assert [row for row, clean in enumerate(is_clean) if clean] == pinned or (is_last and all(is_clean))
        assert (x[pinned] == begins).all()
    assert (calls[0][0][[0, 3]] == calls[0][0][[4, 7]]).all()
    assert abs(calls[0][0][1] - calls[-1][0][1]).max() > FLOAT_ORDER
    frames = decoded(studio)
    # At a strength of 0, a video is what the VAE makes of its frames.
    shown = frames_of(studio, {"video": "in/start", "frames": 0, "denoise": 0})
    assert (frames[[0, 3]] == shown[[0, 3]]).all()
    assert abs(frames[1] - frames[2]).max() > FLOAT_ORDER


@pytest.mark.shows(
    "Images in: the other frames start from a share of the images' inverted noise, and follow the images"
)
def test_the_noise_beside_an_image(studio, images):
    _, inverting = reached(studio, PINNED, steps=8)
    joined = decoded(studio)
    assert inverting == 8
    _, none = reached(studio, {"frames": FRAMES}, steps=8)
    plain = decoded(studio)
    alone = frames_of(studio, ALONE, steps=8)
    assert none == 0
    for frames in (joined, alone):
        assert all(abs(frames[frame] - plain[frame]).max() > FLOAT_ORDER for frame in range(FRAMES))
    assert abs(joined[1] - alone[1]).max() > FLOAT_ORDER
    travelling = {"prompt": "0: a cat\n3: a dog AND a hat"}
    assert "[AD-W09]" in refused(studio, PINNED, **travelling)
    travelling = {"prompt": "0: a cat, which has a very long prompt\n3: a dog"}
    assert (frames_of(studio, PINNED, steps=8, **travelling)[[0, 3]] == joined[[0, 3]]).all()


@pytest.mark.shows("Images in: with AND, a batch, windows, FreeInit, hires fix; the model is what it was")
def test_it_works_with_the_rest(studio, images):
    with left_as_it_was(studio):
        frames = frames_of(studio, PINNED)
        for clip, payload in (
            ({"context_length": 3, "overlap": 1}, {}),
            ({"freeinit_enable": True, "freeinit_iters": 2}, {}),
            ({}, {"prompt": "a cat AND a dog"}),
            ({}, {"batch_size": 2}),
            ({"reuse": 2}, {"steps": 8}),
        ):
            made = frames_of(studio, {**PINNED, **clip}, **payload)
            assert abs(made[[0, 3]] - frames[[0, 3]]).max() < FLOAT_ORDER, (clip, payload)
            assert abs(made[-1] - frames[-1]).max() < FLOAT_ORDER
        large = frames_of(studio, PINNED, **HIRES)
        shown = frames_of(studio, {"video": "in/start", "frames": 0, "denoise": 0}, width=128, height=128)
        assert (large[[0, 3]] == shown[[0, 3]]).all()


@pytest.mark.shows("Images in: base64, recipe with hashes, and the same clip from the infotext")
def test_files_and_infotext(studio, images):
    coded = base64.b64encode((images / "0.png").read_bytes()).decode("ascii")
    answer = animate(studio, {**PINNED, "image": f"data:image/png;base64,{coded}"})
    frames = decoded(studio)
    assert (frames == frames_of(studio, PINNED)).all()
    (text,) = texts_of(answer)
    digests = [file_hash(images / f"{number}.png")[:10] for number in (0, 3)]
    assert all(digest in text for digest in digests)
    assert coded not in text
    assert str(studio.data_dir) not in text
    assert (sent_back(studio, answer) == frames).all()


@pytest.mark.shows("Images in: the init image of img2img as frame 0 makes the clip of txt2img, at full strength")
def test_the_init_image_is_frame_0(studio, images):
    wanted = frames_of(studio, {"frames": FRAMES, "image": "in/start/0.png"})
    given = init(images / "0.png", denoising_strength=1)
    studio.img2img(**clip_payload({"frames": FRAMES, "pin_init": True}, **given))
    assert (decoded(studio) == wanted).all()
    sized = clip_payload({"frames": FRAMES, "image": "in/start/0.png", "source_size": "source"}, width=96, height=80)
    answer = studio.txt2img(**sized)
    assert "Size: 64x64" in texts_of(answer)[0]
    assert (decoded(studio) == wanted).all()


@pytest.mark.shows("Images in: latent_power and latent_scale of existing clients, at the UNet and in a note")
def test_the_ramp_of_the_existing_extension(studio, images):
    fields = init(images / "0.png", denoising_strength=0.75, sampler_name="DDIM", steps=8)

    def first(**ramp):
        calls, _ = reached(studio, {"frames": FRAMES, **ramp}, tab="img2img", **fields)
        return calls[0][0][:FRAMES]

    # The latents are affine in the share of the image, which is 0 and 0.999 here.
    none, most = (first(latent_power=0, latent_scale=scale) for scale in (1, 1000))
    faded = first(latent_power=1, latent_scale=4)
    shares = numpy.array([1, 0.75, 0.5, 0.25])[:, None, None, None]
    assert abs(faded - (none + shares / 0.999 * (most - none))).max() < 1e-4
    answer = studio.img2img(**clip_payload({"frames": FRAMES, "latent_power": 1, "latent_scale": 4}, **fields))
    frames = decoded(studio)
    (note,) = json.loads(answer["info"])["extra_generation_params"]["AnimateDiff notes"]
    assert note.startswith("latent_scale mixes the init image into the noise as sd-webui-animatediff does")
    studio.img2img(**clip_payload({"frames": FRAMES, "latent_power": 1, "latent_scale": 4}, **fields))
    assert (decoded(studio) == frames).all()


@pytest.mark.shows("Images in: what cannot be is refused before sampling")
def test_refusals(studio, images):
    with left_as_it_was(studio):
        assert "[AD-S22]" in refused(studio, {"image": "in/none.png"})
        assert "[AD-W32]" in refused(studio, {"image": "/etc/passwd"})
        assert "[AD-C75]" in refused(studio, {**PINNED, "key_images": "9: in/start/1.png"})
        assert "[AD-C71]" in refused(studio, {**PINNED, "key_images": "0: in/start/1.png"})
        assert "[AD-W41]" in refused(studio, {"image": "data:image/png;base64,aGVsbG8gd29ybGQ="})


@pytest.mark.shows("Images in: dropped into the panel, generated")
def test_clicked(studio, page, images, screenshot):
    prepare_clip(page, studio, FRAMES)
    open_fold(page, "image")
    page.locator(f"{PANEL}_image_upload input[type=file]").set_input_files(images / "0.png")
    page.wait_for_function(f"document.querySelector('{PANEL}_image textarea').value.endsWith('.png')")
    screenshot(page, "images_in")
    generate(page)
    frames = decoded(studio)
    text = page.locator(prose("#html_info_txt2img")).text_content()
    assert "Pinned frames: " in text
    shown = frames_of(studio, {"video": "in/start", "frames": 0, "denoise": 0})
    assert abs(frames[0] - shown[0]).max() < FLOAT_ORDER
