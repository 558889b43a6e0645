"""One motion LoRA in every format that is about: the same weights and the same clip; and what is said about a match."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from support import hosts, motion_lora_files
from support.injected import injected
from support.matrix import in_matrix
from support.motion_files import PICKLES, as_hotshot, random_motion_state, write_motion_file
from support.motion_lora_files import RANK, SPELLINGS, alphas, changed_weight, kohya, lora_state, official, random_lora
from support.motions import random_motion

from motion_module import (
    IncompatibleModelError,
    MotionFileError,
    apply_motion_lora,
    apply_motion_loras,
    inspect_motion_file,
    load_motion_lora,
    load_motion_module,
    match_report,
)

FRAMES = 2
GIVEN = hosts.inputs(FRAMES)
STRENGTH = 0.7
SITE = "down_blocks.0.motion_modules.0"
SPATIAL = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora"
ELSEWHERE = lora_state({("down_blocks.7.motion_modules.0", 0, "q"): (torch.ones(2, 32), torch.ones(32, 2))})
KOHYA = kohya(SITE, 0, "q")[0].partition(".")[0]
CONTAINERS = {"safetensors": save_file, **PICKLES}


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    return load_motion_module(write_motion_file(tmp_path_factory.mktemp("motion")))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lora.file"


@pytest.fixture
def loaded(path):
    """What is read of a file with a state: a function."""

    def loaded(state):
        save_file(state, path)
        return load_motion_lora(path)

    return loaded


def clip(unet, motion):
    return injected(unet, GIVEN, motion, frames=FRAMES)


def by_hand(motion, changes, strength=STRENGTH):
    """The weights as the paper's formula gives them."""
    weights = {name: weight.clone() for name, weight in motion.state_dict().items()}
    for place, (down, up) in changes.items():
        if changed_weight(place) in weights:
            weights[changed_weight(place)] += strength * up @ down
    return weights


def largest_difference(found, expected):
    assert found.keys() == expected.keys()
    return max(float((found[name] - expected[name]).abs().max()) for name in found)


def equal(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def forms():
    """What a file may hold, by its name."""
    changes = random_lora()
    for spelling in SPELLINGS:
        yield spelling.__name__, lora_state(changes, spelling)
    doubled = {place: (2 * down, up) for place, (down, up) in changes.items()}
    for spelling in (official, motion_lora_files.converted, kohya, motion_lora_files.peft):
        state = lora_state(changes, spelling) | alphas(changes, spelling, RANK)
        yield f"{spelling.__name__} with alpha", state
        halved = lora_state(doubled, spelling) | alphas(doubled, spelling, RANK / 2)
        yield f"{spelling.__name__} with half an alpha", halved
    convolutions = {name: t[..., None, None].clone() for name, t in lora_state(changes, kohya).items()}
    yield "convolutions", convolutions | alphas(changes, kohya, RANK)
    spatial = {f"{SPATIAL}.{part}.weight": torch.ones(2, 2) for part in ("down", "up")}
    yield "MotionDirector", lora_state(changes) | spatial


FORMS = dict(forms())


FILES = [(form, "safetensors") for form in FORMS] + [
    (form, pickle) if form == "official" else in_matrix(form, pickle)
    for form in ("official", "kohya", "peft with alpha", "MotionDirector")
    for pickle in PICKLES
]


@pytest.mark.parametrize(("form", "container"), FILES)
def test_every_format_gives_the_same_weights(path, motion, form, container):
    CONTAINERS[container](FORMS[form], path)
    info = inspect_motion_file(path)
    assert info.what == "a motion LoRA"
    assert "add this file to it as a motion LoRA" in info.problem
    merged = apply_motion_lora(motion, load_motion_lora(path), STRENGTH)
    assert largest_difference(merged.state_dict(), by_hand(motion, random_lora())) < 1e-6


@pytest.mark.parametrize("save", PICKLES.values(), ids=PICKLES)
def test_an_official_file_is_nested_and_brings_its_config(path, motion, save):
    save({"state_dict": FORMS["distributed"], "animatediff_config": {"unet": [1, "a"]}, "epoch": 3}, path)
    merged = apply_motion_lora(motion, load_motion_lora(path), STRENGTH)
    assert largest_difference(merged.state_dict(), by_hand(motion, random_lora())) < 1e-6


@pytest.mark.parametrize(
    "layer", ["transformer_blocks.0.ff.net.0.proj", "transformer_blocks.0.ff.net.2", "proj_in", "proj_out"]
)
def test_layers_beside_attention_are_changed_too(loaded, motion, layer):
    name = f"{SITE}.temporal_transformer.{layer}.weight"
    high, wide = motion.state_dict()[name].shape
    down, up = torch.randn(RANK, wide), torch.randn(high, RANK)
    flat = f"lora_unet_{SITE}.temporal_transformer.{layer}".replace(".", "_")
    for state in (
        {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up},
        {f"unet.{SITE}.{layer}.lora_A.weight": down, f"unet.{SITE}.{layer}.lora_B.weight": up},
    ):
        merged, before = apply_motion_lora(motion, loaded(state)).state_dict(), motion.state_dict()
        torch.testing.assert_close(merged.pop(name), before.pop(name) + up @ down)
        assert equal(merged, before)


def test_hotshots_names_are_read(loaded):
    state = as_hotshot(lora_state(random_lora("hotshot", (32, 64, 128))))
    assert match_report(random_motion("hotshot")[0], loaded(state)).matched == 120


def test_strength_zero_is_the_plain_clip_bit_for_bit(loaded, ldm_unet, motion):
    lora = loaded(FORMS["official"])
    for merged in (apply_motion_lora(motion, lora, 0), apply_motion_loras(motion, [(lora, 0), (lora, 0.0)])):
        assert equal(merged.state_dict(), motion.state_dict())
        assert torch.equal(clip(ldm_unet, merged), clip(ldm_unet, motion))
    assert (clip(ldm_unet, apply_motion_lora(motion, lora, STRENGTH)) - clip(ldm_unet, motion)).abs().max() > 1e-2


def test_several_with_their_strengths_add_up(loaded, motion):
    before = {name: weight.clone() for name, weight in motion.state_dict().items()}
    loras = [(loaded(lora_state(random_lora(seed=seed))), strength) for seed, strength in ((1, 0.5), (2, -1.0))]
    expected = by_hand(motion, random_lora(seed=1), 0.5)
    for place, (down, up) in random_lora(seed=2).items():
        expected[changed_weight(place)] -= up @ down
    merged = apply_motion_loras(motion, loras)
    assert largest_difference(merged.state_dict(), expected) < 1e-6
    assert merged.name == f"{motion.name} with lora.file, lora.file"
    assert equal(motion.state_dict(), before)


def test_in_half_precision_opposites_leave_no_trace(loaded, motion):
    """Changes are summed before they are rounded, so that their order does not matter either."""
    half = apply_motion_loras(motion, []).half()
    assert half is not motion
    assert half.name == motion.name
    merged = apply_motion_loras(half, [(loaded(FORMS["official"]), strength) for strength in (1.0, -1.0)])
    assert {weight.dtype for weight in merged.parameters()} == {torch.float16}
    assert equal(merged.state_dict(), half.state_dict())


def test_a_v2_lora_on_v3_is_told(loaded, motion, caplog):
    lora = loaded(lora_state(random_lora("v2")))
    report = match_report(motion, lora)
    assert (report.matched, report.total, report.missing_mid, report.spatial_ignored) == (160, 168, 8, 0)
    assert str(report) == (
        "lora.file: 160 of its 168 weights match mm_small_v3.safetensors; 8 belong to the middle block, which this "
        "motion module (v3) lacks: the LoRA was made for v2 and may have little effect."
    )
    with caplog.at_level("INFO"):
        apply_motion_loras(motion, [(lora, 1), (lora, 0)])
    assert caplog.text.count(str(report)) == 2


@pytest.mark.parametrize(("lora_kind", "matched"), [("v2", 168), ("v3", 160)])
def test_on_a_module_with_a_middle_block_nothing_is_missing(loaded, lora_kind, matched):
    report = match_report(random_motion("v2")[0], loaded(lora_state(random_lora(lora_kind))))
    assert str(report) == f"lora.file: {matched} of its {matched} weights match v2.safetensors."


def test_what_else_a_file_holds_is_told(loaded, motion):
    report = match_report(motion, loaded(FORMS["MotionDirector"] | ELSEWHERE))
    assert (report.matched, report.total, report.missing_mid, report.spatial_ignored) == (160, 161, 0, 1)
    assert str(report).endswith(
        "; 1 without a counterpart: the LoRA was made for another motion module; checkpoint layers ignored: 1."
    )


def test_what_matches_nothing_is_refused_whatever_its_strength(loaded, motion):
    for strength in (0, 1):
        with pytest.raises(IncompatibleModelError, match=r"None of the 1 weights in lora\.file exists in"):
            apply_motion_loras(motion, [(loaded(ELSEWHERE), strength)])


def test_other_widths_are_refused(loaded, motion):
    lora = loaded(lora_state(random_lora(widths=(32, 64, 64, 64))))
    with pytest.raises(IncompatibleModelError, match="of another size"):
        match_report(motion, lora)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"something": torch.ones(1)}, "not a motion LoRA"),
        (random_motion_state("v3", (32,) * 4), "not a motion LoRA"),
        ({official(SITE, 0, "q")[0]: torch.ones(2, 32)}, "incomplete LoRA"),
        ({kohya(SITE, 0, "q")[0]: torch.ones(2, 32), official(SITE, 0, "q")[0]: torch.ones(2, 32)}, "two LoRAs"),
        ({f"{SPATIAL}.down.weight": torch.ones(2, 2)}, "an image LoRA, not a motion LoRA. Use it like any image LoRA"),
        ({"lora_unet_up_blocks_0_ff.lora_up.weight": torch.ones(2, 2), "x.lora_A.weight": torch.ones(2, 2)}, "image"),
        ({f"{KOHYA}.hada_w1_a": torch.ones(2, 2)}, r"unsupported method \(hada_w1_a:"),
        (FORMS["kohya"] | {f"{KOHYA}.dora_scale": torch.ones(2)}, "dora_scale"),
    ],
)
def test_other_files_are_refused(loaded, state, message):
    with pytest.raises(MotionFileError, match=message):
        loaded(state)


@pytest.mark.parametrize("piece", ["down_blocks.0.", "lora_A.", "1", "_", "motion_modules.0.", ".hada_"])
def test_names_of_any_length_are_searched_in_no_time(loaded, piece):
    with pytest.raises(MotionFileError):
        loaded({f"{piece * (200_000 // len(piece))}x": torch.ones(1)})
