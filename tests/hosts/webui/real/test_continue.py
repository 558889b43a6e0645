"""A clip of the real WebUI that continues an earlier one: its last frames, its recipe, by API and by clicking."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.webui_real.clicking import PANEL, fill, generate, open_fold, prepare_clip, prose
from support.webui_real.clips import animate
from support.webui_real.server import file_bytes
from support.webui_real.studio import FLOAT_ORDER, decoded, frames_of, left_as_it_was, refused, sent_back, texts_of

FRAMES, KEPT = 6, 2
MODEL = "mm_small_v3.safetensors"


@pytest.fixture(scope="module")
def earlier(studio):
    """A clip of the WebUI, in its own folder."""
    answer = animate(studio, {"frames": FRAMES, "format": ["APNG"], "fps": 5}, prompt="a cat, walking", seed=40)
    path = studio.data_dir / "in" / "earlier.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(file_bytes(answer))
    return path


@pytest.fixture(scope="module")
def shown(studio, earlier):
    """Its last frames as the VAE shows them."""
    last = {"video": "in/earlier.png", "video_start": FRAMES - KEPT, "frames": KEPT, "denoise": 0}
    return frames_of(studio, last)


def continued(studio, clip, **payload):
    """The answer to a request with nothing but these fields, which the WebUI's own defaults would fill up."""
    args = {"model": MODEL, "continue_clip": "in/earlier.png", "keep_frames": KEPT, **clip}
    return studio.post("/sdapi/v1/txt2img", {**payload, "alwayson_scripts": {"AnimateDiff": {"args": [args]}}})


@pytest.mark.shows("Continue a clip: the last frames are pinned, and the recipe goes on, by API")
def test_by_api(studio, earlier, shown):
    with left_as_it_was(studio):
        answer = continued(studio, {})
        made = decoded(studio)
        assert len(made) == FRAMES
        assert (made[:KEPT] == shown).all()
        assert abs(made[KEPT] - made[KEPT - 1]).max() > FLOAT_ORDER
        (text,) = texts_of(answer)
        assert text.startswith("a cat, walking\n")
        for words in ("Steps: 4", "Sampler: Euler a", f"Seed: {40 + FRAMES}", "Size: 64x64", "fps: 5"):
            assert words in text
        assert "continue_clip: in/earlier.png" in text
        assert str(studio.data_dir) not in text
        notes = json.loads(answer["info"])["extra_generation_params"]["AnimateDiff notes"]
        assert any(note.startswith("continue_clip takes ") for note in notes)
        assert (sent_back(studio, answer) == made).all()
        answer = continued(studio, {"frames": 4}, prompt="a dog", seed=3, steps=4)
        (text,) = texts_of(answer)
        assert text.startswith("a dog\n")
        assert "Seed: 3," in text
        assert len(decoded(studio)) == 4


@pytest.mark.shows("Continue a clip: what cannot be is refused before sampling")
def test_refusals(studio, earlier):
    with left_as_it_was(studio):
        assert "[AD-S24]" in refused(studio, {"continue_clip": "in/earlier.png", "keep_frames": 7, "frames": 16})
        assert "[AD-W32]" in refused(studio, {"continue_clip": "/etc/passwd"})
        assert "[AD-C71]" in refused(studio, {"continue_clip": "in/earlier.png", "image": "in/earlier.png"})


@pytest.mark.shows("Continue a clip: dropped into the panel, generated")
def test_clicked(studio, page, earlier, shown, screenshot):
    prepare_clip(page, studio, FRAMES)
    open_fold(page, "continue_clip")
    page.locator(f"{PANEL}_continue_clip_upload input[type=file]").set_input_files(Path(earlier))
    page.wait_for_function(f"document.querySelector('{PANEL}_continue_clip textarea').value.endsWith('.png')")
    fill(page, {"animatediff_txt2img_keep_frames": KEPT})
    screenshot(page, "continue")
    generate(page)
    assert (decoded(studio)[:KEPT] == shown).all()
    assert "Pinned frames: " in page.locator(prose("#html_info_txt2img")).text_content()
