"""SparseCtrl and PIA in both tabs: what the encoder is given and adds, PIA's image, what is said and refused."""

from __future__ import annotations

import re
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from PIL import Image, ImageDraw
from support.matrix import every_once, only_at
from support.pia import pia_state
from support.sparse_ctrl import literal_residuals
from support.unchanged import Portrait
from support.webui_double.double import CLIP, SIDE, shared
from support.webui_double.guided import FRAMES, GUIDED, MOVED, PIA, RGB, SCRIBBLE, weights, write_guides
from support.webui_double.images_in import IMG2IMG, frames_of, sent
from support.webui_double.sampling import latent_of

from lib_animatediff.request.settings import from_infotext
from lib_animatediff.video import read_recipe
from lib_animatediff.video.hashing import file_hash
from lib_animatediff.video.pixels import levels_of
from motion_module.sparse_ctrl.load import load_sparse_ctrl

EXACT = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each kind, written once."""
    folder = tmp_path_factory.mktemp("guides")
    write_guides(folder)
    return folder


@cache
def read_encoder(path):
    return load_sparse_ctrl(path)


@pytest.fixture
def guided(webui, images, files, monkeypatch):
    """The double with two images, a drawing, and a file of each kind."""
    for file in files.iterdir():
        (webui.models_folder / file.name).symlink_to(file)
    monkeypatch.setattr(webui.module("catalog.encoders"), "load_sparse_ctrl", lambda path: read_encoder(path.resolve()))
    page = Image.new("RGB", (64, 64))
    ImageDraw.Draw(page).line((8, 8, 48, 40), fill="white", width=3)
    page.save(webui.outputs.parent / "in" / "drawing.png")
    return webui


@pytest.fixture
def reached(checkpoint):
    """For each call of the UNet's blocks: timesteps, conditions, each skip connection, and what the decoder met of it.

    The input of output block i ends in skip connection 11 - i, with what an encoder has added to it.
    """
    calls, handles, given = [], [], {}
    unet = checkpoint.model.diffusion_model

    def begin(_unet, args, kwargs):
        given.update(t=args[1].clone(), context=kwargs["context"].clone())

    def keep(number, out):
        if number == 0:
            calls.append({**given, "own": {}, "met": {}})
        calls[-1]["own"][number] = out.clone()

    def meet(number, args):
        calls[-1]["met"][11 - number] = args[0].clone()

    def listen(_p):
        while handles:  # in each pass after the hooks of its encoder
            handles.pop().remove()
        handles.append(unet.register_forward_pre_hook(begin, with_kwargs=True))
        for number, block in enumerate(unet.input_blocks):
            handles.append(block.register_forward_hook(lambda _b, _a, out, number=number: keep(number, out)))
        for number, block in enumerate(unet.output_blocks):
            handles.append(block[0].register_forward_pre_hook(lambda _b, args, number=number: meet(number, args)))

    shared.during_sampling = listen
    yield calls
    for handle in handles:
        handle.remove()


def added(call, skip):
    """What was added to a skip connection in a call."""
    own = call["own"][skip]
    return call["met"][skip][:, -own.shape[1] :] - own


@pytest.mark.parametrize("fields", only_at([{}, IMG2IMG], 0), ids=["txt2img", "img2img"])
def test_each_row_has_the_residuals_of_a_literal_encoder(guided, images, reached, fields):
    frames_of(guided, GUIDED, **fields)
    (call,) = reached
    given = {0: images["a"], FRAMES - 1: images["b"]}
    latents = {frame: torch.full((4, SIDE, SIDE), latent_of(image)) for frame, image in given.items()}
    for stream in range(2):
        rows = slice(stream * FRAMES, (stream + 1) * FRAMES)
        expected, _ = literal_residuals(weights("rgb"), latents, call["t"][rows], call["context"][rows], FRAMES)
        for skip in (0, 5, 11):
            torch.testing.assert_close(added(call, skip)[rows], expected[skip], rtol=1e-3, atol=1e-3)


def test_a_window_gets_the_conditions_of_its_own_frames(guided, images, reached):
    shared.steps = 1
    asked = {**GUIDED, "last_image": "", "key_images": "5: in/b.png", "frames": 6, "context_kind": "static"}
    frames_of(guided, {**asked, "context_length": 3, "overlap": 0})
    assert len(reached) == 2
    for call, given in zip(reached, ({0: images["a"]}, {2: images["b"]}), strict=True):
        latents = {place: torch.full((4, SIDE, SIDE), latent_of(image)) for place, image in given.items()}
        expected, _ = literal_residuals(weights("rgb"), latents, call["t"][:3], call["context"][:3], 3)
        torch.testing.assert_close(added(call, 5)[:3], expected[5], rtol=1e-3, atol=1e-3)


def test_strength_per_frame_and_part_of_the_sampling(guided, reached):
    shared.steps = 4
    frames_of(guided, {**GUIDED, "sparse_strength": "0: 1, 1: 0, 3: 0.5", "sparse_end": 0.5})
    assert len(reached) == 4
    acted = [bool(added(call, 5).any()) for call in reached]
    assert acted == [True, True, False, False]
    per_frame = [float(row.abs().max()) for row in added(reached[0], 5)[:FRAMES]]
    assert per_frame[1] == 0
    assert all(per_frame[frame] > 0 for frame in (0, 2, 3))


def test_drawings_reach_their_encoder_in_pixels(guided, reached):
    asked = {**CLIP, "frames": FRAMES, "sparse_ctrl": SCRIBBLE, "scribbles": "1: in/drawing.png"}
    frames_of(guided, asked, width=64, height=64)
    (call,) = reached
    page = Image.open(guided.outputs.parent / "in" / "drawing.png").convert("RGB")
    pixels = levels_of(page).permute(2, 0, 1).float() / 255
    rows = slice(0, FRAMES)
    expected, _ = literal_residuals(weights("scribble"), {1: pixels}, call["t"][rows], call["context"][rows], FRAMES)
    torch.testing.assert_close(added(call, 5)[rows], expected[5], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "fields",
    only_at([{"prompt": "a cat AND a dog"}, {"batch_size": 2}, {"n_iter": 2}], 0),
    ids=["AND", "a batch", "n_iter"],
)
def test_every_clip_and_stream_has_them(guided, reached, fields):
    frames_of(guided, GUIDED, **fields)
    for call in reached:
        assert len(call["t"]) % FRAMES == 0
        assert all(row.any() for row in added(call, 5))


def test_both_passes_of_hires_fix_have_images_in_their_size(guided, reached):
    frames_of(guided, GUIDED, enable_hr=True, hr_upscale_to_x=128, hr_upscale_to_y=128)
    assert sorted({call["own"][0].shape[-1] for call in reached}) == [SIDE, 2 * SIDE]
    assert all(added(call, 5).any() for call in reached)


def test_freeinit_takes_the_residuals_of_its_first_run(guided, monkeypatch):
    module = guided.module("clip.guides.loaded")
    made = []
    cache = module.ResidualCache
    monkeypatch.setattr(module, "ResidualCache", lambda most: made.append(cache(most)) or made[-1])
    guided.paint({**GUIDED, "freeinit_enable": True, "freeinit_iters": 3})
    assert [one.hits for one in made] == [2]
    guided.paint(GUIDED)
    assert len(made) == 1


def test_pia_moves_its_image(guided, images, checkpoint):
    plain = frames_of(guided, {**CLIP, "frames": FRAMES})
    moved = frames_of(guided, MOVED)
    other = frames_of(guided, {**MOVED, "pia_motion": "large"})
    again = frames_of(guided, {**MOVED, "image": "", "key_images": "0: in/a.png"})
    assert not torch.allclose(moved, plain, atol=1e-3)
    assert not torch.equal(moved[-1], other[-1])
    assert torch.equal(moved, again)


def test_pia_adds_the_map_of_its_image_to_the_first_convolution(guided, images, checkpoint):
    seen = []

    def listen(_p):
        convolution = checkpoint.model.diffusion_model.input_blocks[0][0]
        own = convolution.forward  # what the checkpoint's own weights give, without hooks
        hook = convolution.register_forward_hook(lambda _c, args, out: seen.append(out - own(args[0])))
        shared.undo = hook

    shared.during_sampling = listen
    frames_of(guided, {**MOVED, "pia_motion": "1, 0.5"})
    shared.undo.remove()
    weight = pia_state()["conv_in.weight"][:, 4:]
    image = torch.full((4, SIDE, SIDE), latent_of(images["a"]))
    for row, found in enumerate(seen[0]):
        mask = torch.full((1, SIDE, SIDE), 1 if row % FRAMES == 0 else 0.5)
        expected = torch.nn.functional.conv2d(torch.cat([mask, image])[None], weight, padding=1)[0]
        torch.testing.assert_close(found, expected, **EXACT)


def test_the_choice_and_its_reason_are_said(guided, images):
    comments = guided.paint(GUIDED).comments
    assert "image_method is sparse-ctrl: the images go to rgb.safetensors, since it is given" in comments
    comments = guided.paint({**MOVED, "pin_strength": 0.5}).comments
    assert "image_method is pia: the image goes to pia.safetensors" in comments
    assert "pin_strength has no effect, since the images are not pinned." in comments
    comments = guided.paint({**GUIDED, "sparse_ctrl": "", "pia_motion": "large", "sparse_end": 0.5}).comments
    assert "pia_motion has no effect, since the motion module is no PIA model." in comments
    assert "sparse_end has no effect, since no SparseCtrl encoder is chosen." in comments
    made = frames_of(guided, {**GUIDED, "image_method": "both"})
    torch.testing.assert_close(made[0], torch.full((4, SIDE, SIDE), latent_of(images["a"])), **EXACT)


def test_infotext_and_recipe_name_the_files_with_hashes(guided):
    asked = {**GUIDED, "sparse_ctrl": "rgb [for images]", "sparse_strength": "0: 1, 3: 0.5", "format": ["GIF"]}
    frames = frames_of(guided, asked)
    (made,) = guided.outputs.rglob("*.gif")
    recipe = read_recipe(made)
    assert "sparse_ctrl: rgb.safetensors" in recipe.infotext
    image = file_hash(guided.outputs.parent / "in" / "a.png")
    assert image[:10] in recipe.infotext
    assert "Guided frames: " in recipe.infotext
    (unit,) = recipe.data["controls"]
    assert unit["model"]["name"] == RGB
    assert unit["model"]["sha256"] == file_hash(guided.models_folder / RGB)
    assert [(key["frame"], key["name"]) for key in unit["keys"]] == [(0, "a.png"), (FRAMES - 1, "b.png")]
    assert "pins" not in recipe.data
    again = frames_of(guided, {**from_infotext(field_of(recipe.infotext)), "enable": True})
    assert torch.equal(frames, again)


def field_of(infotext):
    """The field with our settings."""
    found = re.search(r'AnimateDiff: "((?:\\.|[^"\\])*)"', infotext)
    return found[1].replace('\\"', '"')


def test_images_within_the_request(guided, images):
    drawing = Image.open(guided.outputs.parent / "in" / "drawing.png")
    coded = f"1: data:image/png;base64,{sent(drawing)}"
    asked = {**CLIP, "frames": FRAMES, "sparse_ctrl": SCRIBBLE}
    one = frames_of(guided, {**asked, "scribbles": coded}, width=64, height=64)
    other = frames_of(guided, {**asked, "scribbles": "1: in/drawing.png"}, width=64, height=64)
    assert torch.equal(one, other)


@pytest.mark.parametrize(("clip", "fields"), every_once([GUIDED, MOVED], [{}, IMG2IMG]))
def test_request_and_model_are_what_they_were(guided, checkpoint, clip, fields):
    picture, before = guided.picture(), Portrait(checkpoint)
    guided.paint(clip, **fields)
    before.assert_unchanged()

    def fail(_p):
        raise RuntimeError("in sampling")

    shared.during_sampling = fail
    with pytest.raises(RuntimeError, match="in sampling"):
        guided.paint(clip, **fields)
    shared.during_sampling = None
    before.assert_unchanged()
    assert guided.picture() == picture


def test_a_preview_has_the_image_of_frame_0(guided):
    comments = guided.paint({**GUIDED, "image": "", "preview": True}).comments
    assert "rgb.safetensors has no image at a rendered frame, so that it does not act." in comments
    one = frames_of(guided, {**GUIDED, "preview": True})
    assert not torch.equal(one, frames_of(guided, {**CLIP, "frames": FRAMES, "preview": True}))


def test_colours_are_matched_in_the_finished_frames(guided, monkeypatch):
    plain = guided.paint({**GUIDED, "format": ["Frame"]}).images
    matched = guided.paint({**GUIDED, "format": ["Frame"], "sparse_colour_match": 1}).images
    for frame, (before, after) in enumerate(zip(plain[-FRAMES:], matched[-FRAMES:], strict=True)):
        wanted = 100 + 100 * frame / (FRAMES - 1)
        assert before.tobytes() != after.tobytes()
        assert abs(float(levels_of(after.convert("RGB"))[..., 0].float().mean()) - wanted) < 1


def test_the_plan_states_the_memory(guided, capsys):
    guided.paint(GUIDED)
    assert "of it for SparseCtrl)" in capsys.readouterr().out
    guided.paint(CLIP)
    assert "SparseCtrl" not in capsys.readouterr().out


def test_images_dropped_into_the_gallery_get_their_frames(guided, images):
    gallery = guided.module("ui.guides.gallery")
    text, left = gallery._with_image(images["a"], 8, "")
    assert left is None
    text, _ = gallery._with_image(images["b"], -1, text)
    text, _ = gallery._with_image(images["b"], 3, text)
    assert [caption for _, caption in gallery._shown(text)] == ["frame 3", "frame 8", "frame -1"]
    assert gallery._selected(text, SimpleNamespace(index=1)) == 8
    replaced, _ = gallery._with_image(images["b"], 8, text)
    assert [caption for _, caption in gallery._shown(replaced)] == ["frame 3", "frame 8", "frame -1"]
    assert gallery._without(8, text).count("png") == 2
    assert gallery._shown("8: /etc/passwd, 9: in/none.png") == []
    assert gallery._without(0, "no grammar") == ""


def test_the_list_of_encoders_has_badges_and_fills_in_names(guided):
    fields = guided.module("ui.fields")
    assert fields._encoder_names() == [f"{RGB} [for images]", f"{SCRIBBLE} [for scribbles]"]
    text, _ = fields._with_encoder(f"{SCRIBBLE} [for scribbles]", RGB)
    assert text == f"{RGB}, {SCRIBBLE}"
    assert fields._with_encoder(f"{RGB} [for images]", text)[0] == text
    assert f"{PIA} [pia, SD 1.5]" in guided.module("catalog.models").choices()
