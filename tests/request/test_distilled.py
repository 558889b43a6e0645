"""Distilled files: known by their names, and each wrong pair of file, sampler, steps and CFG scale is named."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from lib_animatediff.hosts.diffusers.pipeline import SAMPLERS, check_sampler
from lib_animatediff.hosts.diffusers.speed import in_words
from lib_animatediff.request.distilled import (
    DISTILLATIONS,
    LEADING,
    LINSPACE,
    TRAILING,
    DistilledFile,
    HostWords,
    SamplerSettings,
    combined,
    described,
    distillation_of,
    distilled_files,
    misfits,
    sampling_for,
    undistilled,
)
from motion_module.kinds import LCM

PAGE = Path(__file__).parents[2] / "docs" / "features.md"
ROWS = {row.name: row for row in DISTILLATIONS}

MODULES = {
    "AnimateLCM_sd15_t2v.ckpt": "AnimateLCM",
    "pocket-fast-motion.safetensors": "the built-in pocket model",
    "animatelcm-fp16.safetensors": "AnimateLCM",
    "AnimateLCM_sd15_i2v.ckpt": "AnimateLCM-I2V",
    "animatediff_lightning_1step_diffusers.safetensors": "AnimateDiff-Lightning, 1 step",
    "animatediff_lightning_2step_comfyui.safetensors": "AnimateDiff-Lightning, 2 steps",
    "animatediff_lightning_4step_comfyui.safetensors": "AnimateDiff-Lightning, 4 steps",
    "AnimateDiff-Lightning-8steps.ckpt": "AnimateDiff-Lightning, 8 steps",
    "4step_lightning.safetensors": "AnimateDiff-Lightning, 4 steps",
    "mm_sd_v15_v2.ckpt": None,
    "v3_sd15_mm.ckpt": None,
    "temporaldiff-v1-animatediff.ckpt": None,
    "hsxl_temporal_layers.f16.safetensors": None,
    "animatediff_lightning_16step.safetensors": None,
}
LORAS = {
    "AnimateLCM_sd15_t2v_lora.safetensors": "AnimateLCM LoRA",
    "sd15_t2v_beta_lora": "AnimateLCM LoRA",
    "AnimateLCM_sd15_i2v_lora.safetensors": "AnimateLCM LoRA",
    "lcm-lora-sdv1-5": "LCM LoRA",
    "LCM_LoRA_Weights_SD15.safetensors": "LCM LoRA",
    "Hyper-SD15-1step-lora": "Hyper-SD LoRA, 1 step (any number of steps)",
    "Hyper-SD15-2steps-lora": "Hyper-SD LoRA, 2 steps",
    "Hyper-SD15-4steps-lora.safetensors": "Hyper-SD LoRA, 4 steps",
    "Hyper-SDXL-8steps-lora": "Hyper-SD LoRA, 8 steps",
    "Hyper-SD15-8steps-CFG-lora": "Hyper-SD CFG LoRA, 8 steps",
    "Hyper-SD15-12steps-CFG-lora": "Hyper-SD CFG LoRA, 12 steps",
    "dmd2_sdxl_4step_lora_fp16": "DMD2 LoRA",
    "TCD-SD15-LoRA": "TCD LoRA",
    "sdxl_lightning_2step_lora": "SDXL-Lightning LoRA, 2 steps",
    "sdxl_lightning_4step_lora": "SDXL-Lightning LoRA, 4 steps",
    "sdxl_lightning_8step_lora": "SDXL-Lightning LoRA, 8 steps",
    "add_detail": None,
    "lightning_bolts": None,
    "hyperrealism": None,
    "v2_lora_PanLeft": None,
    "falcmoon": None,
}


@pytest.mark.parametrize(
    ("file", "name", "is_module"),
    [*((file, name, True) for file, name in MODULES.items()), *((file, name, False) for file, name in LORAS.items())],
)
def test_a_file_is_known_by_its_name(file, name, is_module):
    found = distillation_of(file, is_module=is_module)
    assert (found and found.name) == name


def test_every_row_has_a_file_that_it_alone_is_known_by():
    assert {*MODULES.values(), *LORAS.values()} - {None} == ROWS.keys()


def test_an_animatelcm_file_is_known_by_its_kind_under_any_name():
    assert distillation_of("my_motion.safetensors", is_module=True, kind="lcm") is ROWS["AnimateLCM"]
    assert distillation_of("my_motion.safetensors", is_module=True, kind="v2") is None
    assert distillation_of("my_lora.safetensors", is_module=False, kind="lcm") is None


def test_the_kind_and_the_row_of_animatelcm_say_the_same():
    (fewest, most), (lowest, highest) = ROWS["AnimateLCM"].steps, ROWS["AnimateLCM"].cfg
    assert f"{fewest} to {most} steps and a CFG scale of {lowest:g} to {highest:g}" in LCM.sampler


@pytest.mark.parametrize("row", DISTILLATIONS, ids=lambda row: row.name)
def test_each_row_is_one_that_can_be_sampled(row):
    for sampler, spacing in row.pairs:
        assert spacing in SAMPLERS[sampler].spacings
        check_sampler(sampler, spacing, row.steps[1])
    assert row.steps[0] <= row.best_steps <= row.steps[1]
    assert row.cfg[0] <= row.best_cfg <= row.cfg[1]


# --------------------------------------------------------------------------------------------------------------------
# the matrix: every file with every sampler and spacing, and steps and CFG scales inside and outside its range

FILES = [
    *((file, ROWS[name], True) for file, name in MODULES.items() if name),
    *((file, ROWS[name], False) for file, name in LORAS.items() if name),
]
PAIRS = [(name, spacing) for name, sampler in SAMPLERS.items() for spacing in sampler.spacings]


def ranges(row):
    """Steps and CFG scales, each with what the sentence says if it does not fit; None: it fits."""
    fewest, most = row.steps
    steps = {count: None if fewest <= count <= most else count for count in (1, 2, 4, 8, 25)}
    cfgs = {cfg: None if row.cfg[0] <= cfg <= row.cfg[1] else cfg for cfg in (1.0, 1.5, 2.0, 6.0, 7.5)}
    return steps, cfgs


def words(pair):
    return HostWords(in_words, in_words(pair), "Do so.")


@pytest.mark.parametrize(("file", "row", "is_module"), FILES, ids=lambda value: value if isinstance(value, str) else "")
def test_each_wrong_pair_is_named_and_right_ones_are_silent(file, row, is_module):
    files = distilled_files([(file, None)], []) if is_module else distilled_files([("v3.ckpt", "v3")], [(file, 0.8)])
    steps, cfgs = ranges(row)
    silent = 0
    for pair in PAIRS:
        for count, wrong_count in steps.items():
            for cfg, wrong_cfg in cfgs.items():
                notes = misfits(files, SamplerSettings(*pair, count, cfg), words(pair))
                wrong_pair = None if pair in row.pairs else pair
                if wrong_pair is None and wrong_count is None and wrong_cfg is None:
                    assert notes == ()
                    silent += 1
                    continue
                (note,) = map(str, notes)
                assert note.startswith(f"{file} was distilled for ")
                begins, semicolon, asked = note.removeprefix(f"{file} was ").partition("; you ask for ")
                assert semicolon
                assert asked.endswith(". Do so.")
                assert (in_words(row.pairs[0]) in begins) == (wrong_pair is not None)
                assert (in_words(pair) in asked) == (wrong_pair is not None)
                assert (" step" in begins) == (" step" in asked) == (wrong_count is not None)
                assert ("CFG" in begins) == ("CFG" in asked) == (wrong_cfg is not None)
                if wrong_count is not None:
                    assert re.search(rf"\b{count} steps?\b", asked)
                if wrong_cfg is not None:
                    assert re.search(rf"\bCFG {cfg:g}(?![\d.]\d)", asked)
    assert silent or not {1, 2, 4, 8, 25}.intersection(range(row.steps[0], row.steps[1] + 1))


LIGHTNING = "animatediff_lightning_4step.safetensors"
SENTENCES = [
    (
        LIGHTNING,
        ("ddim", LEADING, 25, 7.0),
        f"{LIGHTNING} was distilled for euler with trailing timesteps, 4 steps and CFG 1 to 2; you ask for ddim with "
        "leading timesteps, 25 steps and CFG 7.",
    ),
    (LIGHTNING, ("euler", TRAILING, 25, 1.0), f"{LIGHTNING} was distilled for 4 steps; you ask for 25 steps."),
    (LIGHTNING, ("euler", TRAILING, 1, 1.0), f"{LIGHTNING} was distilled for 4 steps; you ask for 1 step."),
    (
        LIGHTNING,
        ("euler", LEADING, 4, 1.0),
        f"{LIGHTNING} was distilled for euler with trailing timesteps; you ask for euler with leading timesteps.",
    ),
    (LIGHTNING, ("euler", TRAILING, 4, 1.0), None),
    (LIGHTNING, ("euler", TRAILING, 4, 0.0), None),  # as 1
    (
        "AnimateLCM.ckpt",
        ("lcm", None, 25, 7.5),
        "AnimateLCM.ckpt was distilled for 4 to 8 steps and CFG 1 to 2; you ask for 25 steps and CFG 7.5.",
    ),
    ("AnimateLCM.ckpt", ("lcm", None, 6, 1.5), None),
]


@pytest.mark.parametrize(("file", "asked", "sentence"), SENTENCES)
def test_the_sentence(file, asked, sentence):
    how = SamplerSettings(*asked)
    given = HostWords(in_words, in_words((asked[0], asked[1])))
    assert [*map(str, misfits(distilled_files([(file, None)], []), how, given))] == ([sentence] if sentence else [])


@pytest.mark.parametrize(
    ("asked", "checkpoint", "is_noted"),
    [
        (("lcm", None), "realisticVision.safetensors", True),
        (("tcd", TRAILING), "realisticVision.safetensors", True),
        (("lcm", None), "realisticVision_hyper.safetensors", False),
        (("lcm", None), "LCM_Dreamshaper_v7.safetensors", False),
        (("ddim", LEADING), "realisticVision.safetensors", False),
        (("euler", LINSPACE), "realisticVision.safetensors", False),
    ],
)
def test_a_sampler_for_distilled_files_without_one_is_named(asked, checkpoint, is_noted):
    notes = undistilled(["v3_sd15_mm.ckpt"], checkpoint, SamplerSettings(*asked, 8, 1.0), words(asked))
    assert [note.setting for note in notes] == ["sampler"] * is_noted
    assert all(f"{asked[0]} " in note.text and "v3_sd15_mm.ckpt is not known to be" in note.text for note in notes)


# --------------------------------------------------------------------------------------------------------------------
# several files


def test_a_lora_of_strength_0_is_no_distilled_file():
    assert distilled_files([], [("lcm-lora-sdv1-5", 0.0)]) == ()
    assert combined(()) is None


def test_files_that_go_together_have_what_fits_both():
    files = distilled_files([("AnimateLCM.ckpt", "lcm")], [("dmd2_lora", 1.0)])
    needed = combined(files)
    assert (needed.steps, needed.best_steps, needed.cfg) == ((4, 4), 4, (1.0, 1.0))
    assert needed.pairs == (("lcm", None), ("lcm", TRAILING))
    assert misfits(files, SamplerSettings("lcm", None, 4, 1.0), words(("lcm", None))) == ()
    (note,) = misfits(files, SamplerSettings("lcm", None, 8, 1.0), words(("lcm", None)))
    assert str(note).startswith("AnimateLCM.ckpt was distilled for 4 steps; you ask for 8 steps.")


@pytest.mark.parametrize("lora", ["lcm-lora-sdv1-5", "Hyper-SD15-8steps-lora", "Hyper-SD15-8steps-CFG-lora"])
def test_files_that_do_not_go_together_are_named(lora):
    """Other samplers; other steps; another CFG scale."""
    files = distilled_files([(LIGHTNING, "v2")], [(lora, 1.0)])
    fits = ("euler", TRAILING)
    (note,) = misfits(files, SamplerSettings(*fits, 4, 1.0), words(fits))
    assert str(note).startswith(f"{lora} was distilled for ")
    assert f"but {LIGHTNING} for euler with trailing timesteps, 4 steps and CFG 1 to 2." in note.text
    assert len(misfits(files, SamplerSettings(*fits, 25, 1.0), words(fits))) == 2


# --------------------------------------------------------------------------------------------------------------------
# the choice


def test_what_is_chosen_fits():
    for row in DISTILLATIONS:
        chosen = sampling_for(row, SamplerSettings())
        pair = (chosen.sampler, chosen.spacing)
        assert pair == row.pairs[0]
        assert misfits((DistilledFile("a", row),), chosen, words(pair)) == ()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("euler", TRAILING, 4, 1.0)),
        ({"steps": 7}, ("euler", TRAILING, 7, 1.0)),
        ({"cfg": 0.0}, ("euler", TRAILING, 4, 0.0)),
        ({"sampler": "ddim"}, ("ddim", TRAILING, 4, 1.0)),
        ({"sampler": "lcm"}, ("lcm", None, 4, 1.0)),
        ({"spacing": TRAILING}, ("euler", TRAILING, 4, 1.0)),
        ({"spacing": LEADING}, (None, LEADING, 4, 1.0)),
        ({"sampler": "euler", "spacing": LEADING}, ("euler", LEADING, 4, 1.0)),
    ],
)
def test_what_the_user_has_given_stays(given, expected):
    row = ROWS["AnimateDiff-Lightning, 4 steps"]
    assert sampling_for(row, SamplerSettings(**given)) == SamplerSettings(*expected)


def test_a_narrower_name_comes_before_a_wider_one():
    """The first row that describes a file counts, so that no row is hidden by an earlier one."""
    for file, row, is_module in FILES:
        describing = [each for each in DISTILLATIONS if each.describes(file, is_module=is_module)]
        assert describing[0] is row
        assert all(one is not other for one, other in pairwise(describing))


def test_the_page_states_the_table():
    text = PAGE.read_text(encoding="utf-8")
    for row in DISTILLATIONS:
        best = f"{row.best_steps}, {row.best_cfg:g}"
        assert f"| {row.name} | {described(row, in_words)} | {best} | {row.source} |" in text
