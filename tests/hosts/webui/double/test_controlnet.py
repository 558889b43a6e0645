"""The ControlNet extension beside us: it acts on clips frame by frame, never on the requests after them."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch
from support.matrix import every_once
from support.webui_double.controlled import (
    AND_LONG,
    CLIP_OF_5,
    FRAMES,
    IMAGE,
    NAMED,
    WINDOWS,
    has_rows,
    hint,
    level,
    picture,
    unit,
    wrong_rows,
)
from support.webui_double.controlnet import InputMode
from support.webui_double.denoiser import TOKENS
from support.webui_double.double import CLIP, SIDE, shared

from lib_animatediff.video import write_clip
from motion_module import AnimateDiffError

FIRST = [hint(frame) for frame in range(FRAMES)]


@pytest.mark.parametrize(
    ("clip", "fields"),
    [
        ({}, {}),
        (WINDOWS, {}),
        ({**WINDOWS, "context_kind": "static"}, {"batch_size": 2}),
        ({**WINDOWS, "closed_loop": "A"}, {"prompt": "a long road"}),
        ({**WINDOWS, "views": True}, {}),
        (WINDOWS, {"prompt": AND_LONG}),
        (WINDOWS, {"enable_hr": True}),
        (WINDOWS, {"n_iter": 2, "steps": 4}),
    ],
    ids=lambda value: " ".join(map(str, value.values()))[:40],
)
def test_every_row_of_every_call_has_the_hint_of_its_frame(controlled, walk, clip, fields):
    processed = controlled(unit(), clip={**NAMED, **clip}, **fields)
    assert wrong_rows(hint) == 0
    clips = fields.get("batch_size", 1) * fields.get("n_iter", 1)
    assert len(processed.images) == clips  # and no maps of hints


def test_also_with_cond_apart_and_without_uncond(webui, controlled, walk):
    shared.opts.batch_cond_uncond = False
    controlled(unit(), clip=NAMED)
    shared.opts.skip_early_cond = 1.0
    shared.opts.batch_cond_uncond = True
    controlled(unit(), clip=NAMED)
    assert wrong_rows(hint) == 0
    assert {len(x) for x, _ in shared.controlled} == {FRAMES}


def test_two_units_follow_their_own_images(controlled, walk, webui):
    write_clip(walk.parent / "back.gif", [picture(FRAMES - 1 - frame) for frame in range(FRAMES)], fps=5)
    both = {**CLIP_OF_5, **WINDOWS, "control_images": "0: in/walk, 2: in/back.gif"}
    controlled(unit(), {"enabled": False}, unit(model="adapter"), clip=both)
    assert wrong_rows(hint) == 0
    assert wrong_rows(lambda frame, _clip: level(FRAMES - 1 - frame) / 255, unit=1) == 0


@pytest.mark.parametrize("model", ["net", "adapter"])
def test_uncond_is_left_out_by_rows_where_control_matters_more(controlled, walk, model):
    controlled(unit(model=model, control_mode="ControlNet is more important"), clip={**NAMED, **WINDOWS})
    for x, (values,) in shared.controlled:
        rows = len(x) // 2
        assert (values[:rows] > 0).all()
        assert (values[rows:] == 0).all()


def test_other_kinds(controlled, walk):
    controlled(unit(model="lite"), clip={**NAMED, **WINDOWS})
    assert wrong_rows(lambda frame, clip: 2 * hint(frame) - 1) == 0
    shared.controlled.clear()
    controlled(unit(model="lora"), clip={**NAMED, **WINDOWS})
    assert wrong_rows(hint) == 0


def test_the_control_network_of_an_instant_id_sees_the_embedding_of_its_frame(controlled, walk):
    face = unit(model="ip", module="ip-adapter", animatediff_batch=True, ipadapter_input=FIRST)
    clip = {**CLIP_OF_5, **WINDOWS, "control_images": "1: in/walk"}
    controlled(face, unit(model="instant"), clip=clip)
    assert wrong_rows(lambda frame, _clip: 2 * hint(frame), unit=1) == 0


def test_the_latents_of_references_are_made_once(controlled, walk):
    controlled(unit(module="reference_only", model="None"), clip={**NAMED, **WINDOWS}, steps=4)
    assert wrong_rows(hint) == 0
    assert shared.encoded == FRAMES
    shared.opts.skip_early_cond = 0.4  # calls with other numbers of rows, for one image
    controlled(unit(module="reference_only", model="None", image=picture(1)), clip=CLIP_OF_5)
    assert wrong_rows(lambda _frame, _clip: level(1) / 255) > 0  # of the request before
    assert all((values[0] == values[0][0]).all() for _, values in shared.controlled[-1:])


@pytest.mark.parametrize("prompt", ["a cat", "a long road"])
def test_an_ip_adapter_mixes_the_embedding_of_each_frame_with_uncond(controlled, walk, prompt):
    controlled(unit(model="ip", module="ip-adapter_clip"), clip={**NAMED, **WINDOWS}, prompt=prompt)
    for x, (values,) in shared.controlled:
        rows = len(x) // 2 if prompt == "a cat" else len(x)
        is_cond = prompt == "a cat" or bool((values != -1).all())
        cond = values[:rows] if is_cond else torch.empty(0)
        assert ((cond - torch.tensor([hint(frame) for frame in range(FRAMES)])[:, None]).abs().min(0)[0] < 1e-6).all()
        assert (values[rows:] == -1).all()
    assert {bool((values == -1).any()) for _, (values,) in shared.controlled} >= {True}


def test_images_that_are_named_replace_embeddings(controlled, walk):
    given = unit(model="ip", module="ip-adapter", animatediff_batch=True, ipadapter_input=[0.25, 0.75])
    controlled(given, clip=NAMED)
    for _, (values,) in shared.controlled:
        assert values[:FRAMES].tolist() == pytest.approx(FIRST)


def test_where_images_come_from(controlled, walk, webui):
    write_clip(walk.parent / "v.gif", [picture(frame) for frame in range(FRAMES)], fps=5)
    for given, clip, fields in (
        (unit(), {**CLIP_OF_5, "control_images": "in/v.gif"}, {}),
        (unit(), {**CLIP_OF_5, "video": "in/v.gif", "denoise": 1}, {}),
        (unit(input_mode=InputMode.BATCH, batch_images=str(walk)), CLIP_OF_5, {}),
        (unit(animatediff_batch=True, batch_images=f"{walk}\nkeyframe:"), CLIP_OF_5, {}),
        (unit(image=[{"image": picture(frame)} for frame in range(FRAMES)]), CLIP_OF_5, {}),
        (unit(), CLIP_OF_5, {"tab": "img2img", "init_images": [picture(frame) for frame in range(FRAMES)]}),
    ):
        shared.controlled.clear()
        processed = controlled(given, clip=clip, **fields)
        assert wrong_rows(hint) == 0, (given, clip)
        assert len(processed.images) == 1
    shared.controlled.clear()
    images = {"tab": "img2img", "init_images": [picture(1), picture(3)], "batch_size": 2}
    controlled(unit(), clip=CLIP_OF_5, **images)
    assert wrong_rows(lambda _frame, clip: level(1 + 2 * clip) / 255) == 0
    shared.controlled.clear()
    images = {"tab": "img2img", "init_images": [picture(clip) for clip in range(FRAMES)], "batch_size": FRAMES}
    controlled(unit(), clip=CLIP_OF_5, **images)  # as many clips as frames
    assert wrong_rows(lambda _frame, clip: hint(clip)) == 0


def test_its_own_image_is_that_of_all_frames(controlled):
    processed = controlled(unit(image=IMAGE), clip={**CLIP_OF_5, **WINDOWS})
    assert wrong_rows(lambda _frame, _clip: 90 / 255) == 0
    assert len(processed.images) == 2  # the clip, and one map as for an image


@pytest.mark.parametrize(
    ("fill", "order"), [("hold", [0, 1, 1, 1, 1]), ("loop", [0, 1, 0, 1, 0]), ("stretch", [0, 0, 1, 1, 1])]
)
def test_fewer_images_than_frames(controlled, walk, fill, order):
    for frame in range(2, FRAMES):
        (walk / f"{frame}.png").unlink()
    processed = controlled(unit(), clip={**NAMED, "control_fill": fill})
    assert wrong_rows(lambda frame, _clip: hint(order[frame])) == 0
    assert "walk has 2 images for 5 frames" in processed.comments
    with pytest.raises(AnimateDiffError, match="AD-H16"):
        controlled(unit(), clip={**NAMED, "control_fill": "refuse"})


@pytest.mark.parametrize(("fill", "order"), [("hold", [0, 1, 1, 1, 1]), ("loop", [0, 1, 0, 1, 0])])
def test_a_list_of_fewer_images_or_embeddings_than_frames(controlled, fill, order):
    clip = {**CLIP_OF_5, "control_fill": fill}
    images = [{"image": picture(frame)} for frame in range(2)]
    processed = controlled(unit(image=images), clip=clip)
    assert wrong_rows(lambda frame, _clip: hint(order[frame])) == 0
    assert "ControlNet unit 0 has 2 images for 5 frames" in processed.comments
    embeddings = {"model": "ip", "module": "ip-adapter", "animatediff_batch": True, "ipadapter_input": [0.25, 0.75]}
    shared.controlled.clear()
    controlled(unit(**embeddings), clip=clip)
    for _, (values,) in shared.controlled:
        assert values[:FRAMES].tolist() == [(0.25, 0.75)[place] for place in order]
    for given in ({"image": images}, embeddings):
        with pytest.raises(AnimateDiffError, match="AD-H16"):
            controlled(unit(**given), clip={**CLIP_OF_5, "control_fill": "refuse"})


def test_images_at_frames_fade_with_the_distance(controlled, walk):
    clip = {**CLIP_OF_5, "control_images": "0@1: in/walk/3.png, 0@-1: in/walk/0.png", "control_reach": 2}
    controlled(unit(), clip=clip)
    near = [(3, 0.5), (3, 1), (3, 0.5), (0, 0.5), (0, 1)]
    assert wrong_rows(lambda frame, _clip: hint(near[frame][0]) * near[frame][1]) == 0


@pytest.mark.parametrize(
    ("model", "module"), [("net", "none"), ("adapter", "none"), ("lite", "none"), ("ip", "ip-adapter")]
)
def test_weights_over_frames(controlled, walk, model, module):
    clip = {**CLIP_OF_5, **WINDOWS, "control_weight": "0: 0, 2: 0, 3: 1", "control_images": "in/walk"}
    controlled(unit(model=model, module=module), clip=clip)
    factors = [0, 0, 0, 1, 1]
    scaled = {"lite": lambda frame: 2 * hint(frame) - 1}.get(model, hint)
    if model == "ip":
        half = [values[: len(values) // 2] for _, (values,) in shared.controlled]
        wanted = torch.tensor([scaled(frame) * factors[frame] for frame in range(FRAMES)])
        assert all(((part[:, None] - wanted).abs().min(1)[0] < 1e-6).all() for part in half)
    else:
        assert wrong_rows(lambda frame, _clip: scaled(frame) * factors[frame]) == 0


def test_a_weight_of_1_is_no_weight(controlled, walk):
    plain = controlled(unit(), clip=NAMED).images[0].tobytes()
    assert controlled(unit(), clip={**NAMED, "control_weight": "1, 1"}).images[0].tobytes() == plain


@pytest.mark.parametrize("trouble", [RuntimeError("no memory"), KeyboardInterrupt()])
def test_after_a_failure_the_next_image_of_the_other_tab_is_not_controlled(webui, controlled, trouble):
    wanted = webui.picture()
    shared.during_sampling = Mock(side_effect=trouble)
    with pytest.raises(type(trouble)):
        controlled(unit(image=IMAGE))
    shared.during_sampling = None
    assert "forward" not in vars(webui.checkpoint.model.diffusion_model)
    assert webui.tabs["txt2img"].alwayson_scripts[1].post_processors == []
    assert webui.picture() == wanted


def test_after_a_refusal_too(webui, controlled):
    with pytest.raises(AnimateDiffError, match="frames"):
        controlled(unit(image=IMAGE), clip={**CLIP, "frames": "many"})
    assert "forward" not in vars(webui.checkpoint.model.diffusion_model)
    assert webui.tabs["txt2img"].alwayson_scripts[1].latest_network is None


def test_marks_are_not_repeated_with_the_prompts(webui, controlled):
    """Three parts, one with two chunks: uncond is repeated once, and each row keeps the one mark of ControlNet."""
    controlled(unit(image=IMAGE), prompt=AND_LONG)
    assert set(shared.tokens) == {2 * TOKENS + 1}


@pytest.mark.parametrize(
    ("units", "clip", "code", "words"),
    [
        ([unit()], CLIP_OF_5, "AD-H48", "no input image is given"),
        ([unit(), unit(image=IMAGE)], CLIP_OF_5, "AD-H48", "2 units that do"),
        ([{"enabled": True, "model": "gone"}], CLIP_OF_5, "AD-H46", r"model\(gone\) not found"),
        ([unit(model="style")], NAMED, "AD-H51", "T2I_StyleAdapter"),
        ([unit(module="inpaint_global")], NAMED, "AD-H45", "batch_mask_dir"),
        (
            [unit(module="reference_only", model="None", image=IMAGE)],
            {**CLIP_OF_5, "control_weight": 0.5},
            "AD-H52",
            "all frames alike",
        ),
        ([unit()], {**CLIP_OF_5, "control_images": "/etc"}, "AD-W32", "outside"),
        ([unit()], {**CLIP_OF_5, "control_images": "0:"}, "AD-H40", "not a unit"),
        ([unit()], {**CLIP_OF_5, "control_images": "0: in/walk, 0: in/walk"}, "AD-H41", "twice"),
        ([unit()], {**CLIP_OF_5, "control_images": "0: in/walk, 0@2: in/walk/0.png"}, "AD-H42", "images at frames"),
        ([unit()], {**CLIP_OF_5, "control_images": "0@9: in/walk/0.png"}, "AD-H43", "no frame 9"),
        ([unit()], {**CLIP_OF_5, "control_weight": "3"}, "AD-C28", "between 0 and 2"),
        ([unit()], {**NAMED, "control_start": "2"}, "AD-C28", "between 0 and 1"),
        ([unit()], {**NAMED, "control_masks": "0@1: in/walk/0.png"}, "AD-H55", "Leave @ out"),
        ([unit()], {**NAMED, "control_start": "0: 0, 4: 1"}, "AD-H56", "in frame 4 from 1 to 1"),
    ],
)
def test_refusals(webui, controlled, walk, units, clip, code, words):
    wanted = webui.picture()
    with pytest.raises(AnimateDiffError, match=words) as refused:
        controlled(*units, clip=clip)
    assert refused.value.code.startswith(code)
    shared.swallowed.clear()  # the extension's own errors, which the WebUI prints
    assert "forward" not in vars(webui.checkpoint.model.diffusion_model)
    assert webui.picture() == wanted


def test_each_unit_for_each_image_of_a_batch_is_refused(webui, controlled, walk):
    webui.tabs["txt2img"].alwayson_scripts[1].ui_batch_option_state[0] = "Each unit for each image in a batch"
    with pytest.raises(AnimateDiffError, match="AD-H44"):
        controlled(unit(), clip=NAMED)


@pytest.mark.parametrize(
    ("units", "clip", "words"),
    [
        ([], NAMED, "control_images has no effect, since no ControlNet unit is enabled."),
        ([unit(image=IMAGE)], {**CLIP_OF_5, "control_images": "1: in/walk"}, "no effect on ControlNet unit 1"),
        ([unit(image=IMAGE)], {**CLIP_OF_5, "control_weight": "0.5; 1"}, "control_weight has no effect on"),
        ([], {**CLIP_OF_5, "control_fill": "loop"}, "control_fill has no effect, since no ControlNet unit is enabled."),
    ],
)
def test_settings_about_units_that_are_not_there(controlled, walk, units, clip, words):
    assert words in controlled(*units, clip=clip).comments


def test_infotext_and_recipe_name_the_sources(webui, controlled, walk):
    processed = controlled(unit(), clip={**CLIP_OF_5, "control_images": "0@0: in/walk/0.png, 0@4: in/walk/1.png"})
    fields = processed.extra_generation_params
    assert fields["Control images"] == "0: 0.png, 1.png"
    assert set(fields["Control images hashes"].split(", ")[0].partition(": ")[::2]) > {"0.png"}
    assert "control_images" in fields["AnimateDiff"]
    assert "Control images" not in controlled(unit(image=IMAGE), clip=CLIP_OF_5).extra_generation_params


def test_images_are_inverted_without_control(webui, controlled, walk):
    pinned = {**NAMED, "image": "in/walk/1.png"}
    controlled(unit(), clip=pinned)
    assert {len(x) for x, _ in shared.controlled} == {2 * FRAMES}  # none of those with the one image
    assert all(torch.allclose(values, torch.tensor(FIRST * 2)) for _, (values,) in shared.controlled)


def test_images_are_inverted_alike_in_a_second_run_of_the_same_request(webui, controlled, walk, monkeypatch):
    """The tab's batch and the X/Y/Z plot run one p again, whose conditions ControlNet has marked."""
    run = webui.double.process_images
    monkeypatch.setattr(webui.double, "process_images", lambda p: (run(p), run(p)))
    controlled(unit(), clip={**NAMED, "image": "in/walk/1.png"})
    assert torch.equal(*shared.painted)


@pytest.mark.parametrize(
    ("model", "windows"),
    every_once(["net", "adapter", "lite"], [{}, {**WINDOWS, "context_kind": "static"}]),
    ids=lambda value: value if isinstance(value, str) else "windows" if value else "whole",
)
def test_a_video_is_inverted_under_the_hints_of_its_frames(webui, controlled, walk, model, windows):
    """As it is sampled: also within the unit's own start and end, whatever was sampled before."""
    clip = {**CLIP_OF_5, **windows, "video": "in/walk", "denoise": 0.5, "video_inversion": 1}
    controlled(unit(model=model, module="none", guidance_start=0.1, guidance_end=0.5), clip=clip, n_iter=2)
    calls = [(x, values) for x, (values,) in shared.controlled if not any(has_rows(base, x) for base in shared.base)]
    steps = [9, *range(9, 0, -1)]  # 10 levels, from the least noisy one
    parts = len(calls) // (2 * len(steps))
    assert len(calls) == 2 * parts * len(steps)
    clean = [round((float(x.mean()) - SIDE / 100) * 1000) for x in torch.cat([x for x, _ in calls[:parts]])]
    frames = [list(range(FRAMES))] if not windows else [[0, 1, 2], [2, 3, 4]]
    assert clean == [level(frame) for part in frames for frame in part]
    for number, (_, values) in enumerate(calls):
        step, part = steps[number // parts % len(steps)], frames[number % parts]
        acts = 0.1 <= (step - 1) / 10 <= 0.5
        wanted = [(2 * hint(frame) - 1 if model == "lite" else hint(frame)) * acts for frame in part]
        torch.testing.assert_close(values, torch.tensor(wanted))


@pytest.mark.parametrize(("module", "prepared"), [("none", FRAMES), ("recolor_luminance", 2 * FRAMES)])
def test_what_changes_finished_images_has_an_image_for_each_row(controlled, walk, module, prepared):
    controlled(unit(module=module), clip=NAMED, batch_size=2)
    assert wrong_rows(hint) == 0
    assert shared.prepared == prepared
