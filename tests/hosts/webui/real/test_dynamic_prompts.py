"""Beside the real Dynamic Prompts: one clip for each prompt, with its seed, and a text that gives it again.

DYNAMIC_PROMPTS_DIR names a clone of that extension.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.motion_files import write_motion_file
from support.webui_real.clips import clip_payload
from support.webui_real.places import REPOSITORY

COLOURS = "red blue green black white grey pink brown".split()
SEED = 5
# It registers its options too late for the first start of a WebUI 1.10, so a user has them from the second one on.
OPTIONS = {
    "dp_ignore_whitespace": True,
    "dp_write_raw_template": False,
    "dp_write_prompts_to_file": False,
    "dp_parser_variant_start": "{",
    "dp_parser_variant_end": "}",
    "dp_parser_wildcard_wrap": "__",
    "dp_limit_jinja_prompts": False,
    "dp_auto_purge_cache": False,
    "dp_wildcard_manager_no_dedupe": False,
    "dp_wildcard_manager_no_sort": False,
    "dp_wildcard_manager_shuffle": False,
    "dp_magicprompt_batch_size": 1,
}


@pytest.fixture(scope="module")
def prompted(start_webui):
    given = os.environ.get("DYNAMIC_PROMPTS_DIR")
    if not given:
        pytest.skip("DYNAMIC_PROMPTS_DIR is not set: the extension was not started, so nothing here is proven")
    server = start_webui("prompted", extensions=[REPOSITORY, Path(given)], settings=OPTIONS)
    write_motion_file(server.motion_modules_dir, "v3")
    return server


def render(server, variants, frames, **changes):
    """The reply's images, and its info."""
    names = ("is_combinatorial", "use_fixed_seed")
    combinatorial, fixed = (changes.pop(name, name == "is_combinatorial") for name in names)
    arguments = [True, combinatorial, 1, False, False, False, 1.1, 1.5, 100, 0.7, fixed, False, True, False, False, 0]
    payload = clip_payload(
        {"frames": frames},
        prompt=f"a {{{'|'.join(COLOURS[:variants])}}} cat",
        seed=SEED,
        steps=2,
        **changes,
        alwayson_scripts={"Dynamic Prompts v2.17.1": {"args": arguments}},
    )
    reply = server.txt2img(**payload)
    return reply["images"], json.loads(reply["info"])


@pytest.mark.shows("Dynamic Prompts: one clip for each combination, with its prompt, seed and text")
@pytest.mark.parametrize("variants", [2, 3, 4, 8])
@pytest.mark.parametrize("frames", [4, 16])
@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("n_iter", [1, 2])
def test_each_combination_is_one_clip(prompted, variants, frames, batch_size, n_iter):
    images, info = render(prompted, variants, frames, batch_size=batch_size, n_iter=n_iter)
    prompts = [f"a {colour} cat" for colour in COLOURS[:variants]]
    assert info["all_prompts"] == prompts
    assert info["all_seeds"] == [SEED + frames * number for number in range(variants)]
    assert [text.split("\n")[0] for text in info["infotexts"]] == prompts
    assert len(set(images)) == len(images) == variants
    alone = clip_payload({"frames": frames}, prompt=prompts[-1], seed=info["all_seeds"][-1], steps=2)
    if batch_size == 1:  # the arithmetic of another number of rows differs in its last bits
        assert prompted.txt2img(**alone)["images"] == images[-1:]


@pytest.mark.shows("Dynamic Prompts: random prompts and fixed seeds")
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(("batch_size", "n_iter"), [(1, 2), (2, 2)])
def test_random_prompts(prompted, fixed, batch_size, n_iter):
    clips = batch_size * n_iter
    images, info = render(
        prompted, 8, 4, is_combinatorial=False, use_fixed_seed=fixed, batch_size=batch_size, n_iter=n_iter
    )
    assert len(images) == len(info["all_prompts"]) == clips
    assert info["all_seeds"] == [SEED + (0 if fixed else 4 * number) for number in range(clips)]
    assert [text.split("\n")[0] for text in info["infotexts"]] == info["all_prompts"]
    assert set(info["all_prompts"]) <= {f"a {colour} cat" for colour in COLOURS}
