"""Everything a person does with pictures, done with clips in the real WebUI: passes, masks, low memory, overrides."""

from __future__ import annotations

import base64
import io
from itertools import pairwise

import numpy
import pytest
from PIL import Image
from support.webui_real.clicking import fill, generate, item, open_accordion, prepare_clip, shown_gif
from support.webui_real.clips import animate, apart, clip_of, clip_payload
from support.webui_real.server import UPSCALER, VAE, base64_image, open_page, pixels
from support.webui_real.studio import (
    FLOAT_ORDER,
    HIRES,
    decoded,
    frames_of,
    hooks_in_the_unet,
    painted,
    portrait,
    same_picture_after,
    watched,
)


@pytest.mark.shows("Passes: hires fix with latent and model upscalers, another sampler")
@pytest.mark.parametrize(
    "hires",
    [
        {"hr_upscaler": "Latent (nearest-exact)"},
        {"hr_upscaler": "Nearest"},
        {"hr_upscaler": UPSCALER},
        {"hr_upscaler": "Latent", "hr_sampler_name": "DDIM"},
        {"hr_upscaler": "Latent", "hr_second_pass_steps": 2},
        {"hr_upscaler": "Latent", "hr_prompt": "a blue dog", "hr_negative_prompt": "red"},
        {"hr_upscaler": "Latent", "hr_scale": 1, "hr_resize_x": 96, "hr_resize_y": 128},
    ],
    ids=lambda hires: " ".join(map(str, hires.values())),
)
def test_hires_fix_in_its_forms(studio, hires):
    gif = clip_of(animate(studio, {"frames": 4}, **{**HIRES, **hires}))
    wanted = (hires.get("hr_resize_x", 128), hires.get("hr_resize_y", 128))
    assert (len(gif.frames), gif.size) == (4, wanted)
    assert not hooks_in_the_unet(portrait(studio))
    assert "Unable to load ESRGAN model" not in studio.log_text()


@pytest.mark.shows("Passes: inpaint masks")
@pytest.mark.parametrize("fill_mode", [0, 1, 2, 3])
@pytest.mark.parametrize("whole", [0, 1], ids=["whole picture", "only masked"])
def test_inpaint_masks_hold_for_every_frame(studio, fill_mode, whole):
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (24, 24, 40, 40))
    payload = clip_payload(
        {"frames": 4, "format": ["Frame"]},
        init_images=[base64_image(painted())],
        mask=base64_image(mask),
        mask_blur=0,
        inpainting_fill=fill_mode,
        inpaint_full_res=whole,
        denoising_strength=0.9,
    )
    answer = studio.img2img(**payload)
    frames = numpy.stack([pixels(answer, number) for number in range(4)]).astype(int)
    outside = numpy.ones((64, 64), bool)
    outside[16:48, 16:48] = False
    assert abs(frames - numpy.asarray(painted()).astype(int))[:, outside].max() <= 1
    assert (frames[0] != frames[1]).any()


@pytest.mark.of_a1111("Forge and reForge move weights by themselves; their own flags need a graphics card")
@pytest.mark.shows("Passes: --medvram and --lowvram")
@pytest.mark.parametrize("flag", ["--medvram", "--lowvram"])
def test_low_memory_modes(studio, start_studio, flag):
    server = start_studio(flag.strip("-"), "v3", extra_args=[flag])
    with same_picture_after(server):
        assert portrait(server)["lowvram"]
        assert abs(frames_of(server) - frames_of(studio)).max() < FLOAT_ORDER
    server.stop()


@pytest.mark.shows("Passes: token merging, Hypertile")
@pytest.mark.parametrize(
    "settings",
    [
        {"token_merging_ratio": 0.5},
        pytest.param(
            {"hypertile_enable_unet": True, "hypertile_max_tile_unet": 128},
            marks=pytest.mark.of_a1111("HyperTile of Forge and reForge is a script, without this option"),
        ),
    ],
    ids=["token_merging_ratio", "hypertile_enable_unet"],
)
def test_other_patches_of_the_webui_on_the_same_unet(studio, settings):
    size = {"width": 256, "height": 256, "steps": 2}
    with same_picture_after(studio, **size):
        before = portrait(studio)
        plain = clip_of(animate(studio, {"frames": 4}, **size)).frames
        patched = clip_of(animate(studio, {"frames": 4}, **size, override_settings=settings)).frames
        assert len(patched) == 4
        assert apart(plain, patched) > 0
    assert portrait(studio)["tensors"] == before["tensors"]


@pytest.mark.of_a1111("Forge and reForge have no option for the attention")
@pytest.mark.shows("Passes: another attention")
def test_another_attention(studio):
    wanted, former = frames_of(studio), portrait(studio)["attention"]
    studio.post("/sdapi/v1/options", {"cross_attention_optimization": "sub-quadratic"})
    try:
        assert portrait(studio)["attention"] == "sub-quadratic" != former
        assert abs(frames_of(studio) - wanted).max() < FLOAT_ORDER
    finally:
        studio.post("/sdapi/v1/options", {"cross_attention_optimization": "Automatic"})
    assert portrait(studio)["attention"] == former


@pytest.fixture(scope="module")
def fp8(start_studio):
    return start_studio("fp8", "v2", "v3", settings={"fp8_storage": "Enable"})


@pytest.mark.of_a1111("Forge and reForge store weights in 8 bits by other options, which need a graphics card")
@pytest.mark.shows("Passes: FP8 weights")
@pytest.mark.parametrize("kind", ["v2", "v3"])
def test_fp8_weights(fp8, kind):
    with same_picture_after(fp8):
        assert "torch.float8_e4m3fn" in portrait(fp8)["dtypes"]
        gif = clip_of(animate(fp8, {"model": f"mm_small_{kind}"}))
        assert numpy.isfinite(decoded(fp8)).all()
        assert min(apart(a, b) for a, b in pairwise(gif.frames)) > 0


@pytest.mark.shows("Passes: override settings: clip skip, ENSD, VAE")
@pytest.mark.parametrize(
    "settings",
    [
        {"CLIP_stop_at_last_layers": 2},
        {"eta_noise_seed_delta": 31337},
        pytest.param(
            {"sd_vae": f"{VAE}.safetensors"},
            marks=pytest.mark.of_a1111("a request changes the VAE of Forge and reForge by other means"),
        ),
        {"randn_source": "NV"},
    ],
    ids=["clip skip", "ENSD", "VAE", "RNG source"],
)
def test_override_settings(studio, settings):
    with same_picture_after(studio):
        clip = frames_of(studio)
        changed = frames_of(studio, override_settings=settings)
        assert abs(changed - clip).max() > 0.01
        assert abs(frames_of(studio) - clip).max() == 0


@pytest.mark.shows("Passes: live preview, of one frame", "Files: a live preview that goes through the frames")
def test_a_live_preview_decodes_one_frame(studio):
    """However long the clip, the preview is one small picture, of one frame after the other with each step."""

    def shown() -> str | None:
        return studio.api("GET", "/sdapi/v1/progress").json().get("current_image")

    often = {"override_settings": {"show_progress_every_n_steps": 1}}
    pictures = set(filter(None, watched(studio, shown, {"frames": 24, "context_length": 24}, steps=8, **often)))
    # By the WebUI's approximate decoder, or by the plain one that `server` sets; a grid of 24 would be 80 or 40 wide.
    one_frame = (8, 8) if studio.host.is_patched else (16, 16)
    sizes = {Image.open(io.BytesIO(base64.b64decode(picture))).size for picture in pictures}
    assert sizes <= {one_frame, (64, 64)}
    assert len(pictures) > 2


@pytest.mark.shows("Passes: the upscale button gives a plain picture")
def test_the_gallerys_upscale_button_gives_a_plain_picture(studio, page):
    prepare_clip(page, studio, 4)
    generate(page)
    assert Image.open(io.BytesIO(shown_gif(page))).format == "GIF"
    page.locator("#txt2img_upscale").click()
    page.wait_for_function(
        "() => { const i = document.querySelector('#txt2img_gallery img'); return i && i.naturalWidth == 128; }",
        timeout=60_000,
    )
    picture = Image.open(io.BytesIO(shown_gif(page)))
    assert (picture.format, picture.size) == ("PNG", (128, 128))


@pytest.mark.shows("Passes: Generate forever")
def test_generate_forever(studio, page):
    before = len(list(studio.outputs_dir.rglob("*.gif")))
    prepare_clip(page, studio, 2)
    fill(page, {"txt2img_seed": -1})
    page.locator("#txt2img_generate").click(button="right")
    page.get_by_text("Generate forever", exact=True).click()
    for _ in range(120):
        if len(list(studio.outputs_dir.rglob("*.gif"))) >= before + 3:
            break
        page.wait_for_timeout(500)
    page.locator("#txt2img_generate, #txt2img_interrupt").locator("visible=true").first.click(button="right")
    page.get_by_text("Cancel generate forever").click()
    page.locator("#txt2img_interrupt").wait_for(state="hidden", timeout=60_000)
    assert len(list(studio.outputs_dir.rglob("*.gif"))) >= before + 3


@pytest.mark.shows("Passes: img2img batch")
def test_img2img_batch_makes_a_clip_of_each_picture(studio, page, tmp_path, screenshot):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, level in enumerate((30, 220)):
        Image.new("RGB", (64, 64), (level,) * 3).save(folder / f"{number}.png")
    before = set(studio.outputs_dir.rglob("*.gif"))
    open_page(page, studio)
    page.locator("#tabs button", has_text="img2img").first.click()
    page.locator("#mode_img2img button", has_text="Batch").click()
    if page.locator("#img2img_batch_source").count():  # reForge knows directories alone
        page.locator("#img2img_batch_source button", has_text="from directory").click()
    fill(page, {"img2img_batch_input_dir": str(folder), "img2img_prompt": "a photo of a cat"})
    fill(page, {"img2img_width": 64, "img2img_height": 64, "img2img_steps": 8, "img2img_denoising_strength": 0.1})
    open_accordion(page, "img2img")
    page.locator("#animatediff_img2img_refresh").click()
    page.wait_for_timeout(1000)
    page.locator("#animatediff_img2img_model input").click()
    page.locator(f"#animatediff_img2img_model {item('^=mm_small_v3')}").click()
    fill(page, {"animatediff_img2img_frames": 4})
    generate(page, "img2img")
    made = sorted(set(studio.outputs_dir.rglob("*.gif")) - before, key=lambda path: path.stat().st_mtime_ns)
    assert [Image.open(path).n_frames for path in made] == [4, 4]
