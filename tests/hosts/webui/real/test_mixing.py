"""Clips together with what else changes a picture: networks of every sort, and other extensions' wrappers."""

from __future__ import annotations

import pytest
from support.webui_real.clips import FRAMES, animate, apart, clip_of
from support.webui_real.server import EMBEDDING, HYPERNETWORK, LORA, LYCORIS, PAYLOAD
from support.webui_real.studio import (
    FLOAT_ORDER,
    VISIBLE,
    decoded,
    frames_of,
    left_as_it_was,
    plain_batch,
    same_picture_after,
    trouble,
)

CAT = PAYLOAD["prompt"]
LONG = {"frames": 12, "context_length": 8, "overlap": 2}
NETWORKS = f"<lora:{LORA}:0.5> <lora:{LYCORIS}:0.5> <hypernet:{HYPERNETWORK}:0.5> {EMBEDDING}"


@pytest.mark.shows("Mixing: LoRA, LyCORIS, textual inversion, hypernetworks")
@pytest.mark.parametrize(
    "words",
    [
        f"<lora:{LORA}:1>",
        f"<lora:{LYCORIS}:1>",
        EMBEDDING,
        pytest.param(
            f"<hypernet:{HYPERNETWORK}:1>",
            marks=pytest.mark.of_a1111("hypernetworks do nothing in Forge and reForge"),
        ),
        NETWORKS,
    ],
    ids=["LoRA", "LyCORIS", "textual inversion", "hypernetwork", "all of them"],
)
def test_networks_in_the_prompt(studio, words):
    with same_picture_after(studio):
        clip = frames_of(studio, LONG)
        gif = clip_of(animate(studio, LONG, prompt=f"{CAT} {words}"))
        assert abs(decoded(studio) - clip).mean() * 255 > 1
        assert apart(gif.frames[:FRAMES], plain_batch(studio, prompt=f"{CAT} {words}")) > VISIBLE
        assert abs(frames_of(studio, LONG) - clip).max() == 0


@pytest.mark.shows("Mixing: wrappers of p.sample, the UNet's forward, the denoiser")
@pytest.mark.parametrize("clip", [{}, LONG], ids=["whole", "in windows"])
@pytest.mark.parametrize("what", ["sample", "unet", "denoiser"])
def test_wrappers_of_other_extensions(studio, what, clip):
    with left_as_it_was(studio):
        wanted = frames_of(studio, clip)
        got = frames_of(studio, clip, **trouble(wrap=what))
        assert studio.api("GET", "/trouble/wrapped").json() > 0
        assert abs(got - wanted).max() < FLOAT_ORDER
