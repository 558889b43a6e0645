"""Images as the start of a clip, in both tabs: what reaches the UNet and the sampler, what is said, what is refused."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from support.matrix import every_once, only_at
from support.source_files import shades
from support.unchanged import Portrait
from support.webui_double import double
from support.webui_double.double import CLIP, SIDE, shared
from support.webui_double.images_in import (  # noqa: F401 - one is a fixture
    ALONE,
    FRAMES,
    IMG2IMG,
    PICTURE,
    PINNED,
    TABS,
    few_steps,
    frames_of,
    sent,
)
from support.webui_double.sampling import latent_of

from lib_animatediff.video import write_clip

EXACT = {"rtol": 0, "atol": 1e-6}
pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture
def reached(checkpoint):
    """Latents and timesteps of every call of the UNet inside a sampler, after all hooks on it."""
    calls, handles = [], []

    def listen(_p):
        handles.append(
            checkpoint.model.diffusion_model.register_forward_pre_hook(
                lambda _unet, args: calls.append((args[0].clone(), args[1].clone()))
            )
        )

    shared.during_sampling = listen
    yield calls
    for handle in handles:
        handle.remove()


def latent(picture, side=SIDE):
    return torch.full((4, side, side), latent_of(picture))


# ---- pinned frames


@TABS
def test_pinned_frames_are_their_images_and_the_others_are_not(webui, images, fields):
    made = frames_of(webui, PINNED, **fields, batch_size=2)
    plain = frames_of(webui, {**CLIP, "frames": FRAMES}, **fields, batch_size=2)
    for clip in torch.split(made, FRAMES):
        torch.testing.assert_close(clip[0], latent(images["a"]), **EXACT)
        torch.testing.assert_close(clip[-1], latent(images["b"]), **EXACT)
    for frame in (1, 2, 5, 6):
        assert not torch.allclose(made[frame], plain[frame], atol=1e-3)  # they follow the images
        assert not torch.allclose(made[frame], latent(images["a"]), atol=1e-2)


@pytest.mark.parametrize(
    ("fields", "prompt"),
    every_once([{}, IMG2IMG], ["a cat AND a dog AND a hat", "a cat"]),
    ids=lambda value: value if isinstance(value, str) else value.get("tab", "txt2img"),
)
def test_the_unet_sees_images_without_noise_at_timestep_0(webui, images, reached, fields, prompt):
    webui.paint(ALONE, **fields, batch_size=2, prompt=prompt)
    ((x, timesteps),) = reached
    rows = sorted(place for place, step in enumerate(timesteps.tolist()) if step == 0)
    assert len(rows) == len(x) / FRAMES * 2
    found = [round(float(x[row, 0, 0, 0]), 5) for row in rows]
    assert all(torch.equal(x[row], x[row, :1, :1, :1].expand(4, SIDE, SIDE)) for row in rows)
    assert sorted(found) == sorted([round(latent_of(images[name]), 5) for name in "ab"] * (len(rows) // 2))
    assert set(timesteps.tolist()) == {0, 500}
    if prompt == "a cat":
        assert rows == [place for place in range(4 * FRAMES) if place % FRAMES in (0, FRAMES - 1)]


def test_images_at_named_frames(webui, images):
    made = frames_of(webui, {**CLIP, "frames": FRAMES, "key_images": "1: in/a.png, -2: in/b.png"})
    torch.testing.assert_close(made[1], latent(images["a"]), **EXACT)
    torch.testing.assert_close(made[2], latent(images["b"]), **EXACT)


def test_the_other_frames_start_from_a_share_of_the_images_inverted_noise(webui, images):
    webui.paint({**PINNED, "last_image": ""})
    webui.paint({**PINNED, "last_image": "", "pin_inversion": 0})
    webui.paint({**CLIP, "frames": FRAMES})
    shared_noise, own, plain = (met.noise for met in shared.samplings)
    assert torch.equal(own, plain)
    inverted = shared_noise[0]
    for frame, share in ((1, 0.7), (2, 0.49), (3, 0.343)):
        expected = share**0.5 * inverted + (1 - share) ** 0.5 * own[frame]
        torch.testing.assert_close(shared_noise[frame], expected, rtol=1e-4, atol=1e-4)


def test_each_clip_of_a_batch_inverts_with_its_own_prompt(webui, images):
    webui.paint({**PINNED, "last_image": ""}, prompt=["a cat", "a dog"], batch_size=2, seed=[5, 5])
    webui.paint({**PINNED, "last_image": ""}, prompt="a dog", seed=5)
    batch, alone = (met.noise for met in shared.samplings)
    assert torch.equal(batch[FRAMES:], alone)
    assert not torch.allclose(batch[:FRAMES], alone, atol=1e-3)


def test_a_soft_pin_is_held_for_its_share_of_the_steps(webui, images, reached):
    shared.steps = 4
    made = frames_of(webui, {**PINNED, "pin_strength": 0.5})
    assert [0 in timesteps.tolist() for _, timesteps in reached] == [True, True, False, False]
    assert not torch.allclose(made[0], latent(images["a"]), atol=1e-3)


def test_both_passes_of_hires_fix_have_the_images(webui, images, reached):
    made = frames_of(webui, PINNED, enable_hr=True)
    (large,) = {x.shape[-1] for x, _ in reached} - {SIDE}
    assert large == 2 * SIDE
    sized = images["a"].resize((SIDE * large, SIDE * large))
    torch.testing.assert_close(made[0], latent(sized, large), **EXACT)


def test_with_freeinit_and_windows(webui, images):
    for more in ({"freeinit_enable": True, "freeinit_iters": 2}, {"context_length": 3, "overlap": 1}):
        made = frames_of(webui, {**PINNED, **more})
        torch.testing.assert_close(made[0], latent(images["a"]), **EXACT)
        torch.testing.assert_close(made[-1], latent(images["b"]), **EXACT)
    first, second = shared.samplings[:2]  # of FreeInit
    torch.testing.assert_close(first.noise[0], second.noise[0], rtol=1e-4, atol=1e-4)  # the inverted noise again


def test_with_a_source_video(webui, images):
    write_clip(webui.outputs.parent / "in" / "v.gif", shades(FRAMES, (SIDE, SIDE)), fps=5)
    for denoise in (0.5, 0):
        made = frames_of(webui, {**PINNED, "video": "in/v.gif", "denoise": denoise})
        torch.testing.assert_close(made[0], latent(images["a"]), **EXACT)
        torch.testing.assert_close(made[-1], latent(images["b"]), **EXACT)


def test_an_init_image_that_is_frame_0_is_the_clip_of_txt2img(webui, images):
    asked = {**CLIP, "frames": FRAMES, "pin_init": True}
    one = frames_of(webui, asked, tab="img2img", init_images=[images["a"]], denoising_strength=1)
    other = frames_of(webui, {**CLIP, "frames": FRAMES, "image": "in/a.png"})
    assert torch.equal(one, other)
    weaker = frames_of(webui, asked, tab="img2img", init_images=[images["a"]], denoising_strength=0.5)
    torch.testing.assert_close(weaker[0], latent(images["a"]), **EXACT)
    assert shared.samplings[-1].given is not None
    many = {"tab": "img2img", "init_images": [PICTURE, images["a"]]}
    with pytest.raises(Exception, match="AD-W43"):
        webui.paint(asked, **many)


# ---- the ramp of the existing extension


def ramped(webui, clip, **fields):
    """What the sampler begins from, and its noise."""
    webui.paint({**CLIP, **clip}, **{**IMG2IMG, **fields})
    return shared.samplings[-1]


def draws(seeds):
    generators = double.ImageRNG(seeds)
    return generators.next(), generators.next()


# From shared/facts: frames, the two ramps, and the shares of the first and of the last image.
VECTORS = [
    (16, (1, 32), None, [1 - i / 32 for i in range(16)], [0] * 16),
    (8, (2, 32), None, [1, 0.96875, 0.875, 0.71875, 0.5, 0.21875, 0, 0], [0] * 8),
    (8, (0, 32), None, [0.96875] * 8, [0] * 8),
    (8, (0.5, 2), None, [1, 0.5, 0.292893, 0.133975, 0, 0, 0, 0], [0] * 8),
    (5, (1, 32), (1, 32), [1, 0.516667, 0.5, 0.483333, 0], [0, 0.483333, 0.5, 0.516667, 1]),
    (8, (1, 4), (1, 4), [1, 0.75, 0.5, 0.25, 0, 0, 0, 0], [0, 0, 0, 0, 0.25, 0.5, 0.75, 1]),
    (8, (2, 8), (1, 3), [1, 0.875, 0.5, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1 / 3, 2 / 3, 1]),
]


@pytest.mark.parametrize(("frames", "first", "last", "of_first", "of_last"), only_at(VECTORS, 0, 3, 4, 6))
def test_the_init_image_fades_into_the_first_draw_of_noise(webui, images, frames, first, last, of_first, of_last):
    clip = {"frames": frames, "latent_power": first[0], "latent_scale": first[1]}
    if last:
        clip |= {"last_frame": sent(images["b"]), "latent_power_last": last[0], "latent_scale_last": last[1]}
    met = ramped(webui, clip)
    noise, added = draws(range(1, frames + 1))
    a, b = (torch.tensor(shares)[:, None, None, None] for shares in (of_first, of_last))
    expected = a * latent_of(PICTURE) + b * latent_of(images["b"]) + (1 - a - b) * noise
    torch.testing.assert_close(met.given, expected.float(), rtol=0, atol=4e-6)
    assert torch.equal(met.noise, added)


def test_each_clip_and_each_batch_fades_from_its_own_image(webui, images):
    both = {"init_images": [PICTURE, images["a"]], "batch_size": 2, "n_iter": 2}
    webui.paint({**CLIP, "latent_power": 1}, **{**IMG2IMG, **both})
    noise, _ = draws(range(5, 9))
    share = torch.tensor([1, 1 - 1 / 32] * 2)[:, None, None, None]
    own = torch.tensor([latent_of(PICTURE)] * 2 + [latent_of(images["a"])] * 2)[:, None, None, None]
    torch.testing.assert_close(shared.samplings[-1].given, share * own + (1 - share) * noise, **EXACT)


def test_a_client_of_the_existing_extension_is_told_our_way(webui, images):
    processed = webui.paint({**CLIP, "latent_power": 1, "latent_scale": 32}, **IMG2IMG)
    assert "pin_init, or image and last_image, make frames equal their images" in processed.comments
    assert "latent_scale: 32" in processed.infotexts[0]
    processed = webui.paint({**CLIP, "latent_power": 1, "latent_scale": 32, "last_frame": None})
    assert "latent" not in processed.comments + processed.infotexts[0]
    processed = webui.paint({**CLIP, "latent_power": 2, "latent_scale": 32})
    assert "latent_power has no effect in txt2img, which has no init image." in processed.comments


def test_without_these_settings_img2img_is_what_it_was(webui):
    met = ramped(webui, {"frames": FRAMES})
    torch.testing.assert_close(met.given, torch.full((FRAMES, 4, SIDE, SIDE), latent_of(PICTURE)), **EXACT)
    assert torch.equal(met.noise, double.noise(range(1, FRAMES + 1)))


# ---- refusals


REFUSALS = [
    ({"image": "in/none.png"}, "There is no image", "AD-S22"),
    ({"image": "/etc/passwd"}, "outside the folders", "AD-W32"),
    ({"last_image": "https://example.com/a.png"}, "is an address", "AD-V54"),
    ({"key_images": "40: in/a.png"}, "There is no frame 40", "AD-C75"),
    ({"key_images": "-9: in/a.png"}, "There is no frame -9", "AD-S23"),
    ({"key_images": "in/a.png"}, "is not a frame with an image", "AD-S20"),
    ({"key_images": "0: in/b.png"}, "Frame 0 has two images", "AD-C71"),
    ({"pin_strength": 0}, "strength of pinned frames", "AD-C72"),
    ({"image": "in/text.png"}, r"text\.png", "AD-V"),
    ({"image": "data:image/png;base64,aGVsbG8gd29ybGQ="}, "neither an image nor a video", "AD-W41"),
    ({"image": "data:image/png;base64,!!"}, "neither an image nor a video", "AD-W41"),
    ({"image": "in/long.png", "source_size": "source"}, "too long and narrow", "AD-S21"),
    ({"model": "Text2Video-Zero"}, "pinned frames", "AD-C14"),
]


@pytest.mark.parametrize(("fields", "refusal"), every_once([{}, IMG2IMG], REFUSALS))
def test_refusals_come_before_sampling(webui, checkpoint, images, fields, refusal):
    clip, words, code = refusal
    (webui.outputs.parent / "in" / "text.png").write_text("not an image")
    Image.new("RGB", (90, 9)).save(webui.outputs.parent / "in" / "long.png")
    picture, before = webui.picture(), Portrait(checkpoint)
    shared.samplings.clear()
    with pytest.raises(Exception, match=words) as refused:
        webui.paint({**PINNED, **clip}, **fields)
    assert refused.value.status_code == 422
    assert code in str(refused.value)
    assert not shared.samplings
    before.assert_unchanged()
    assert webui.picture() == picture


def test_what_is_sent_may_not_be_too_large(webui, images, monkeypatch):
    monkeypatch.setattr(webui.module("catalog.uploads"), "SENT_IMAGE_BYTES", 20)
    with pytest.raises(Exception, match="AD-W40"):
        webui.paint({**PINNED, "image": sent(images["a"])})


@TABS
def test_request_and_model_are_what_they_were(webui, checkpoint, images, fields):
    picture, before = webui.picture(), Portrait(checkpoint)
    p = webui.request({**PINNED, "latent_scale": 32}, **fields)
    double.process_images(p)
    before.assert_unchanged()
    assert p.batch_size == 1
    if fields:
        assert torch.equal(p.init_latent.unique(), torch.tensor([latent_of(PICTURE)]))
    assert webui.picture() == picture


def test_an_image_dropped_into_the_panel_fills_in_its_path(webui, images):
    upload = webui.module("ui.image_upload")
    path = upload._stored(images["a"])
    assert path.endswith(".png")
    assert (upload._stored(None), upload._left("")) == ("", None)
    assert torch.equal(frames_of(webui, {**ALONE, "image": path}), frames_of(webui, ALONE))


def test_the_page_shows_why_an_image_cannot_be_stored(webui, images, uploads, tmp_path):
    uploads.symlink_to(tmp_path)
    with pytest.raises(Exception, match="AD-W42") as shown:
        webui.module("ui.image_upload")._stored(images["a"])
    assert type(shown.value).__name__ == "Error"
