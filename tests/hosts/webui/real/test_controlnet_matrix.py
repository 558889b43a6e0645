"""Beside the real ControlNet extension: every row of every call has what its frame was given, whatever is combined.

The product of window kinds, batching, numbers of units, kinds of models and ways of rendering, in both orders of
loading, in a fixed order at random, and in shares, each of which has all kinds. CONTROLNET_COMBINATIONS says how many
of all run. CONTROLNET_RESULTS names a file in which each combination is noted when it has run: a run that was
interrupted counts, and another run with this file goes on.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from support.webui_real.controlled import (
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
from support.webui_real.results import Results
from support.webui_real.server import CHECKPOINT, ServerError
from support.webui_real.small_control import KINDS, SDXL_KINDS
from support.webui_real.studio import HIRES

pytestmark = pytest.mark.of_a1111("Forge and reForge have a ControlNet of their own: Integrated ControlNet")

LEVELS = 255
APART = 0.005  # between the numbers that tell embeddings apart
FRAMES = 6  # the fewest in which all kinds of windows of 4 frames differ, move or wrap, and the last one can be short
LAST_IMAGE = 7  # of the folders
MOVING, FIXED = 2, 1  # steps: windows that are the same at each step are seen in one
WINDOW_KINDS = {
    "uniform": ({"context_kind": "uniform"}, MOVING),
    "looped": ({"context_kind": "looped"}, MOVING),
    "static": ({"context_kind": "static"}, FIXED),
    "batched": ({"context_kind": "batched"}, FIXED),
    "views": ({"views": True}, FIXED),
}
# What happens after the last call of the UNet is shown elsewhere; here it is as cheap as can be.
QUICK = {"format": ["Frame"]}
QUICK_OPTIONS = {"sd_vae_decode_method": "Approx cheap"}
BATCHING = {
    "together": {},
    "apart": {"override_settings": {"batch_cond_uncond": False}},
    "over 75 tokens": {"prompt": "a red cat " * 40},  # words that both text encoders of SDXL know
    "AND of 2": {"prompt": "a cat AND a dog"},
}
WAYS = {"low VRAM": {}, "hires fix": {**HIRES, "hr_scale": 1.5}, "2 clips": {"batch_size": 2}, "SDXL": {}}
ORDERS = {"ControlNet first": "controlled", "ControlNet last": "controlled_last"}
SHARES = 16


class Combination(NamedTuple):
    order: str
    way: str
    kind: str
    windows: str
    batching: str
    units: int

    @property
    def name(self) -> str:
        return ", ".join(map(str, self))


IN_ORDER = [
    Combination(*each) for each in itertools.product(ORDERS, WAYS, KINDS, WINDOW_KINDS, BATCHING, (1, 2))
]  # so that servers, checkpoints and control models change rarely
SPREAD = Random(21).sample(IN_ORDER, len(IN_ORDER))
CHOSEN = SPREAD[: int(os.environ.get("CONTROLNET_COMBINATIONS", str(len(SPREAD))))]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    given = os.environ.get("CONTROLNET_RESULTS")
    return Results(Path(given) if given else tmp_path_factory.mktemp("results") / "combinations.jsonl")


@pytest.fixture(scope="module")
def use_checkpoint():
    """Switches a WebUI to a checkpoint, until the end of the module."""
    now: dict = {}

    def use(server, name):
        if now.get(server, CHECKPOINT) != name:
            server.post("/sdapi/v1/options", {"sd_model_checkpoint": name})
            now[server] = name
            server.api("GET", "/trouble/freeze")

    yield use
    for server in now:
        use(server, CHECKPOINT)


@functools.cache
def models_of(server):
    return listed_models(server)


@functools.cache
def numbers_of(file):
    """The numbers that tell the embeddings of frames apart."""
    numbers = [first_number(file, seed) for seed in range(FRAMES)]
    assert min(abs(one - other) for one, other in itertools.combinations(numbers, 2)) > APART
    return numbers


def asked(server, combination):
    """Units, what the clip adds for them, and for each unit the number that the rows of a frame show."""
    is_sdxl = combination.way == "SDXL"
    name, models = (SDXL_KINDS if is_sdxl else KINDS)[combination.kind], models_of(server)
    own = {**UNIT, "low_vram": combination.way == "low VRAM"}
    units = [{**own, "model": models[each]} for each in (name, f"{name}{SECOND}")[: combination.units]]
    clip = {"model": "mm_small_hotshot"} if is_sdxl else {}
    if combination.kind != "IP-Adapter":
        sources = ("0: in/greys", "1: in/back")[: combination.units]
        return units, {**clip, "control_images": ", ".join(sources)}, [grey, lambda frame: grey(LAST_IMAGE - frame)]
    numbers = numbers_of(server.models_dir / "ControlNet" / f"{name}.safetensors")
    given = {"module": "ip-adapter_clip_h", "animatediff_batch": True}
    turned = [embeddings(*range(FRAMES)[::step]) for step in (1, -1)]
    units = [{**unit, **given, "ipadapter_input": each} for unit, each in zip(units, turned, strict=False)]
    return units, clip, [lambda frame: numbers[frame] * LEVELS, lambda frame: numbers[FRAMES - 1 - frame] * LEVELS]


def compared(server, combination):
    """How many rows were compared, and how many of them had what another frame was given."""
    units, clip, of_frame = asked(server, combination)
    windows, steps = WINDOW_KINDS[combination.windows]
    clip |= {**WINDOWS, **windows, **QUICK, "frames": FRAMES}
    begun = time.monotonic()
    payload = {"steps": steps, **WAYS[combination.way], **BATCHING[combination.batching]}
    payload["override_settings"] = {**QUICK_OPTIONS, **payload.get("override_settings", {})}
    _, calls = watched(server, units, clip, **payload)
    assert {int(place) % FRAMES for frames, _ in calls for place in frames} == set(range(FRAMES))
    wrong = sum(wrong_rows(calls, of_frame[unit], unit, FRAMES) for unit in range(len(units)))
    rows = len(units) * sum(len(frames) for frames, _ in calls)
    return {"rows": rows, "wrong": int(wrong), "seconds": round(time.monotonic() - begun, 2)}


@pytest.mark.matrix
@pytest.mark.shows(
    "ControlNet beside us: 640 combinations of windows, batching, units, kinds and passes, each row, both load orders"
)
@pytest.mark.parametrize("share", range(SHARES))
def test_every_row_has_the_images_of_its_frame(request, results, use_checkpoint, share):
    wrong = {}
    for combination in sorted(CHOSEN[share::SHARES], key=IN_ORDER.index):
        if results.has_passed(combination.name):
            continue
        server = request.getfixturevalue(ORDERS[combination.order])
        use_checkpoint(server, "small_sdxl.safetensors" if combination.way == "SDXL" else CHECKPOINT)
        try:
            found = compared(server, combination)
        except (AssertionError, ServerError) as error:  # the others go on
            found = {"rows": 0, "wrong": 1, "error": str(error)[:1000]}
        results.add(combination.name, **found)
        if found["wrong"]:
            wrong[combination.name] = found["wrong"]
    assert not wrong


@pytest.mark.matrix
@pytest.mark.shows(
    "ControlNet beside us: 640 combinations of windows, batching, units, kinds and passes, each row, both load orders"
)
def test_all_combinations_have_run(results):
    assert len(set(IN_ORDER)) == len(set(SPREAD)) == len(SPREAD)
    summary = (
        f"{len(results)} of {len(SPREAD)} combinations ran, with {results.total('rows')} rows, "
        f"{results.total('wrong')} of them wrong"
    )
    if results.versions > 1:
        summary += f", over {results.versions} versions of the code"
    print(f"\n{summary}")
    assert not results.wrong, (summary, results.wrong)
    if len(results) < len(SPREAD):
        pytest.skip(summary)
