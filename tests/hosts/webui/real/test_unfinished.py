"""The real WebUI is killed while it samples, and started again: the clip goes on to the same bits."""

from __future__ import annotations

import json
import shutil
import threading
import time
from contextlib import suppress

import pytest
import requests
from support.webui_real.clicking import PANEL, fill, open_panel, prepare_clip
from support.webui_real.clips import animate, clip_payload
from support.webui_real.server import PAYLOAD
from support.webui_real.studio import decoded, texts_of, trouble

from lib_animatediff.video import read_recipe

LONG = {"frames": 48, "freeinit_enable": True, "freeinit_iters": 2, "format": ["PNG"]}
SHORT, STEPS = 16, 10
UNFINISHED = "/animatediff/v1/unfinished"


@pytest.fixture(scope="module")
def mortal(start_studio):
    """A WebUI of its own, which the tests kill."""
    return start_studio("mortal", "v3")


def calls_of(server) -> int:
    """How many calls of the denoiser are kept of the unfinished clip."""
    with suppress(requests.RequestException):
        return sum(one["calls"] for one in server.api("GET", UNFINISHED, timeout=5).json())
    return 0


def asked_in_the_background(server, clip, **payload) -> threading.Thread:
    def ask():
        with suppress(requests.RequestException, RuntimeError):
            animate(server, clip, **payload)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def wait_for_calls(server, fewest: int, thread: threading.Thread) -> int:
    end = time.monotonic() + 240
    while time.monotonic() < end and thread.is_alive():
        if (found := calls_of(server)) >= fewest:
            return found
        time.sleep(0.02)
    raise AssertionError("the clip was finished, or nothing was kept of it")


@pytest.mark.shows("Unfinished clips: the WebUI is killed, started again, and the clip is the same in all frames")
def test_a_killed_webui_goes_on_to_the_same_frames(mortal):
    payload = {"steps": STEPS, "seed": 11, "sampler_name": "Euler a", "prompt": "a cat\n0: walking\n30: running"}
    animate(mortal, LONG, **payload)
    whole = decoded(mortal)
    assert calls_of(mortal) == 0
    for fewest in (3, STEPS + 2):  # in the first run of FreeInit, and in the second one, after going on
        thread = asked_in_the_background(mortal, {**LONG, "resume": True}, **payload)
        wait_for_calls(mortal, fewest, thread)
        mortal.stop()  # by SIGKILL
        thread.join()
        mortal.start()
        assert calls_of(mortal) >= fewest
    answer = animate(mortal, {**LONG, "resume": True}, **payload)
    assert (decoded(mortal) == whole).all()
    assert "AnimateDiff notes" not in json.loads(answer["info"])["extra_generation_params"]
    assert "resume" not in texts_of(answer)[0]
    assert calls_of(mortal) == 0


@pytest.mark.shows("Unfinished clips: the panel's button fills in the request, and Generate goes on")
def test_clicked(mortal, page):
    prepare_clip(page, mortal, SHORT)
    fill(page, {"txt2img_steps": STEPS})
    page.locator("#txt2img_generate").click()
    end = time.monotonic() + 240
    while (kept := calls_of(mortal)) < 2 and time.monotonic() < end:
        page.wait_for_timeout(20)  # the page's requests pass through here
    mortal.stop()
    mortal.start()
    assert calls_of(mortal) >= kept >= 2
    open_panel(page, mortal)
    page.locator(f"{PANEL}_resume_unfinished").click()
    page.wait_for_function(f"document.querySelector('{PANEL}_resume input').checked")
    page.wait_for_function("document.querySelector('#txt2img_prompt textarea').value != ''")
    page.locator("#txt2img_generate").click()
    while calls_of(mortal) and time.monotonic() < end + 240:
        page.wait_for_timeout(500)
    assert calls_of(mortal) == 0
    assert "has no effect" not in page.locator("#html_log_txt2img").first.inner_text()
    made = decoded(mortal)
    answer = mortal.from_infotext(infotext_of(made_by(mortal)))
    assert (decoded(mortal) == made).all(), texts_of(answer)


def made_by(server):
    """The newest clip that the WebUI has written."""
    return max(server.outputs_dir.rglob("*.gif"), key=lambda path: path.stat().st_mtime)


def infotext_of(path) -> str:
    return read_recipe(path).infotext


BATCHES = 3


def written(server) -> list:
    """The clips in the output folder, the oldest first."""
    return sorted(server.outputs_dir.rglob("*-*.gif"), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture(scope="module")
def three_clips(mortal):
    """A request for three clips, and the bytes of each."""
    payload = {**PAYLOAD, "steps": STEPS, "seed": 21, "n_iter": BATCHES}
    before = written(mortal)
    animate(mortal, {"frames": SHORT}, **payload)
    made = [path.read_bytes() for path in written(mortal)[len(before) :]]
    assert len(set(made)) == BATCHES
    return payload, made


@pytest.mark.shows("Several batches: a failure in the third keeps two clips and names them")
@pytest.mark.parametrize("layer", ["model.diffusion_model", "first_stage_model.decoder"])
def test_a_failure_in_the_third_batch_keeps_the_clips_before(mortal, three_clips, layer):
    payload, made = three_clips
    before = written(mortal)
    decodes_at_once = mortal.host.is_patched and layer.startswith("first_stage_model")
    call = 0 if decodes_at_once else 4
    order = trouble(raise_at={"layer": layer, "call": call, "batch": 2})["alwayson_scripts"]
    asked = clip_payload({"frames": SHORT}, **payload, alwayson_scripts=order)
    response = mortal.api("POST", "/sdapi/v1/txt2img", asked)
    assert response.status_code == 500
    kept = written(mortal)[len(before) :]
    assert [path.read_bytes() for path in kept] == made[:2]
    reply = response.json()
    for text in (reply["detail"], reply.get("errors") or reply["message"]):  # the second is Forge's name
        assert "trouble as ordered" in text
        assert all(str(path) in text for path in kept)
    shutil.rmtree(mortal.data_dir / "cache" / "animatediff")  # the order is part of the request


@pytest.mark.shows("Several batches: the WebUI is killed in the third and goes on, and no clip is written twice")
def test_killed_in_the_third_batch(mortal, three_clips):
    payload, made = three_clips
    before = written(mortal)
    thread = asked_in_the_background(mortal, {"frames": SHORT}, **payload)
    while thread.is_alive() and len(written(mortal)) < len(before) + 2:
        time.sleep(0.02)
    wait_for_calls(mortal, 1, thread)
    mortal.stop()
    thread.join()
    kept = written(mortal)[len(before) :]
    assert [path.read_bytes() for path in kept] == made[:2]
    mortal.start()
    answer = animate(mortal, {"frames": SHORT, "resume": True}, **payload)
    assert [path.read_bytes() for path in written(mortal)[len(before) :]] == made
    clips = json.loads(answer["info"])["extra_generation_params"]["AnimateDiff clips"]
    assert [clip["files"] for clip in clips[:2]] == [[str(path)] for path in kept]
    assert len(answer["images"]) == BATCHES
    assert calls_of(mortal) == 0


SAMPLERS = ["Euler a", "Heun", "DPM++ 2M SDE", "DPM++ SDE", "DPM adaptive", "Restart"]
SAMPLERS += ["UniPC", "PLMS", "DDIM CFG++", "LCM"]


@pytest.mark.matrix
@pytest.mark.shows("Unfinished clips: every kind of sampler goes on to the same frames")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_kind_of_sampler_goes_on(mortal, sampler):
    clip, payload = {"frames": SHORT}, {**PAYLOAD, "steps": STEPS, "seed": 13, "sampler_name": sampler}
    animate(mortal, clip, **payload)
    whole = decoded(mortal)
    thread = asked_in_the_background(mortal, clip, **payload)
    wait_for_calls(mortal, 3, thread)
    mortal.api("POST", "/sdapi/v1/interrupt").raise_for_status()
    thread.join()
    assert calls_of(mortal) >= 3
    answer = animate(mortal, {**clip, "resume": True}, **payload)
    assert (decoded(mortal) == whole).all()
    notes = json.loads(answer["info"])["extra_generation_params"].get("AnimateDiff notes", [])
    assert not [note for note in notes if "resume" in note]  # LCM has one about the motion module
    assert calls_of(mortal) == 0
