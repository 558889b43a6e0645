"""Beside the real ControlNet extension: every row of every call has what its frame was given, whatever is combined.

The product of window kinds, batching, numbers of units, kinds of models and ways of rendering, in both orders of
loading. Each test prints how many rows it compared. CONTROLNET_COMBINATIONS says how many combinations of windows,
batching and units each test takes of its 40; fewer ones are spread, and other ones in each test.
"""

from __future__ import annotations

import itertools
import os

import pytest
from support.webui_real.controlled import (
    FRAMES,
    SECOND,
    UNIT,
    WINDOWS,
    embeddings,
    first_number,
    grey,
    listed_models,
    watched,
    wrong_rows,
)
from support.webui_real.small_control import KINDS, SDXL_KINDS
from support.webui_real.studio import HIRES

COMBINATIONS = int(os.environ.get("CONTROLNET_COMBINATIONS", "40"))
LEVELS = 255
APART = 0.005  # between the numbers that tell embeddings apart
WINDOW_KINDS = {
    **{kind: {**WINDOWS, "context_kind": kind} for kind in ("uniform", "looped", "static", "batched")},
    "views": {**WINDOWS, "views": True},
}
BATCHING = {
    "together": {},
    "apart": {"override_settings": {"batch_cond_uncond": False}},
    "over 75 tokens": {"prompt": "a red cat " * 40},  # words that both text encoders of SDXL know
    "AND of 2": {"prompt": "a cat AND a dog"},
}
WAYS = {"low VRAM": {}, "hires fix": HIRES, "2 clips": {"batch_size": 2}, "SDXL": {}}
ORDERS = {"ControlNet first": "controlled", "ControlNet last": "controlled_last"}


def spread(number):
    """The combinations of a test, of which a few have most window kinds, all batching and both numbers of units."""
    every = list(itertools.product(WINDOW_KINDS.items(), BATCHING.items(), (1, 2)))
    return [every[(number + 11 * turn) % len(every)] for turn in range(COMBINATIONS)]


@pytest.fixture
def on_sdxl(request):
    """Switches a WebUI to the small SDXL checkpoint until the end of the test."""

    def switch(server):
        former = server.api("GET", "/sdapi/v1/options").json()["sd_model_checkpoint"]
        server.post("/sdapi/v1/options", {"sd_model_checkpoint": "small_sdxl.safetensors"})
        request.addfinalizer(lambda: server.post("/sdapi/v1/options", {"sd_model_checkpoint": former}))

    return switch


@pytest.mark.matrix
@pytest.mark.shows(
    "ControlNet beside us: 640 combinations of windows, batching, units, kinds and passes, each row, both load orders"
)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_has_the_images_of_its_frame(request, on_sdxl, kind, way, order):
    server = request.getfixturevalue(ORDERS[order])
    clip = {}
    if way == "SDXL":
        on_sdxl(server)
        clip["model"] = "mm_small_hotshot"
    name = (SDXL_KINDS if way == "SDXL" else KINDS)[kind]
    models = listed_models(server)
    both = [{**UNIT, "model": models[each], "low_vram": way == "low VRAM"} for each in (name, f"{name}{SECOND}")]
    if kind == "IP-Adapter":
        file = server.models_dir / "ControlNet" / f"{name}.safetensors"
        numbers = [first_number(file, seed) for seed in range(FRAMES)]
        assert min(abs(one - other) for one, other in itertools.combinations(numbers, 2)) > APART
        given = {"module": "ip-adapter_clip_h", "animatediff_batch": True}
        units = [
            {**unit, **given, "ipadapter_input": embeddings(*range(FRAMES)[::step])}
            for unit, step in zip(both, (1, -1), strict=True)
        ]
        of_frame = [lambda frame: numbers[frame] * LEVELS, lambda frame: numbers[FRAMES - 1 - frame] * LEVELS]
    else:
        units = both
        clip["control_images"] = "0: in/greys, 1: in/back"
        of_frame = [grey, lambda frame: grey(FRAMES - 1 - frame)]
    wrong, rows = {}, 0
    place = list(KINDS).index(kind) * len(WAYS) + list(WAYS).index(way)
    for (windows, settings), (batching, payload), count in spread(place):
        own = {**clip, **settings}
        if count == 1 and "control_images" in own:
            own["control_images"] = "0: in/greys"
        _, calls = watched(server, units[:count], own, **WAYS[way], **payload)
        assert {int(place) % FRAMES for frames, _ in calls for place in frames} == set(range(FRAMES))
        rows += count * sum(len(frames) for frames, _ in calls)
        found = sum(wrong_rows(calls, of_frame[unit], unit) for unit in range(count))
        if found:
            wrong[windows, batching, count] = found
    print(f"\n{kind}, {way}, {order}: {rows} rows compared, {sum(wrong.values())} wrong")
    assert not wrong
