"""Random requests of every sort, with a control image after each: none of them changes another request.

RANDOM_REQUESTS says how many (24 without it); CONTROLNET_DIR adds units of the real ControlNet extension.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from random import Random

import pytest
from PIL import Image
from support.motion_files import write_motion_file
from support.webui_real.clips import clip_payload
from support.webui_real.places import REPOSITORY, TROUBLE
from support.webui_real.server import (
    EMBEDDING,
    LORA,
    OTHER_CHECKPOINT,
    PAYLOAD,
    SHARED_CONFIG_CHECKPOINT,
    base64_image,
    pixels,
)
from support.webui_real.small_control import NAME, write_control_model

from tools.fuzz.mutators import changed_value

COUNT = int(os.environ.get("RANDOM_REQUESTS", "24"))
CONTROLNET = os.environ.get("CONTROLNET_DIR")
SPARE = 2**20  # bytes of tensors that may stay: caches of prompts
ANSWERS = (200, 400, 404, 422)  # 500 is a failure that nobody foresaw
RED = base64_image(Image.new("RGB", (64, 64), "red"))
UNIT = {"enabled": True, "module": "none", "image": RED, "model": NAME}
CHOICES = {
    "frames": (1, 2, 4, 8, 9, 17, "16", 0),
    "context_length": (4, 8, 16, 40),
    "overlap": (-1, 0, 3, 8),
    "stride": (1, 2, 5),
    "closed_loop": ("N", "R-P", "R+P", "A", True, "a"),
    "context_kind": ("uniform", "looped", "static", "batched"),
    "views": (True, False),
    "noise": ("random", "freenoise", "shared", "constant"),
    "freeinit_enable": (True, False, False),
    "freeinit_iters": (1, 2),
    "scale": ("1", "0: 1, 4: 0.5", "x"),
    "effect": ("1", "0", "0.5"),
    "reverse": (True, False),
    "preview": (True, False, False),
    "format": (["GIF"], ["MP4", "PNG"], ["WEBP", "TXT"], ["Frame"], ["AVI"], []),
    "fps": (8, 60, 0, "12"),
    "loop_number": (0, 2, -1),
    "model": ("mm_small_v3.safetensors", "mm_small_v2.safetensors", "Text2Video-Zero", "missing.ckpt"),
    "interp": ("Off", None, "FILM"),
    "frame_seeds": ("", "5, 6, 7", "x"),
}
PROMPTS = ("a cat", "0: red\n2: blue", f"<lora:{LORA}:1> a dog", f"{EMBEDDING}, a bird AND a fish", "(a (tree:1.2)", "")
SAMPLERS = ("Euler", "Euler a", "DPM++ 2M", "DPM++ SDE", "DDIM", "LCM", "PLMS")


@pytest.fixture(scope="module")
def server(start_webui):
    extensions = [REPOSITORY, TROUBLE, *([Path(CONTROLNET)] if CONTROLNET else [])]
    server = start_webui("random", extensions=extensions)
    for kind in ("v2", "v3"):
        write_motion_file(server.motion_modules_dir, kind)
    write_control_model(server.models_dir / "ControlNet")
    return server


def clip_request(random: Random) -> dict:
    settings = {name: random.choice(values) for name, values in CHOICES.items() if random.random() < 0.2}
    settings.setdefault("frames", 4)
    if random.random() < 0.2:
        settings = changed_value(random, settings)
    payload = {
        **PAYLOAD,
        "prompt": random.choice(PROMPTS),
        "sampler_name": random.choice(SAMPLERS),
        "seed": random.randrange(2**32),
        "steps": random.choice((1, 3, 4)),
        "batch_size": random.choice((1, 1, 2)),
        "n_iter": random.choice((1, 1, 2)),
        "width": random.choice((64, 64, 72, 128)),
    }
    if isinstance(settings, dict):
        return clip_payload(settings, **payload)
    return {**payload, "alwayson_scripts": {"AnimateDiff": {"args": [settings]}}}


def plain(_server, request):
    return "txt2img", request


def hires(random, request):
    return "txt2img", {**request, "enable_hr": True, "hr_scale": 2, "denoising_strength": 0.7}


def from_image(random, request):
    count = random.choice((1, 1, 4))
    return "img2img", {**request, "init_images": [RED] * count, "denoising_strength": random.choice((0.3, 0.8))}


def switched(random, request):
    checkpoint = random.choice((OTHER_CHECKPOINT, SHARED_CONFIG_CHECKPOINT))
    return "txt2img", {**request, "override_settings": {"sd_model_checkpoint": checkpoint}}


def failing(random, request):
    trouble = {"Trouble": {"args": [{"raise_at": {"layer": "model.diffusion_model", "call": random.randrange(4)}}]}}
    return "txt2img", {**request, "alwayson_scripts": {**request["alwayson_scripts"], **trouble}}


def controlled(random, request):
    unit = {**UNIT, "image": random.choice((RED, RED, None))}
    tab, request = random.choice((plain, from_image, hires))(random, request)
    return tab, {**request, "alwayson_scripts": {**request["alwayson_scripts"], "ControlNet": {"args": [unit]}}}


def interrupted(random, request):
    return "txt2img", {**request, "steps": 30}


SORTS = (plain, plain, hires, from_image, switched, failing, interrupted, *([controlled] if CONTROLNET else []))


def send(server, random: Random, answers: list[tuple[str, int, str]]) -> None:
    """One request; two at once now and then. Notes its sort, status and answer."""
    sort = random.choice(SORTS)
    tab, request = sort(random, clip_request(random))

    def post() -> None:
        answer = server.api("POST", f"/sdapi/v1/{tab}", {**server.host.defaults(request), **request})
        answers.append((sort.__name__, answer.status_code, answer.text[:400]))

    clients = [threading.Thread(target=post) for _ in range(random.choice((1, 1, 1, 2)))]
    for client in clients:
        client.start()
    while sort is interrupted and any(client.is_alive() for client in clients):
        time.sleep(0.3)
        server.api("POST", "/sdapi/v1/interrupt")
    for client in clients:
        client.join()


@pytest.mark.shows("Random requests: a control image after each is the same, no memory stays")
def test_no_request_changes_another(server):
    random = Random(0)
    before = pixels(server.txt2img())
    told = portrait(server)
    held, answers = [], []
    for number in range(COUNT):
        send(server, random, answers)
        assert (pixels(server.txt2img()) == before).all(), (number, answers[-1])
        assert portrait(server) == told, (number, answers[-1])
        held.append(server.api("GET", "/trouble/live-bytes").json())
    unforeseen = [each for each in answers if each[1] not in ANSWERS and each[0] != "failing"]
    assert not unforeseen
    assert held[-1] <= held[COUNT // 4] + SPARE
    taken = sum(status == 200 for _, status, _ in answers)
    assert taken > len(answers) // 4, "hardly any request was right"
    print(f"{len(answers)} requests, {taken} answered with 200")


def portrait(server) -> dict:
    told = server.api("GET", "/trouble/portrait").json()
    return {name: told[name] for name in ("tensors", "hooks", "alphas")}
