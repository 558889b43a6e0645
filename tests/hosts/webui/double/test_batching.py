"""Whatever the WebUI batches together, a clip is what plainly laid out rows give: part by part, all frames in a row."""

from __future__ import annotations

import itertools

import pytest
import torch
from support.matrix import every_once, only_at
from support.motions import read_once
from support.webui_double import double
from support.webui_double.denoiser import CFG, CONTEXT, TOKENS, conditions, row_parts
from support.webui_double.double import CLIP, shared

from lib_animatediff import ContextWindows, inject, use_schedule

BOUND = 1e-5 * CFG  # guidance enlarges the UNet's rounding
FRAMES = 3
PARTS = ("a cat", "a dog", "a bird")
WINDOWS = {"frames": 5, "context_length": 3, "overlap": 1}


def plainly_laid(webui, prompts, clip, *, skip_uncond):
    """The oracle: a UNet call for each part of each clip, and one for uncond."""
    model, frames = webui.checkpoint, clip["frames"]
    unet, motion = model.model.diffusion_model, read_once(webui.models_folder / "mm.safetensors")
    length = clip.get("context_length", frames)
    windows = ContextWindows(length=length, overlap=1) if frames > length else None
    clips = []
    longest = max(prompts, key=len)
    for number, prompt in enumerate(prompts):
        seeds = list(range(1 + number * frames, 1 + (number + 1) * frames))
        x, t = double.noise(seeds), torch.full((frames,), 500)
        parts = row_parts(prompt)
        of_parts = conditions([*parts, longest])[: len(parts)]  # with as many tokens as the longest prompt has

        def predict(cond, x=x, t=t):
            return unet(x, t, context=cond[None].expand(frames, -1, -1))

        with (
            torch.no_grad(),
            inject(unet, motion, frames=frames, windows=windows) as injection,
            use_schedule(model, motion.schedule),
        ):
            injection.step = 0
            conds = [predict(cond) for cond in of_parts]
            base = conds[0] if skip_uncond else predict(torch.zeros(TOKENS, CONTEXT))
            scale = 1 if skip_uncond else CFG
            result = base + scale * sum(cond - base for cond in conds)
            clips.append(x - (1 - model.alphas_cumprod[500]).sqrt() * result)
    return torch.cat(clips)


def asked(parts, is_long):
    return " AND ".join([*PARTS[: parts - 1], PARTS[parts - 1] + (" long" if is_long else "")])


SWITCH = [False, True]


@pytest.mark.parametrize(
    ("parts", "batched", "is_long", "skip_uncond", "clip"),
    every_once(
        [1, 2, 3],
        SWITCH,
        SWITCH,
        SWITCH,
        [{**CLIP, "frames": FRAMES}, {**CLIP, **WINDOWS}],
        more=lambda places: places in ((0, 1, 0, 1, 1), (1, 0, 1, 0, 1), (1, 1, 0, 0, 0), (2, 0, 1, 1, 0)),
    ),
)
def test_a_clip_is_that_of_plainly_laid_out_rows(webui, parts, batched, is_long, skip_uncond, clip):
    shared.opts.batch_cond_uncond = batched
    shared.opts.skip_early_cond = float(skip_uncond)
    prompt = asked(parts, is_long)
    webui.paint(clip, prompt=prompt)
    frames = clip["frames"]
    assert all(rows % frames == 0 for rows in shared.calls)
    wanted = plainly_laid(webui, [prompt], clip, skip_uncond=skip_uncond)
    assert (shared.painted[-1] - wanted).abs().max() <= BOUND
    assert shared.opts.batch_cond_uncond is batched


@pytest.mark.parametrize(
    ("one", "other", "batched"),
    only_at([(*pair, way) for pair in itertools.permutations([1, 2, 3], 2) for way in (True, False)], 0, 5),
)
def test_clips_with_different_numbers_of_parts(webui, one, other, batched):
    shared.opts.batch_cond_uncond = batched
    clip = {**CLIP, "frames": FRAMES}
    prompts = [asked(one, False), asked(other, False)]
    webui.paint(clip, prompt=prompts, negative_prompt=["", ""], batch_size=2)
    wanted = plainly_laid(webui, prompts, clip, skip_uncond=False)
    assert (shared.painted[-1] - wanted).abs().max() <= BOUND


def test_it_is_said_that_all_rows_went_in_one_call(webui):
    shared.opts.batch_cond_uncond = False
    assert "AnimateDiff batching: all rows in one call" in webui.paint(CLIP, prompt=asked(2, False)).infotexts[0]
    assert "AnimateDiff batching" not in webui.paint(CLIP, prompt=asked(1, False)).infotexts[0]


@pytest.mark.parametrize(
    ("clip", "pads"),
    [(CLIP, True), ({"enable": False}, False)],
    ids=["where the user asked for it", "of a picture that another script paints inside"],
)
def test_padding_is_left_to_the_webui(webui, clip, pads):
    shared.opts.pad_cond_uncond = pads
    lengths = []
    shared.cfg_denoiser_callbacks.append(lambda params: lengths.append(params.text_uncond.shape[1]))
    webui.paint(clip, prompt=asked(3, True), batch_size=2)
    assert lengths == [TOKENS]


def test_a_call_that_another_extension_cut_in_its_own_way_is_refused(webui):
    model = webui.module("compat.host_models").HostModel(None)
    order = webui.module("clip.batching").row_order(model, [2, 2, 2], 3)
    assert order(9) == [0, 2, 4, 1, 3, 5, 6, 7, 8]
    assert order(6) == [0, 2, 4, 1, 3, 5]
    assert order(3) is None
    with pytest.raises(Exception, match="another extension batches them"):
        order(4)
