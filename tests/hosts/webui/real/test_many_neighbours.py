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


@pytest.fixture(scope="module")
def without(start_webui, neighbours):
    """The WebUI with all of them alone."""
    return start_webui("without", extensions=neighbours)


@pytest.fixture(scope="module")
def requests(without):
    """Those whose scripts the program could load."""
    present = set(without.api("GET", "/sdapi/v1/scripts").json()["txt2img"])
    return [each for each in REQUESTS.values() if present.issuperset(map(str.lower, each.get("alwayson_scripts", ())))]


def errors(server):
    """The WebUI's lines about errors of extensions, and the last lines of their tracebacks."""
    lines = [line.strip() for line in server.log_text().splitlines()]
    return {
        line.replace(str(server.data_dir), "") for line in lines if line.startswith("*** Error") or "Error: " in line
    }


@pytest.mark.shows("Neighbours: many extensions at once, images with the accordion closed are identical")
def test_images_are_identical_with_the_accordion_closed(without, beside, requests):
    for request in requests:
        assert numpy.array_equal(pixels(beside.txt2img(**request)), pixels(without.txt2img(**request))), request
    scripts = [server.api("GET", "/sdapi/v1/scripts").json()["txt2img"] for server in (beside, without)]
    assert set(scripts[0]) == {*scripts[1], "animatediff"}


@pytest.mark.shows("Neighbours: many extensions at once, a clip brings no further error of theirs")
def test_clips_beside_them(without, beside, requests):
    for request in requests:
        without.txt2img(**request)
        assert len(clip_of(beside.txt2img(**clip_payload({"frames": 4}, **request))).frames) == 4
    assert errors(beside) <= errors(without)
