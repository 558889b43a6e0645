"""The API of the real WebUI, by curl, requests and webuiapi: what docs/api.md says is what happens."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys

import pytest
import requests
from PIL import Image
from support.webui_real.clips import FRAMES, animate
from support.webui_real.places import REPOSITORY
from support.webui_real.server import pixels
from support.webui_real.studio import texts_of

from lib_animatediff import __version__
from lib_animatediff.request.settings import SETTINGS

PAGE = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"## (\w+)\n.*?```(sh|python)\n(.*?)```", PAGE, re.DOTALL)


def small(code: str, server) -> str:
    changes = {"7860": str(server.port), "v3_sd15_mm.ckpt": "mm_small_v3", "512": "64", "20": "2"}
    assert all(ours in code for ours in changes)
    return re.sub("|".join(map(re.escape, changes)), lambda found: changes[found[0]], code)


@pytest.mark.shows("API: the examples of docs/api.md: curl, requests, webuiapi")
@pytest.mark.parametrize(("client", "language", "code"), EXAMPLES, ids=[client for client, *_ in EXAMPLES])
def test_the_examples_of_the_page_work(studio, tmp_path, client, language, code):
    assert client in ("curl", "requests", "webuiapi")
    command = ["sh", "-c"] if language == "sh" else [sys.executable, "-c"]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        [*command, small(code, studio)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "clip.gif").n_frames == 16
    assert len(list(tmp_path.glob("frame*.png"))) == (16 if client == "requests" else 0)


@pytest.mark.shows("API: Frame returns all frames of all clips")
def test_frame_returns_all_frames_of_all_clips(studio):
    answer = animate(studio, {"format": ["GIF", "Frame"]}, batch_size=2, n_iter=2)
    assert len(answer["images"]) == 4 + 4 * FRAMES
    assert [base64.b64decode(image)[:4] for image in answer["images"][:4]] == [b"GIF8"] * 4
    for clip in range(4):
        frames = [pixels(answer, 4 + clip * FRAMES + frame) for frame in range(FRAMES)]
        assert len({frame.tobytes() for frame in frames}) == FRAMES
    infotexts = texts_of(answer)
    assert [f"Seed: {seed}," in text for seed, text in zip(range(1, 33), infotexts[4:], strict=True)] == [True] * 32


@pytest.mark.shows("API: models, schema and version")
def test_models_schema_and_version(studio):
    models = {model["name"]: model for model in studio.api("GET", "/animatediff/v1/models").json()}
    modules = ["folder/other v3.safetensors", "mm_small_v2.safetensors", "mm_small_v3.safetensors", "page.ckpt"]
    assert list(models) == [*modules, "Text2Video-Zero"]
    assert (models["mm_small_v2.safetensors"]["kind"], models["mm_small_v2.safetensors"]["base"]) == ("v2", "sd15")
    assert models["mm_small_v3.safetensors"]["trained_length"] == 32
    assert "web page" in models["page.ckpt"]["problem"]
    assert list(studio.api("GET", "/animatediff/v1/schema").json()["properties"]) == list(SETTINGS)
    assert studio.api("GET", "/animatediff/v1/version").json() == {"version": __version__}


@pytest.mark.shows("API: under the API's own authentication")
def test_the_routes_are_behind_the_apis_own_authentication(start_studio):
    locked = start_studio("locked", auth=("ada", "secret"))
    with requests.Session() as session:
        session.trust_env = False
        for route in ("models", "schema", "version"):
            address = f"{locked.url}/animatediff/v1/{route}"
            assert session.get(address, timeout=30).status_code == 401
            assert session.get(address, auth=("ada", "wrong"), timeout=30).status_code == 401
            assert session.get(address, auth=("ada", "secret"), timeout=30).status_code == 200
