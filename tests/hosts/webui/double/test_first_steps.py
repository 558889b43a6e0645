"""The panel without a motion module: the way to one, the built-in one, and the list, which finds new files."""

from __future__ import annotations

import dataclasses
import json
import os
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from support.motion_files import write_motion_file
from support.webui_double import components, double
from support.webui_double.double import shared

from lib_animatediff.builtin_model import POCKET

WITHOUT_FILE = "Text2Video-Zero [no file, any checkpoint]"
MODULE = "mm_small_v3.safetensors [v3, SD 1.5]"
BUILT_IN = f"{POCKET.motion} [v2, SD 1.5: not for this checkpoint]"


@pytest.fixture
def bare(webui):
    (webui.models_folder / "mm.safetensors").unlink()
    return webui


def opened(webui) -> SimpleNamespace:
    """A new panel: its parts by name, with what an event has changed."""
    components.Component.created.clear()
    fields = webui.module("ui.panel").build_panel("txt2img")
    created = components.Component.created
    found = {c.elem_id.removeprefix("animatediff_txt2img_"): c for c in created if getattr(c, "elem_id", None)}
    block = found["first_steps"]
    guide = created[created.index(block) + 1]
    return SimpleNamespace(
        accordion=fields[0], model=fields[1], block=block, guide=guide, refresh=found["refresh"],
        page_loaded=found["page_loaded"], try_it=found["try_builtin"], problem=found["try_problem"],
        started=found["started"], first=found["first"],
    )  # fmt: skip


def happens(component, *, changes=None) -> None:
    """All listeners of a component in their order, with what they change."""
    for fn, given in component.listeners:
        if fn is None or (changes is not None and changes not in given["outputs"]):
            continue
        outputs = given["outputs"]
        answer = fn(*(source.value for source in given["inputs"]))
        for output, change in zip(outputs, answer if len(outputs) > 1 else [answer], strict=True):
            if isinstance(change, dict):
                vars(output).update({name: value for name, value in change.items() if name != "__type__"})
            else:
                output.value = change
        first = outputs[-1]
        if first.elem_id == "animatediff_txt2img_first" and first.value:  # `animatediffFirstModule` in the browser
            model, asked = given["inputs"][-1], json.loads(first.value)
            model.value = asked["now"] if model.value == asked["shown"] else model.value


def test_without_a_module_the_panel_says_what_one_is_where_to_get_one_and_where_to_put_it(bare):
    panel = opened(bare)
    assert panel.block.visible
    assert "makes the images of your checkpoint move" in panel.guide.value
    for name, base in (("v3_sd15_mm", "1.5"), ("mm_sd_v15_v2", "1.5"), ("mm_sdxl_v10_beta", "SDXL")):
        link = f"href='https://huggingface.co/guoyww/animatediff/resolve/main/{name}.ckpt'"
        (line,) = (line for line in panel.guide.value.split("<li>") if link in line)
        assert f"{base}, " in line
        assert " GB." in line
    assert f"<code>{bare.models_folder}</code>" in panel.guide.value
    assert f"data-copy='{bare.models_folder}'" in panel.guide.value
    assert "Or choose Text2Video-Zero at the end of the list, which needs no file." in panel.guide.value
    assert (panel.model.choices, panel.model.value) == ([], "")  # gradio 4 would take the first one
    happens(panel.page_loaded)
    assert (panel.model.choices, panel.model.value) == ([WITHOUT_FILE], "")


def test_the_folder_to_open_is_there(bare):
    bare.models_folder.rmdir()
    opened(bare)
    assert bare.models_folder.is_dir()


def test_with_a_module_there_is_no_block(webui):
    panel = opened(webui)
    assert not panel.block.visible
    assert panel.guide.value == ""


@pytest.mark.parametrize("event", ["refresh", "page_loaded", "accordion"])
def test_a_new_file_is_found_and_chosen_and_the_block_goes_and_comes_back(bare, event):
    panel = opened(bare)
    panel.accordion.value = True
    path = write_motion_file(bare.models_folder)
    happens(getattr(panel, event))
    assert (panel.model.choices, panel.model.value) == ([MODULE, WITHOUT_FILE], MODULE)
    assert (panel.block.visible, panel.guide.value) == (False, "")
    path.unlink()
    happens(getattr(panel, event))
    assert (panel.model.choices, panel.model.value) == ([WITHOUT_FILE], "")
    assert panel.block.visible
    assert "Download one" in panel.guide.value


def test_the_advice_follows_the_refreshed_list(bare):
    panel = opened(bare)
    panel.accordion.value, panel.model.value = True, "gone.ckpt [v3, SD 1.5]"
    write_motion_file(bare.models_folder, "lcm")
    happens(panel.refresh)
    (line,) = (c for c in components.Component.created if c.elem_id == "animatediff_txt2img_advice")
    assert "LCM" in line.value


def test_closing_the_accordion_reads_nothing(bare):
    panel = opened(bare)
    happens(panel.page_loaded)
    write_motion_file(bare.models_folder)
    happens(panel.accordion, changes=panel.model)
    assert panel.model.choices == [WITHOUT_FILE]


def test_a_choice_stays_and_only_its_badge_follows_the_checkpoint(webui, checkpoint, monkeypatch):
    write_motion_file(webui.models_folder)
    panel = opened(webui)
    panel.model.value = MODULE
    monkeypatch.setattr(checkpoint, "is_sdxl", True)
    happens(panel.refresh)
    assert panel.model.value == "mm_small_v3.safetensors [v3, SD 1.5: not for this checkpoint]"
    assert panel.model.value in panel.model.choices


def test_on_a_new_page_a_module_that_was_listed_before_the_checkpoint_was_loaded_gives_way(webui, checkpoint):
    write_motion_file(webui.models_folder, "sdxl", name="a.safetensors")
    double.shared.sd_model = None
    panel = opened(webui)
    assert panel.model.value == "a.safetensors [sdxl, SDXL]"
    double.shared.sd_model = checkpoint
    happens(panel.page_loaded)
    assert panel.model.value == "mm.safetensors [v3, SD 1.5]"


@pytest.mark.parametrize("event", ["refresh", "page_loaded", "accordion"])
def test_the_answer_does_not_replace_what_is_chosen_or_pasted_before_it_arrives(webui, event):
    write_motion_file(webui.models_folder)
    panel = opened(webui)
    listings = [
        (ask, given) for ask, given in getattr(panel, event).listeners if ask and given["outputs"][-1] is panel.first
    ]
    ((ask, given),) = listings
    assert given["outputs"][2] is panel.model
    known = {panel.accordion: True, panel.model: "gone.ckpt [v3, SD 1.5]"}
    _, _, model, first = ask(*(known[source] for source in given["inputs"]))
    assert "value" not in model
    assert json.loads(first) == {"shown": "gone.ckpt [v3, SD 1.5]", "now": "mm.safetensors [v3, SD 1.5]"}


def test_other_kinds_of_files_are_never_chosen(bare):
    (bare.models_folder / "page.ckpt").write_text("<!DOCTYPE html>")
    panel = opened(bare)
    happens(panel.page_loaded)
    assert (panel.model.choices, panel.model.value) == (["page.ckpt [a web page]", WITHOUT_FILE], "")
    assert panel.block.visible
    assert "AnimateDiff needs a motion module" in panel.guide.value


def test_if_no_module_fits_the_block_says_so_and_marks_what_would(bare, checkpoint, monkeypatch):
    write_motion_file(bare.models_folder)
    monkeypatch.setattr(checkpoint, "is_sdxl", True)
    monkeypatch.setattr(bare.module("catalog.checkpoint"), "find_sites", lambda _unet: None)  # of no known layout
    panel = opened(bare)
    assert panel.block.visible
    assert "None of your motion modules fits the loaded checkpoint (SDXL)." in panel.guide.value
    fitting = [line for line in panel.guide.value.split("<li>") if "Fits the loaded checkpoint" in line]
    assert ["mm_sdxl_v10_beta" in line for line in fitting] == [True]
    monkeypatch.setattr(checkpoint, "is_sd2", True)
    assert "There are no motion modules for Stable Diffusion 2." in opened(bare).guide.value


def unet_state(*widths: int, **more: str) -> dict[str, torch.Tensor]:
    """The names and shapes by which the file of a checkpoint is known: two ResBlocks at each resolution."""
    state, number = {f"{name}.weight": torch.zeros(2) for name in more.values()}, 1
    for level, width in enumerate(widths):
        for _ in range(2):
            state[f"model.diffusion_model.input_blocks.{number}.0.out_layers.3.weight"] = torch.zeros(width, 1, 3, 3)
            number += 1
        if level < len(widths) - 1:
            state[f"model.diffusion_model.input_blocks.{number}.0.op.weight"] = torch.zeros(width, 1, 3, 3)
            number += 1
    return state


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (unet_state(320, 640, 1280, 1280), ("Stable Diffusion 1.5", "sd15", (320, 640, 1280, 1280))),
        (unet_state(8, 16, label="model.diffusion_model.label_emb.0.0"), ("SDXL", "sdxl", (8, 16))),
        (unet_state(8, 16, text="cond_stage_model.model.ln_final"), ("Stable Diffusion 2", None, ())),
        ({"double_blocks.0.weight": torch.zeros(2)}, None),
        (None, None),
    ],
    ids=["SD 1.5", "SDXL", "SD 2", "Flux", "damaged"],
)
def test_a_checkpoint_that_is_chosen_but_not_loaded_yet_is_known_by_its_file(webui, state, wanted):
    """Forge loads it for the next image only, and the panel would speak of the one before."""
    folder = webui.models_folder.parent / "Stable-diffusion"
    folder.mkdir(exist_ok=True)
    path = folder / "next.safetensors"
    path.write_bytes(b"damaged") if state is None else save_file(state, path)
    webui.module("sd_models").list_models()
    checkpoints = webui.module("catalog.checkpoint")
    assert checkpoints.chosen_checkpoint() == checkpoints._loaded()
    shared.opts.sd_model_checkpoint = "next.safetensors"
    found = checkpoints.chosen_checkpoint()
    assert (found and (found.name, found.base, found.widths)) == wanted


def test_no_download_is_said_to_fit_a_checkpoint_of_another_size(bare):
    assert "Fits the loaded" not in opened(bare).guide.value


def test_with_text2video_zero_the_block_goes(bare):
    panel = opened(bare)
    panel.model.value = WITHOUT_FILE
    happens(panel.model, changes=panel.block)
    assert not panel.block.visible
    happens(panel.refresh)
    assert (panel.block.visible, panel.model.value) == (False, WITHOUT_FILE)


# ---- the built-in model


def test_the_built_in_model_is_copied_listed_and_selected(bare):
    panel = opened(bare)
    happens(panel.try_it)
    models = bare.models_folder.parent
    for folder, name in (("Stable-diffusion", POCKET.checkpoint), ("animatediff", POCKET.motion)):
        assert (models / folder / name).read_bytes() == (POCKET.folder / name).read_bytes()
    assert {path.name for path in (models / "Lora").iterdir()} == {POCKET.style_lora, *POCKET.motion_loras}
    assert panel.model.value == BUILT_IN  # until the browser has loaded the checkpoint
    assert BUILT_IN in panel.model.choices
    assert not panel.block.visible
    started = json.loads(panel.started.value)
    assert started["checkpoint"] == f"{POCKET.checkpoint} [0123456789]"
    assert started["prompt"] == "a red disc moving right"
    assert started["numbers"] == {"width": 64, "height": 64, "cfg_scale": 3.0}


def test_a_file_of_the_users_is_not_replaced(bare):
    panel = opened(bare)
    theirs = bare.models_folder.parent / "Stable-diffusion" / POCKET.checkpoint
    theirs.parent.mkdir()
    theirs.write_text("mine")
    happens(panel.try_it)
    assert theirs.read_text() == "mine"
    assert [path.name for path in theirs.parent.iterdir()] == [POCKET.checkpoint]
    assert f"contains another file named {POCKET.checkpoint}, which is not replaced." in panel.problem.value
    assert (panel.started.value, panel.model.value) == ("", "")
    assert panel.block.visible


def test_a_folder_that_cannot_be_written_is_said_in_plain_words(bare):
    panel = opened(bare)
    (bare.models_folder.parent / "Stable-diffusion").write_text("no folder")
    happens(panel.try_it)
    assert "Stable-diffusion" in panel.problem.value
    assert "cannot be written: " in panel.problem.value
    assert "Traceback" not in panel.problem.value
    assert panel.started.value == ""


def test_without_the_built_in_model_it_is_not_offered(bare, monkeypatch, tmp_path):
    missing = dataclasses.replace(POCKET, name="not-there")
    monkeypatch.setattr(bare.module("ui.first_steps"), "DEFAULT", missing)
    opened(bare)
    rows = [c for c in components.Component.created if getattr(c, "elem_classes", None) == ["animatediff-try"]]
    assert [row.visible for row in rows] == [False]


@pytest.mark.parametrize("fits", [True, False])
def test_the_advice_on_the_built_in_module(bare, checkpoint, fits):
    happens(opened(bare).try_it)
    if fits:
        double.shared.sd_model = None
    said = bare.module("ui.advice").advice(BUILT_IN)
    assert ("64 x 64 pixels, a CFG scale of 3" in said) is fits
    assert (f"fits the built-in checkpoint {POCKET.checkpoint} only" in said) is not fits


def test_the_advice_on_a_module_of_another_width(bare):
    happens(opened(bare).try_it)
    os.replace(bare.models_folder / POCKET.motion, bare.models_folder / "other.safetensors")  # noqa: PTH105
    said = bare.module("ui.advice").advice("other")
    assert said.startswith("other.safetensors is for a model of another size: it has 64 channels where the checkpoint")


def test_a_refresh_walks_the_folders_twice(webui, monkeypatch):
    """Once for the list, once for the file that is selected: folders may be on a slow drive."""
    models, walks = webui.module("catalog.models"), []
    walk = models.available_models
    monkeypatch.setattr(models, "available_models", lambda: walks.append(1) or walk())
    webui.module("ui.first_steps")._renewed("mm.safetensors [v3, SD 1.5]")
    assert len(walks) == 2
