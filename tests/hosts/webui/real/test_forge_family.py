"""Clips in a real Forge, reForge and Forge Neo: what reached the UNet, and that the next image is as before.

Environment: FORGE_DIR, REFORGE_DIR and NEO_DIR name installations whose tables know the small models of `small_models`;
FORGE_PYTHON and so on their Pythons. Without them everything here is skipped.
"""

from __future__ import annotations

import os
import threading
import time

import numpy
import pytest
from PIL import Image
from support.motion_files import write_motion_file
from support.webui_real.clips import clip_payload
from support.webui_real.forge_family import HOSTS, ForgeFamily
from support.webui_real.hosts import host_of
from support.webui_real.places import REPOSITORY
from support.webui_real.server import ServerError, base64_image, pixels

CLIP = {"model": "mm_small_v3.safetensors", "frames": 3}
PLAIN = {"seed": 1, "steps": 4, "sampler_name": "Euler"}
CLOSE = 0.2  # of 255
START = {"init_images": [base64_image(Image.linear_gradient("L").resize((64, 64)).convert("RGB"))]}
HIRES = {"enable_hr": True, "hr_scale": 2, "denoising_strength": 0.7, "hr_upscaler": "None"}
TASK, LONGEST = "task(passes)", 120  # seconds
EVEN = [[999.0], [666.0], [333.0], [0.0]]  # of Euler's four steps, in any table
SAMPLERS = {"Euler a": EVEN, "DPM++ 2M": None, "DDIM": [[751.0], [501.0], [251.0]], "UniPC": None, "LCM": None}


@pytest.fixture(scope="module", params=HOSTS)
def host(request, tmp_path_factory):
    if f"{request.param}_DIR" not in os.environ:
        pytest.skip(f"{request.param}_DIR is not set: the program was not started, so nothing here is proven")
    server = ForgeFamily(request.param, tmp_path_factory.mktemp(request.param.lower()))
    write_motion_file(server.motion_modules_dir)
    with server:
        yield server


@pytest.fixture
def unchanged(host):
    """The next plain image is byte-identical to the one before."""
    before = host.frames(**PLAIN)[0]
    yield
    assert numpy.array_equal(host.frames(**PLAIN)[0], before)


def rows_and_levels(host):
    calls = [call for call in host.calls() if "rows" in call]
    return [call["rows"] for call in calls], [call["timesteps"] for call in calls]


def interrupt_at(host, task, phase):
    """Interrupt a request once its bar names this phase."""
    question = {"id_task": task, "id_live_preview": -1, "live_preview": False}
    ends = time.monotonic() + LONGEST
    while time.monotonic() < ends:
        if (host.api("POST", "/internal/progress", question).json()["textinfo"] or "").startswith(phase):
            host.api("POST", "/sdapi/v1/interrupt")
            return
        time.sleep(0.05)


@pytest.mark.usefixtures("unchanged")
def test_a_clip_has_its_rows_at_the_module_s_noise_levels(host):
    frames = host.frames(CLIP, **PLAIN)
    assert len(frames) == 3
    assert any((frames[0] != other).any() for other in frames[1:])
    assert rows_and_levels(host) == ([6] * 4, EVEN)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_visit_their_timesteps(host, sampler):
    host.frames(CLIP, **{**PLAIN, "sampler_name": sampler})
    rows, levels = rows_and_levels(host)
    assert set(rows) == {6}
    assert SAMPLERS[sampler] is None or levels[:4] == SAMPLERS[sampler]
    assert levels[0][0] > 700


@pytest.mark.usefixtures("unchanged")
def test_img2img_begins_at_the_module_s_level(host):
    host.frames(CLIP, "img2img", **START, **PLAIN, denoising_strength=0.75)
    assert rows_and_levels(host)[1] == EVEN  # the checkpoint's grid would have other timesteps in the module's table


@pytest.mark.usefixtures("unchanged")
def test_a_part_of_weight_0_changes_nothing(host):
    with_part = host.frames(CLIP, **PLAIN, prompt="a cat AND a dog :0")
    without = host.frames(CLIP, **PLAIN, prompt="a cat")
    assert all(numpy.array_equal(one, other) for one, other in zip(with_part, without, strict=True))


@pytest.mark.usefixtures("unchanged")
def test_the_host_makes_room_for_a_window(host):
    host.frames({**CLIP, "frames": 200, "context_length": 16, "overlap": 4}, **{**PLAIN, "steps": 1})
    noted = [call for call in host.calls() if "estimates" in call]
    assert len(noted) == 1
    for call in noted:
        whole, window = call["estimates"]
        assert whole == window
        assert call["preserved"] > 0


@pytest.mark.usefixtures("unchanged")
def test_the_host_makes_room_for_a_window_in_both_passes(host):
    """Forge replaces its patcher after the hook before the second one, and calls the hook again."""
    host.frames({**CLIP, "frames": 40, "context_length": 16, "overlap": 4}, **{**PLAIN, "steps": 1}, **HIRES)
    noted = [(*call["estimates"], call["preserved"]) for call in host.calls() if "estimates" in call]
    assert len(noted) >= 2
    assert len(set(noted)) == 1
    whole, window, preserved = noted[0]
    assert whole == window
    assert preserved > 0


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "fields",
    [
        {"clip": {**CLIP, "context_length": 2, "overlap": 1, "closed_loop": "A"}},
        {"clip": {**CLIP, "freeinit_enable": True, "freeinit_iters": 2}},
        {"clip": {**CLIP, "guidance_end": 0.5}},
        {"clip": {**CLIP, "model": "Text2Video-Zero"}},
        {"clip": {**CLIP, "image": START["init_images"][0]}},
        {"clip": CLIP, "cfg_scale": 1},
        {"clip": CLIP, "prompt": "0: a cat\n2: a dog " + "red " * 90},
        {"clip": CLIP, "negative_prompt": "blue " * 100},
        {"clip": CLIP, "prompt": "a cat <lora:small_lora:1>"},
        {"clip": CLIP, "batch_size": 2, "n_iter": 2},
        {"clip": CLIP, "enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.7},
    ],
    ids=["loop", "FreeInit", "CFG end", "Zero", "image", "CFG 1", "travel", "long", "LoRA", "clips", "hires"],
)
def test_a_clip_comes_of(host, fields):
    clip, more = fields["clip"], {name: value for name, value in fields.items() if name != "clip"}
    assert len(host.frames(clip, **PLAIN, **more)) == 3 * more.get("batch_size", 1) * more.get("n_iter", 1)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("interval", "rows"), [((0.5, 1.0), [3, 3, 6, 6]), ((0.0, 0.5), [6, 6, 3, 3])])
def test_cfg_acts_inside_its_interval(host, interval, rows):
    start, end = interval
    host.frames({**CLIP, "guidance_start": start, "guidance_end": end}, **PLAIN)
    assert rows_and_levels(host)[0] == rows


@pytest.mark.usefixtures("unchanged")
def test_interrupted_between_the_passes_the_clip_is_that_of_the_first(host):
    clip = {**CLIP, "frames": 24, "context_length": 8, "overlap": 2}
    first = host.frames(clip, **PLAIN)
    interrupting = threading.Thread(target=interrupt_at, args=(host, TASK, "Encoding"))
    interrupting.start()
    frames = host.frames(clip, force_task_id=TASK, **PLAIN, **HIRES)
    interrupting.join()
    assert numpy.array_equal(frames, first)


@pytest.mark.usefixtures("unchanged")
def test_comments_are_no_frames_of_a_prompt_that_travels(host):
    lines = ["0: spring", "2: summer"]
    commented = [lines[0] + " # mild", "# 1: hail", lines[1]]
    if host.name != "FORGE":
        commented[1:1] = ["// 1: snow", "/* 1: rain", "1: sleet */"]
    plain = host.frames(CLIP, prompt="\n".join(lines), **PLAIN)
    assert numpy.array_equal(host.frames(CLIP, prompt="\n".join(commented), **PLAIN), plain)
    assert (plain[0] != plain[2]).any()


@pytest.mark.usefixtures("unchanged")
def test_a_refusal_is_one_sentence(host):
    with pytest.raises(ServerError, match=r"answered 422.*AD-C"):
        host.frames({**CLIP, "frames": -3}, **PLAIN)


def difference(some, others):
    """Mean difference of images, in levels of 255."""
    pairs = zip(some, others, strict=True)
    return numpy.mean([numpy.abs(one.astype(float) - other.astype(float)).mean() for one, other in pairs])


@pytest.fixture(scope="module")
def automatic1111(webui_dir, start_webui):
    if host_of(webui_dir).is_patched:
        pytest.skip("WEBUI_DIR is not AUTOMATIC1111's WebUI, with which this would be compared")
    server = start_webui("automatic1111", extensions=[REPOSITORY])
    write_motion_file(server.motion_modules_dir)
    return server


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DPM++ 2M", "DDIM", "UniPC"])
@pytest.mark.parametrize("clip", [CLIP, {**CLIP, "frames": 12, "context_length": 4, "overlap": 1}], ids=["3", "12"])
def test_the_clip_is_that_of_the_webui(host, automatic1111, clip, sampler):
    """To rounding: the programs compute noise levels and attention in other ways; plain images differ by as much."""
    given = {**PLAIN, "sampler_name": sampler}
    images = differing(host, automatic1111, given)
    frames = differing(host, automatic1111, clip_payload({**clip, "formats": ["PNG"]}, **given))
    print(f"{host.host.name}, {sampler}: images {images:.3f}, frames {frames:.3f} of 255")
    assert images <= CLOSE
    assert frames <= CLOSE


def test_the_shared_noise_of_the_second_pass_is_that_of_the_webui(host, automatic1111):
    """Forge calls the hook before a sampling twice then, and noise that was mixed twice is another one.

    Upscalers other than latent ones use the VAE in between, so that plain images differ by 6 to 11 of 255.
    """
    clip = {**CLIP, "formats": ["PNG"], "noise": "shared", "noise_share": 0.5}
    asked = clip_payload(clip, **PLAIN, **{**HIRES, "hr_upscaler": "Latent"})
    assert differing(host, automatic1111, asked) <= CLOSE


def differing(host, automatic1111, payload):
    """Mean difference of a request's images from AUTOMATIC1111's, in levels of 255."""
    if host.name == "NEO":
        pytest.skip("plain images of Forge Neo differ from AUTOMATIC1111's by 55 of 255 (seen with Euler), so do clips")
    made = [each.txt2img(**payload) for each in (host, automatic1111)]
    return difference(*([pixels(reply, n) for n in range(len(reply["images"]))] for reply in made))
