"""SparseCtrl and PIA in the real WebUI, without any other extension: by API and by clicking."""

from __future__ import annotations

import base64
import json

import numpy
import pytest
from PIL import Image
from support.webui_real.clicking import PANEL, choose_module, fill, generate, open_fold, prepare_clip, prose
from support.webui_real.clips import animate, clip_payload
from support.webui_real.guided import PIA, RGB, SCRIBBLE, added, drawn, guided_calls, remove_guides, write_guides
from support.webui_real.server import PAYLOAD, file_bytes
from support.webui_real.studio import (
    FLOAT_ORDER,
    HIRES,
    decoded,
    frames_of,
    left_as_it_was,
    painted,
    refused,
    same_picture_after,
    sent_back,
    texts_of,
    trouble,
)

from lib_animatediff.video.hashing import file_hash
from lib_animatediff.video.metadata import read_recipe

FRAMES = 4
GUIDED = {"frames": FRAMES, "image": "in/guides/0.png", "last_image": "in/guides/1.png", "sparse_ctrl": RGB}
MOVED = {"model": PIA, "frames": FRAMES, "image": "in/guides/0.png"}
LONG = {"frames": 8, "key_images": "2: in/guides/0.png", "sparse_ctrl": RGB, "context_kind": "static"}


@pytest.fixture(scope="module", autouse=True)
def images(studio):
    """Two images and a drawing in the WebUI's own folder, and files of each kind beside the motion modules."""
    write_guides(studio.motion_modules_dir)
    folder = studio.data_dir / "in" / "guides"
    folder.mkdir(parents=True)
    for number in range(2):
        Image.fromarray(numpy.roll(numpy.asarray(painted()), 24 * number, axis=0)).save(folder / f"{number}.png")
    drawn().save(folder / "drawing.png")
    yield folder
    remove_guides(studio.motion_modules_dir)


def init(path):
    """The fields of an img2img request with an image."""
    return {"init_images": [base64.b64encode(path.read_bytes()).decode("ascii")], "denoising_strength": 0.75}


@pytest.mark.shows("SparseCtrl: rows that the encoder sees, key frames, and residuals row by row, in both tabs")
@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_rows_of_the_encoder_and_of_the_unet(studio, images, tab):
    fields = {} if tab == "txt2img" else init(images / "1.png")
    calls = guided_calls(studio, GUIDED, tab=tab, **fields)
    assert len(calls) >= 3
    for call in calls:
        features = call["features"]
        assert len(features) == 2 * FRAMES
        assert (features[:FRAMES] == features[FRAMES:]).all()  # both streams have the same images
        assert (features[1] == features[2]).all()  # no image, and the same embedding of none
        assert abs(features[0] - features[1]).max() > FLOAT_ORDER
        assert abs(features[0] - features[3]).max() > FLOAT_ORDER
        assert abs(added(call) - call["residual"]).max() < 1e-4
        assert len(set(call["timesteps"].tolist())) == 1
    assert (calls[0]["features"] == calls[-1]["features"]).all()
    without = frames_of(studio, {**GUIDED, "sparse_strength": 0})
    assert (without == frames_of(studio, {"frames": FRAMES})).all()  # the images are not pinned
    strengths = guided_calls(studio, {**GUIDED, "sparse_strength": "1, 0, 0.5"})[0]
    for frame, strength in enumerate((1, 0, 0.5, 0.5)):
        found, whole = added(strengths)[frame], strengths["residual"][frame]
        assert abs(found - strength * whole).max() < 1e-4


@pytest.mark.shows("SparseCtrl: windows, AND, a batch, FreeInit, hires fix; the model is what it was")
def test_it_works_with_the_rest(studio, images):
    with left_as_it_was(studio):
        calls = guided_calls(studio, {**LONG, "context_length": 4, "overlap": 0})
        starts = {tuple(call["features"][:4, 0, 0, 0].round(4)) for call in calls}
        assert len(starts) == 2  # frame 2 is at its own place in its window, and at the start of the other one
        assert all(len(call["features"]) == 8 for call in calls)
        none = guided_calls(studio, {**LONG, "context_length": 4, "overlap": 0, "sparse_without_key": "none"})
        assert len(none) * 2 == len(calls)
        for payload, rows in (
            ({"prompt": "a cat AND a dog"}, 3 * FRAMES),
            ({"batch_size": 2}, 4 * FRAMES),
            ({"prompt": "a cat, " * 40}, 2 * FRAMES if studio.host.is_patched else FRAMES),  # cond and uncond, or each
        ):
            calls = guided_calls(studio, GUIDED, **payload)
            assert max(len(call["features"]) for call in calls) == rows, payload
            assert all(abs(added(call) - call["residual"]).max() < 1e-4 for call in calls)
        large = guided_calls(studio, GUIDED, **HIRES)
        assert {call["features"].shape[-1] for call in large} == {8, 16}
        frames_of(studio, {**GUIDED, "freeinit_enable": True, "freeinit_iters": 2})
        clips = animate(studio, GUIDED, n_iter=2)
        assert len(clips["images"]) == 2


@pytest.mark.shows("SparseCtrl: a drawing for the encoder for scribbles, both encoders together")
def test_drawings(studio, images):
    asked = {"frames": FRAMES, "sparse_ctrl": SCRIBBLE, "scribbles": "1: in/guides/drawing.png"}
    (call, *_) = guided_calls(studio, asked)
    assert (call["features"][0] == call["features"][2]).all()
    assert abs(call["features"][1] - call["features"][0]).max() > FLOAT_ORDER
    coded = base64.b64encode((images / "drawing.png").read_bytes()).decode("ascii")
    one = frames_of(studio, asked)
    assert (one == frames_of(studio, {**asked, "scribbles": f"1: data:image/png;base64,{coded}"})).all()
    both = {**asked, **GUIDED, "sparse_ctrl": f"{RGB}, {SCRIBBLE}"}
    assert abs(frames_of(studio, both) - one).max() > FLOAT_ORDER


@pytest.mark.shows("SparseCtrl and PIA: infotext and recipe with hashes, the same clip again, a note about the choice")
@pytest.mark.parametrize("clip", [GUIDED, MOVED], ids=["SparseCtrl", "PIA"])
def test_the_same_clip_again(studio, images, clip):
    with same_picture_after(studio):
        answer = animate(studio, {**clip, "formats": ["GIF"]})
        frames = decoded(studio)
        (text,) = texts_of(answer)
        name = clip.get("sparse_ctrl") or clip["model"]
        assert f"Guided frames: {name} with " in text.replace('"', "")
        assert file_hash(images / "0.png")[:10] in text
        recipe = read_recipe_of(answer, studio)
        (unit,) = recipe["controls"]
        assert unit["model"]["name"] == name
        assert unit["keys"][0]["sha256"] == file_hash(images / "0.png")
        (note,) = json.loads(answer["info"])["extra_generation_params"]["AnimateDiff notes"]
        assert note.startswith("image_method is ")
        assert (sent_back(studio, answer) == frames).all()
        assert abs(frames - frames_of(studio, {"frames": FRAMES})).max() > FLOAT_ORDER


def read_recipe_of(answer, studio):
    path = studio.data_dir / "made.gif"
    path.write_bytes(file_bytes(answer))
    found = read_recipe(path)
    path.unlink()
    return found.data


@pytest.mark.shows("PIA: how much moves, in both tabs and in hires fix")
def test_pia(studio, images):
    with left_as_it_was(studio):
        small, large = (frames_of(studio, {**MOVED, "pia_motion": name}) for name in ("small", "large"))
        assert abs(small - large).max() > FLOAT_ORDER
        assert frames_of(studio, MOVED, **HIRES).shape[-1] == 128
        moved = {"frames": FRAMES, "model": PIA, "pin_init": True}
        studio.img2img(**clip_payload(moved, **init(images / "0.png")))
        assert decoded(studio).shape == small.shape


@pytest.mark.shows("SparseCtrl and PIA: failures leave the model as it was; what cannot be is refused before sampling")
def test_failures(studio, images):
    with left_as_it_was(studio):
        at = {"layer": "model.diffusion_model.middle_block.0", "call": 1}
        for clip in (GUIDED, MOVED):
            payload = {**PAYLOAD, **clip_payload(clip, **trouble(raise_at=at))}
            answer = studio.api("POST", "/sdapi/v1/txt2img", payload)
            assert answer.status_code == 500
        assert "[AD-W61]" in refused(studio, {**GUIDED, "sparse_ctrl": "none.safetensors"})
        assert "[AD-Q10]" in refused(studio, {**GUIDED, "sparse_ctrl": "mm_small_v3"})
        assert "[AD-Q33]" in refused(studio, {"frames": FRAMES, "sparse_ctrl": RGB})
        assert "[AD-Q62]" in refused(studio, {**MOVED, "image": ""})
        assert "[AD-C75]" in refused(studio, {**GUIDED, "key_images": "40: in/guides/0.png"})
        drawing = {"sparse_ctrl": SCRIBBLE, "scribbles": "0: in/guides/0.png", "frames": FRAMES}
        assert "[AD-Q24]" in refused(studio, drawing)


@pytest.mark.shows("SparseCtrl: chosen and dropped into the panel, keys as a gallery with frame numbers, generated")
def test_clicked(studio, page, images, screenshot):
    asked = {"frames": FRAMES, "key_images": "2: in/guides/0.png", "sparse_ctrl": RGB}
    wanted = frames_of(studio, asked, sampler_name="DPM++ 2M")  # as on the page
    prepare_clip(page, studio, FRAMES)
    open_fold(page, "key_images")
    fill(page, {"animatediff_txt2img_key_images_frame": 2})
    page.locator(f"{PANEL}_key_images_upload input[type=file]").set_input_files(images / "0.png")
    page.wait_for_function(f"document.querySelector('{PANEL}_key_images textarea').value.startsWith('2: ')")
    page.locator(f"{PANEL}_key_images_gallery").get_by_text("frame 2").wait_for()
    open_fold(page, "sparse_ctrl")
    page.locator(f"{PANEL}_encoder_refresh").click()
    page.locator(f"{PANEL}_encoder_picker input").click()
    page.locator(f"{PANEL}_encoder_picker li", has_text=RGB).click()
    page.wait_for_function(f"document.querySelector('{PANEL}_sparse_ctrl textarea').value == '{RGB}'")
    screenshot(page, "guides")
    generate(page)
    assert abs(decoded(studio) - wanted).max() < FLOAT_ORDER
    text = page.locator(prose("#html_info_txt2img")).text_content()
    assert "Guided frames: " in text
    assert "image_method is sparse-ctrl" in page.locator("#txt2img_results").text_content()
    open_fold(page, "key_images")
    page.locator(f"{PANEL}_key_images_remove").click()
    page.wait_for_function(f"document.querySelector('{PANEL}_key_images textarea').value == ''")
    choose_module(page, PIA)
    page.locator(f"{PANEL}_advice").get_by_text("moves one image").wait_for()
