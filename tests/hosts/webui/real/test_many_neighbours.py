"""Beside many other extensions at once, whose checkouts lie in the folder NEIGHBOURS_DIR."""

from __future__ import annotations

import os
from pathlib import Path

import numpy
import pytest
from support.motion_files import write_motion_file
from support.webui_real.clips import clip_of, clip_payload
from support.webui_real.places import REPOSITORY
from support.webui_real.server import pixels

CUTOFF = {"Cutoff": {"args": [True, "red, cat", 0.5, False, False, "", "Lerp", False]}}
REQUESTS = {
    "plain": {"prompt": "a cat"},
    "batch": {"prompt": "a red cat", "batch_size": 2, "n_iter": 2},
    "hires": {"prompt": "a cat", "enable_hr": True, "hr_scale": 2, "denoising_strength": 0.7},
    "cutoff": {"prompt": "a red cat", "alwayson_scripts": CUTOFF},
}


@pytest.fixture(scope="module")
def neighbours():
    given = os.environ.get("NEIGHBOURS_DIR")
    if not given:
        pytest.skip("NEIGHBOURS_DIR is not set: other extensions were not started")
    return sorted(path for path in Path(given).iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def beside(start_webui, neighbours):
    """The WebUI with all of them and AnimateDiff."""
    server = start_webui("beside", extensions=[*neighbours, REPOSITORY])
    write_motion_file(server.motion_modules_dir, "v3")
    return server


@pytest.mark.shows("Neighbours: many extensions at once, images with the accordion closed are identical")
def test_images_are_identical_with_the_accordion_closed(start_webui, neighbours, beside):
    without = start_webui("without", extensions=neighbours)
    for name, request in REQUESTS.items():
        assert numpy.array_equal(pixels(beside.txt2img(**request)), pixels(without.txt2img(**request))), name
    assert len(beside.api("GET", "/sdapi/v1/scripts").json()["txt2img"]) > len(
        without.api("GET", "/sdapi/v1/scripts").json()["txt2img"]
    )


@pytest.mark.shows("Neighbours: many extensions at once, a clip without an error in the console")
def test_clips_beside_them(beside, neighbours):
    for name in ("plain", "batch", "hires", "cutoff"):
        assert len(clip_of(beside.txt2img(**clip_payload({"frames": 4}, **REQUESTS[name]))).frames) == 4, name
    log = beside.log_text()
    assert "Error creating infotext" not in log
    assert "Error running" not in log
