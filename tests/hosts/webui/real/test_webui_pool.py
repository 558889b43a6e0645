"""`render --webui`: the clips of a manifest on a real WebUI, beside one that does not answer."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.webui_real.places import REPOSITORY

from lib_animatediff.builtin_model import POCKET, copy_to_webui
from lib_animatediff.video import read_clip, read_recipe

ROOT = Path(__file__).parents[4]
NOBODY = "http://127.0.0.1:1"
SMALL = {"motion": POCKET.motion, "frames": 4, "steps": 2, "width": 64, "height": 64, "cfg": 3, "sampler": "ddim"}
DEFAULTS = {**SMALL, "checkpoint": POCKET.checkpoint, "format": "webp"}


@pytest.fixture(scope="module")
def server(start_webui):
    server = start_webui("pool", extensions=[REPOSITORY])
    copy_to_webui(server.data_dir, POCKET)
    server.api("POST", "/sdapi/v1/refresh-checkpoints").raise_for_status()
    return server


def render(manifest: Path, *words: str) -> tuple[int, dict, str]:
    line = [sys.executable, "-m", "lib_animatediff", "render", str(manifest), "--json", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def test_a_webui_renders_whole_clips_and_names_what_it_refuses(server, tmp_path):
    manifest = tmp_path / "shots.jsonl"
    rows = [
        {"defaults": DEFAULTS},
        {"prompt": "a {red|blue} disc", "seed": 7},
        {"prompt": "a disc", "motion": "nothing.ckpt"},
        {"prompt": "a disc", "overlap": 40},
    ]
    manifest.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    code, made, err = render(manifest, "--webui", server.url, "--webui", NOBODY)
    folder = tmp_path / "shots"
    assert code == 3, err
    assert (made["clips"], made["rendered"], made["failed"]) == (2, 2, 2), err
    failed = [json.loads(line) for line in (folder / "failed.jsonl").read_text().splitlines()]
    assert [one["code"] for one in failed] == ["AD-W06", "AD-C10"]

    (red,) = folder.glob("a-red-disc-7-*.webp")
    assert len(list(read_clip(red))) == 4
    assert "a red disc" in read_recipe(red).infotext
    request = {
        **{name: SMALL[name] for name in ("steps", "width", "height")},
        **{"prompt": "a red disc", "seed": 7, "cfg_scale": 3, "sampler_name": "DDIM", "save_images": False},
        "override_settings": {"sd_model_checkpoint": POCKET.checkpoint},
        "alwayson_scripts": {"AnimateDiff": {"args": [{"model": POCKET.motion, "frames": 4, "format": ["webp"]}]}},
    }
    answer = server.api("POST", "/sdapi/v1/txt2img", json=request)
    assert red.read_bytes() == base64.b64decode(answer.json()["images"][0])

    code, again, err = render(manifest, "--webui", server.url)
    assert (code, again["rendered"], again["skipped"]) == (3, 0, 2), err
    red.write_bytes(red.read_bytes()[:100])
    code, again, err = render(manifest, "--webui", server.url)
    assert (again["rendered"], again["skipped"]) == (1, 1), err
    assert len(list(read_clip(red))) == 4


def test_an_address_without_animatediff_is_one_sentence(server, tmp_path):
    manifest = tmp_path / "shots.jsonl"
    manifest.write_text('{"prompt": "a"}\n')
    code, _, err = render(manifest, "--webui", f"{server.url}/nothing")
    assert code == 4
    assert "[AD-M47]" in err
    code, _, err = render(manifest, "--webui", NOBODY)
    assert code == 4
    assert "[AD-M53]" in err
