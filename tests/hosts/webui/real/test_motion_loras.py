"""Motion LoRAs and the domain adapter in the real WebUI: by tag, by the panel's field, in both passes."""

from __future__ import annotations

import json
import re

import numpy
import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from support.adapter_files import kohya, ldm_name, official, random_adapter, write_adapter
from support.motion_files import random_motion_state
from support.motion_lora_files import changed_weight, converted, random_lora, write_lora
from support.webui_real.clicking import PANEL, choose_refreshed, fill, generate, open_fold, pasted, prepare_clip
from support.webui_real.clips import animate
from support.webui_real.server import CHECKPOINT, LORA, PAYLOAD
from support.webui_real.studio import (
    FLOAT_ORDER,
    decoded,
    frames_of,
    hooks_in_the_unet,
    made_from,
    portrait,
    refused,
    same_picture_after,
    texts_of,
    with_text,
)

FOUR = {"frames": 4}
CAT = PAYLOAD["prompt"]
STRENGTH = 0.8
SEEN = 0.02  # of the range
SPATIAL = [f"down_blocks.{level}.attentions.{block}" for level in range(3) for block in range(2)]
SPATIAL += ["mid_block.attentions.0", *(f"up_blocks.{level}.attentions.{n}" for level in (1, 2, 3) for n in range(3))]
LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
HIRES = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.7}


def spatial_layers(server) -> dict[str, tuple[int, int]]:
    """The attention layers of the checkpoint's UNet by the names that adapters have, with their sizes."""
    names = [
        f"{site}.transformer_blocks.0.{attention}.{layer}"
        for site in SPATIAL
        for attention in ("attn1", "attn2")
        for layer in LAYERS
    ]
    with safe_open(server.models_dir / "Stable-diffusion" / CHECKPOINT, framework="pt") as file:
        weights = {name: f"model.diffusion_model.{ldm_name(name, None)}.weight" for name in names}
        return {name: tuple(file.get_slice(weight).get_shape()) for name, weight in weights.items()}


@pytest.fixture(scope="module")
def adorned(studio):
    """The studio with two spellings of a motion LoRA, an adapter, and the oracles of both."""
    loras, modules = studio.models_dir / "Lora", studio.motion_modules_dir
    state = random_motion_state("v3")
    for place, (down, up) in random_lora().items():
        state[changed_weight(place)] += STRENGTH * up @ down
    merged = modules / "merged.safetensors"
    save_file(state, merged)
    changes = random_adapter(spatial_layers(studio))
    files = [
        merged,
        write_lora(loras / "pan.safetensors"),
        write_lora(loras / "pan_converted.safetensors", converted),
        write_lora(modules / "beside_modules.safetensors"),
        write_adapter(loras / "v3_adapter.safetensors", changes, official),
        write_adapter(loras / "as_image_lora.safetensors", changes, kohya),
    ]
    yield studio
    for file in files:
        file.unlink()


@pytest.fixture(scope="module")
def plain(studio) -> numpy.ndarray:
    return frames_of(studio, FOUR)


def by_tag(server, name: str, strength: float = STRENGTH, clip: dict | None = None, **payload) -> numpy.ndarray:
    return frames_of(server, {**FOUR, **(clip or {})}, prompt=f"{CAT} <lora:{name}:{strength}>", **payload)


def by_field(server, text: str, **payload) -> numpy.ndarray:
    return frames_of(server, {**FOUR, "motion_loras": text}, prompt=f"{CAT} ", **payload)


@pytest.mark.shows(
    "Motion LoRAs: official and converted spelling, among LoRAs or modules, by tag and by field: the weights changed"
)
@pytest.mark.parametrize("name", ["pan", "pan_converted", "beside_modules"])
def test_a_motion_lora_is_the_module_with_its_weights_changed(adorned, plain, name):
    tagged = by_tag(adorned, name)
    wanted = frames_of(adorned, {**FOUR, "model": "merged"}, prompt=f"{CAT} ")
    assert abs(tagged - wanted).max() < FLOAT_ORDER
    assert abs(tagged - plain).max() > SEEN
    assert (by_field(adorned, f"{name}:{STRENGTH}") == tagged).all()
    assert (by_tag(adorned, "pan") == tagged).all()
    assert not hooks_in_the_unet(portrait(adorned))


@pytest.mark.shows("Motion LoRAs: strength 0 is the clip without, bit for bit")
@pytest.mark.parametrize("name", ["pan", "v3_adapter"])
def test_strength_0_is_the_clip_without_it(adorned, name):
    plain = frames_of(adorned, FOUR, prompt=f"{CAT} ")
    assert (by_tag(adorned, name, 0) == plain).all()
    assert (by_field(adorned, f"{name}:0") == plain).all()
    by_tag(adorned, name)
    assert (frames_of(adorned, FOUR, prompt=f"{CAT} ") == plain).all()


@pytest.mark.shows("Motion LoRAs: a tag stays in the text and does not reach the WebUI's loader")
def test_a_tag_stays_in_the_text_and_is_kept_from_the_webuis_loader(adorned):
    ours = f"<lora:pan:{STRENGTH}><lora:beside_modules:0.2><lora:v3_adapter:0.5>"
    unknown = "" if adorned.host.is_patched else "<lora:no_such:1>"  # Forge and reForge then load none at all
    prompt = f"{CAT} {ours}<lora:{LORA}:0.6>{unknown}"
    frames, text = with_text(adorned, FOUR, prompt=prompt)
    log = adorned.log_text()
    assert text.startswith(f"{prompt}\n")
    assert ("Couldn't find network with name no_such" in log) is bool(unknown)
    assert "Couldn't find network with name beside_modules" not in log
    loaded = re.search(r'Lora hashes: "(.*?)"', text)[1]  # by the WebUI
    assert [entry.partition(":")[0] for entry in loaded.split(", ")] == [LORA]
    assert (made_from(adorned, text) == frames).all()
    image_lora = frames_of(adorned, FOUR, prompt=f"{CAT} {ours}")
    assert abs(frames - image_lora).max() > SEEN, "the WebUI's own LoRA did not act"


@pytest.mark.shows("Motion LoRAs: several at once")
def test_the_field_is_in_the_text_and_takes_several(adorned, plain):
    clip = {**FOUR, "motion_loras": "pan:0.5, v3_adapter:0.4"}
    answer = animate(adorned, clip, n_iter=2, prompt=f"{CAT} ")
    frames, texts = decoded(adorned), texts_of(answer)
    assert all('motion_loras: "pan:0.5, v3_adapter:0.4"' in text.replace("\\", "") for text in texts)
    told = json.loads(answer["info"])["extra_generation_params"]["AnimateDiff motion LoRAs"]
    assert "pan.safetensors: 160 of its 160 weights match" in told
    assert "v3_adapter.safetensors: " in told
    assert (made_from(adorned, texts[0]) == frames[:4]).all()
    tags = f"{CAT} <lora:pan:0.5><lora:v3_adapter:0.4>"
    assert (frames_of(adorned, FOUR, prompt=tags, n_iter=2) == frames).all()
    assert (frames_of(adorned, FOUR, prompt=tags, batch_size=2).shape) == frames.shape
    assert abs(decoded(adorned) - frames).max() < FLOAT_ORDER


@pytest.mark.shows("Motion LoRAs: tags in the hires prompt")
@pytest.mark.parametrize("name", ["pan", "v3_adapter"])
def test_the_hires_prompt_has_tags_of_its_own(adorned, name):
    """A tag in the hires prompt acts on the second pass alone; without a hires prompt, the prompt's acts on both."""
    tag = f"<lora:{name}:{STRENGTH}>"
    plain = frames_of(adorned, FOUR, prompt=f"{CAT} ", **HIRES)
    second, text = with_text(adorned, FOUR, prompt=f"{CAT} ", hr_prompt=f"{CAT} {tag}", **HIRES)
    first = frames_of(adorned, FOUR, prompt=f"{CAT} {tag}", hr_prompt=f"{CAT} ", **HIRES)
    both = frames_of(adorned, FOUR, prompt=f"{CAT} {tag}", **HIRES)
    assert (frames_of(adorned, FOUR, prompt=f"{CAT} {tag}", hr_prompt=f"{CAT} {tag}", **HIRES) == both).all()
    kinds = (plain, first, second, both)
    assert min(abs(a - b).max() for i, a in enumerate(kinds) for b in kinds[:i]) > 1e-3
    assert tag in text.partition("Hires prompt: ")[2]
    assert (made_from(adorned, text, hr_sampler_name="Euler a") == second).all()


@pytest.mark.shows("Motion LoRAs: the v3 domain adapter is what its weights merged would be")
@pytest.mark.parametrize("clip", [{}, {"model": "mm_small_v2"}], ids=["v3", "v2"])
def test_the_domain_adapter_is_what_its_weights_merged_would_be(adorned, plain, clip):
    with same_picture_after(adorned):
        before = portrait(adorned)
        adapter = by_tag(adorned, "v3_adapter", clip=clip)
        assert portrait(adorned)["tensors"] == before["tensors"]
        assert abs(adapter - by_tag(adorned, "as_image_lora", clip=clip)).max() < FLOAT_ORDER
        assert abs(adapter - plain).max() > SEEN
        assert (by_field(adorned, f"v3_adapter:{STRENGTH}") == by_tag(adorned, "v3_adapter")).all()


@pytest.mark.shows("Motion LoRAs: what cannot be is refused with the nearest name")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pam:1", ["no motion LoRA 'pam'", "such as pan"]),
        (f"{LORA}:1", [f"{LORA}.safetensors is neither", f"<lora:{LORA}:1>"]),
        ("pan:strong", ["'pan:strong' is not a motion LoRA with a strength", "PanLeft:0.8"]),
        ("../pan:1", ["no motion LoRA '../pan'"]),
    ],
    ids=["unknown", "image LoRA", "no number", "a path"],
)
def test_a_motion_lora_that_cannot_be_is_refused(adorned, text, words):
    reason = refused(adorned, {**FOUR, "motion_loras": text})
    assert all(word in reason for word in words), reason


@pytest.mark.shows("Motion LoRAs: a line on what found a place; by clicking and by pasting")
def test_motion_loras_by_clicking(adorned, page):
    wanted, text = with_text(adorned, {**FOUR, "motion_loras": "pan:0.7"}, sampler_name="DPM++ 2M")
    prepare_clip(page, adorned, 4)
    open_fold(page, "motion_loras")
    choose_refreshed(page, "lora_refresh", "lora_picker", "='pan'")
    field = f"document.querySelector('{PANEL}_motion_loras textarea, {PANEL}_motion_loras input')"
    page.wait_for_function(f"{field}.value == 'pan:1'")
    page.locator(f"{PANEL}_lora_picker li").first.wait_for(state="detached")  # the list closes
    choose_refreshed(page, "lora_refresh", "lora_picker", "='pan'")
    page.wait_for_timeout(500)
    assert page.evaluate(f"{field}.value") == "pan:1"  # not twice
    fill(page, {"animatediff_txt2img_motion_loras": "pan:0.7"})
    generate(page)
    assert (decoded(adorned) == wanted).all()
    told = page.locator("#html_log_txt2img .comments").inner_text()
    assert "pan.safetensors: 160 of its 160 weights match mm_small_v3.safetensors." in told
    assert "not found" not in told
    pasted(page, adorned, text)
    assert (decoded(adorned) == wanted).all()
