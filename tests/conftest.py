"""What tests of several packages share: built once for all of them, and left as it was by each.

Nothing here is imported before a test asks for it: the tests of a real WebUI need no torch to be skipped.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from functools import partial

import pytest


def pytest_collection_finish():
    """What the libraries have made stays. Looking through it for garbage took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    """Whatever a test draws without a seed of its own does not depend on those before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def unets() -> Iterator[dict]:
    """Both hosts' UNets at small widths, by host and number of levels: 4 is Stable Diffusion 1.5's, 3 is SDXL's."""
    import torch
    from support import hosts
    from support.unchanged import Portrait

    tables = {4: hosts.HOSTS, 3: hosts.SDXL_HOSTS}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = {(host, levels): make() for levels, table in tables.items() for host, make in table.items()}
    before = [Portrait(unet) for unet in made.values()]
    yield made
    for each in before:
        each.assert_unchanged()


@pytest.fixture(scope="session")
def ldm_unet(unets):
    """LDM's, of Stable Diffusion 1.5."""
    return unets["ldm", 4]


@pytest.fixture(scope="session")
def pipeline():
    """The built-in model. Loading it takes longer than the small clips of the tests."""
    from support.pocket_clips import new_pipeline

    return new_pipeline()


@pytest.fixture(scope="session")
def motion():
    """The built-in model's motion module, in the precision of its clips."""
    from support.pocket_clips import MOTION, read_once

    return read_once(MOTION)


@pytest.fixture(autouse=True)
def _motion_files_read_once(request, monkeypatch):
    """Also in plans and commands, where the model is loaded already."""
    if "pipeline" in request.fixturenames:
        from support.pocket_clips import read_once

        from lib_animatediff.hosts.diffusers import motion_module

        monkeypatch.setattr(motion_module, "load_motion_module", read_once)


@pytest.fixture
def clip(pipeline, motion):
    """Makes a clip of the built-in model: a function `(prompt, **settings) -> frames as numbers`."""
    from support.pocket_clips import clip_of

    return partial(clip_of, pipeline, motion)


@pytest.fixture
def command(capsys):
    """The command line: a function `(*words) -> Ended`."""
    from support.cli import command_line

    return command_line(capsys)


@pytest.fixture
def run(command, pipeline, monkeypatch):
    """The command line on the built-in model, which is loaded already."""
    from lib_animatediff.hosts.diffusers import pipeline as host

    monkeypatch.setattr(host, "load_pipeline", lambda *_args, **_kwargs: pipeline)
    return command


@pytest.fixture
def written(run, tmp_path):
    """Four small frames that `animate` wrote without loss: a function `(*words) -> frames as numbers`."""
    from support.pocket_clips import RED, STEPS, pixels

    from lib_animatediff.video import read_clip

    def written(*words):
        path = tmp_path / "clip.png"
        done = run(
            "animate",
            "--checkpoint",
            "pocket",
            "--prompt",
            RED,
            "--seed",
            3,
            "--steps",
            STEPS,
            "--frames",
            4,
            *("--width", 32, "--height", 32),
            "--output",
            path,
            *words,
        )
        assert done.code == 0, done.err
        return pixels([frame.image for frame in read_clip(path)])

    return written


@pytest.fixture
def run_early(command, monkeypatch):
    """The command line where nothing may be loaded: all that is refused is refused before."""
    from lib_animatediff.hosts.diffusers import pipeline as host

    monkeypatch.setattr(host, "load_pipeline", lambda *_args, **_kwargs: pytest.fail("the slow work has begun"))
    return command
