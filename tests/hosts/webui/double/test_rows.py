"""Each picture of a batch becomes a clip of rows, or one row as a preview; p has its own values back afterwards."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from PIL import Image
from support.matrix import every_once
from support.unchanged import own_values
from support.webui_double import double
from support.webui_double.double import CLIP, shared

from motion_module import AnimateDiffError


def rows_while_sampling(webui, *names, **fields):
    """What p says during its first sampling."""
    told = []
    shared.during_sampling = lambda p: told.append([getattr(p, name) for name in names])
    webui.paint(CLIP, **fields)
    return told[0]


def test_a_batch_has_batch_size_times_frames_rows(webui):
    webui.paint({**CLIP, "frames": 3}, batch_size=2)
    assert [sampling.rows for sampling in shared.samplings] == [6]


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({"seed": 5}, {"seeds": [5, 6, 7, 8]}),
        ({"seed": [5, 50], "subseed": [1, 2]}, {"seeds": [5, 6, 50, 51], "subseeds": [1, 1, 2, 2]}),
        (
            {"prompt": ["cat", "dog"], "negative_prompt": ["red", "blue"]},
            {"prompts": ["cat", "cat", "dog", "dog"], "all_negative_prompts": ["red", "red", "blue", "blue"]},
        ),
        (
            {"prompt": ["cat", "dog"], "hr_prompt": ["big cat", "big dog"], "enable_hr": True},
            {"hr_prompts": ["big cat", "big cat", "big dog", "big dog"]},
        ),
    ],
    ids=["seed", "seeds", "prompts", "hires prompts"],
)
def test_one_seed_counts_on_over_all_frames_and_each_of_a_list_is_for_a_clip(webui, fields, rows):
    assert rows_while_sampling(webui, *rows, batch_size=2, **fields) == list(rows.values())


def test_each_picture_of_a_list_begins_a_clip(webui):
    pictures = [Image.new("RGB", (size, 8)) for size in (8, 16)]
    fields = {"tab": "img2img", "init_images": pictures, "batch_size": 2}
    latents, batch_size = rows_while_sampling(webui, "init_latent", "batch_size", **fields)
    assert batch_size == 4
    assert latents.flatten().tolist() == pytest.approx([0.08, 0.08, 0.16, 0.16])


def test_a_single_picture_is_left_for_the_webui_to_repeat(webui):
    picture = Image.new("RGB", (8, 8))
    (pictures,) = rows_while_sampling(webui, "init_images", tab="img2img", init_images=[picture])
    assert pictures == [picture]


def test_frames_are_not_saved_one_by_one_nor_as_a_grid(webui):
    processed = webui.paint(CLIP)
    assert shared.saved == []
    assert "grid" not in processed.infotexts


REQUESTS = [
    {"prompt": "cat", "seed": -1},
    {"prompt": ["a"], "negative_prompt": ["b"], "seed": [3], "subseed": [4], "enable_hr": True, "hr_prompt": ["c"]},
    {"tab": "img2img", "init_images": [Image.new("RGB", (8, 8))] * 2, "batch_size": 2},
    {"prompt": "head\n0: a\n1: b", "negative_prompt": "0: x", "enable_hr": True},
]


@pytest.mark.parametrize(
    ("fields", "noise", "error"), every_once(REQUESTS, ["random", "constant"], [None, RuntimeError, KeyboardInterrupt])
)
def test_p_has_its_own_values_back(webui, fields, noise, error):
    p = webui.request({**CLIP, "noise": noise}, **fields)
    before = own_values(p)
    shared.during_sampling = Mock(side_effect=error)
    try:
        double.process_images(p)
    except (RuntimeError, KeyboardInterrupt):
        assert error is not None
    assert own_values(p) == before
    assert all(own_values(p)[name] is value for name, value in before.items())


def test_the_same_p_can_be_painted_again(webui):
    """The img2img tab's batch does so."""
    p = webui.request(CLIP, tab="img2img", init_images=[Image.new("RGB", (8, 8))], prompt=["cat"])
    first, second = (double.process_images(p).images[0].tobytes() for _ in range(2))
    assert [sampling.rows for sampling in shared.samplings] == [2, 2]
    assert first == second


def test_a_field_that_was_changed_twice_has_its_first_value_back(webui, monkeypatch):
    """Styles are put into a list of prompts, of which each is then repeated for all frames."""
    monkeypatch.setattr(webui.module("hooks.layout"), "styled", lambda p: {"prompt": ["a cat in oil"]})
    p = webui.request(CLIP, prompt=["a cat"], negative_prompt=[""])
    assert double.process_images(p).all_prompts == ["a cat in oil"]
    assert p.prompt == ["a cat"]


@pytest.mark.parametrize(("sizes", "clips"), [([8, 16, 24], 1), ([8, 16, 24, 32, 40, 48], 2)])
def test_each_frame_can_begin_from_an_image_of_its_own(webui, sizes, clips):
    images = [Image.new("RGB", (size, 8)) for size in sizes]
    told = []
    shared.during_sampling = lambda p: told.extend(p.init_latent.flatten().tolist())
    webui.paint({**CLIP, "frames": 3}, tab="img2img", init_images=images, batch_size=clips)
    assert told == pytest.approx([size / 100 for size in sizes])


def test_a_refused_request_with_an_image_for_each_frame_says_why(webui):
    images = [Image.new("RGB", (8, 8))] * 4
    with pytest.raises(AnimateDiffError, match="no setting 'framez'"):
        webui.paint({**CLIP, "framez": 4}, tab="img2img", init_images=images)


def test_another_number_of_images_is_refused(webui):
    images = [Image.new("RGB", (8, 8))] * 4
    with pytest.raises(AnimateDiffError, match="4 init images were sent"):
        webui.paint({**CLIP, "frames": 3}, tab="img2img", init_images=images)


def test_a_preview_is_one_picture_saved_as_one(webui):
    clip, preview = webui.paint(CLIP), webui.paint({**CLIP, "preview": True}, batch_size=2, n_iter=2)
    assert len(preview.images) == 4 + 1  # a grid, as for pictures
    assert shared.saved[-4:] == [1, 1 + CLIP["frames"], 1 + 2 * CLIP["frames"], 1 + 3 * CLIP["frames"]]
    assert len(clip.images) == 1


@pytest.mark.parametrize(
    ("clip", "variation", "seeds", "subseeds"),
    [
        ({"preview": True}, 0.5, [1, 1], [100, 102]),
        ({"preview": True, "frame_seeds": "70, 80"}, 0, [70, 72], None),
        ({"frame_seeds": "70, 90"}, 0, [70, 90, 72, 92], None),
    ],
)
def test_frames_take_the_seeds_given_and_a_preview_those_of_its_clips_first(webui, clip, variation, seeds, subseeds):
    p = webui.request({**CLIP, **clip}, subseed_strength=variation, n_iter=2)
    double.process_images(p)
    assert p.all_seeds == seeds
    assert subseeds in (None, p.all_subseeds)
