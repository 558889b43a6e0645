"""`inspect` and `convert` on the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from safetensors.torch import save_file
from support.camera_ctrl import random_state as camera_state
from support.motion_files import as_adapter, random_motion_state

from lib_animatediff.cli.main import cli
from motion_module import MotionFileError, load_motion_module

WIDTHS = (32,) * 4


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deeper").mkdir()
    save_file(random_motion_state("v3", WIDTHS), tmp_path / "waves.safetensors")
    save_file(random_motion_state("hotshot", WIDTHS), tmp_path / "deeper" / "shot.safetensors")
    (tmp_path / "page.ckpt").write_text("<html>")
    (tmp_path / "notes.txt").write_text("no weights")
    return tmp_path


def run(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_inspect_prints_a_table_and_what_is_none(folder):
    lines = run(
        "inspect", folder / "page.ckpt", folder / "waves.safetensors", folder / "deeper/shot.safetensors"
    ).output
    head, first, second, hint, page = lines.splitlines()
    assert head.split()[:4] == ["file", "kind", "for", "weights"]
    assert first.split() == [
        *("waves.safetensors", "v3", "Stable", "Diffusion", "1.5", "0.5", "M", "32", "linear", "to", "0.012"),
        *("official,", "safetensors", "float32"),
    ]
    assert " hotshot " in second
    assert "SDXL" in second
    assert second.index("SDXL") == first.index("Stable") == head.index("for")
    assert hint == "shot.safetensors: Trained on clips of 8 frames."
    assert page.startswith("page.ckpt is a web page")


def test_inspect_describes_files_that_steer_clips_and_convert_writes_them(tmp_path):
    save_file(camera_state(WIDTHS), tmp_path / "camera.safetensors")
    head, row, use = run("inspect", tmp_path / "camera.safetensors").output.splitlines()
    assert row.split()[:5] == ["camera.safetensors", "cameractrl", "Stable", "Diffusion", "1.5"]
    assert row.split()[-5:] == ["16", "-", "pruned,", "safetensors", "float32"]
    assert row.index("Stable") == head.index("for")
    assert "--camera-model" in use
    (found,) = json.loads(run("inspect", "--json", tmp_path / "camera.safetensors").output)
    assert (found["guide"], found["kind"], found["schedule"]) == ("cameractrl", None, None)
    run("convert", tmp_path / "camera.safetensors", tmp_path / "official.safetensors")
    assert (tmp_path / "official.safetensors").exists()


def test_inspect_takes_a_folder_for_its_files(folder):
    found = json.loads(run("inspect", "--json", folder).output)
    assert [(info["name"], info["kind"]) for info in found] == [
        ("shot.safetensors", "hotshot"),
        ("page.ckpt", None),
        ("waves.safetensors", "v3"),
    ]
    assert found[2]["schedule"] == {"name": "linear", "beta_start": 0.00085, "beta_end": 0.012, "steps": 1000}
    assert found[1]["what"] == "a web page"


def test_inspect_takes_an_adapters_folder_for_what_it_is(folder):
    run("convert", folder / "waves.safetensors", folder / "adapter", "--to", "adapter")
    (found,) = json.loads(run("inspect", "--json", folder / "adapter").output)
    assert (found["name"], found["kind"], found["format"]) == ("adapter", "v3", "MotionAdapter")


def test_inspect_finds_what_is_in_a_folder_of_any_form(folder, tmp_path):
    """Capitals, links, one that leads back, another model's config; and says so if there is nothing."""
    named = folder / "named"
    named.mkdir()
    save_file(random_motion_state("v3", WIDTHS), named / "MM.SAFETENSORS")
    (named / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    (named / "linked").symlink_to(folder / "deeper")
    (named / "back").symlink_to(named)
    found = json.loads(run("inspect", "--json", named).output)
    assert [(info["name"], info["kind"]) for info in found] == [
        ("MM.SAFETENSORS", "v3"),
        ("shot.safetensors", "hotshot"),
    ]
    (folder / "empty").mkdir()
    assert f"{folder / 'empty'} and its subfolders contain no weights files" in run("inspect", folder / "empty").output
    (found,) = json.loads(run("inspect", "--json", folder / "empty").output)
    assert found["what"] == "a folder without weights"


def test_inspect_believes_the_kind_that_is_said(folder):
    save_file(random_motion_state("v3", WIDTHS, tables=False), folder / "mm.safetensors")
    assert "Rename the file" in run("inspect", folder / "mm.safetensors").output
    (found,) = json.loads(run("inspect", "--json", "--kind", "v1", folder / "mm.safetensors").output)
    assert found["kind"] == "v1"


def test_convert_writes_and_says_where(folder):
    save_file(as_adapter(random_motion_state("v3", WIDTHS), tables=False), folder / "mm.safetensors")
    with pytest.raises(MotionFileError, match="its kind is ambiguous"):
        run("convert", folder / "mm.safetensors", folder / "new.safetensors")
    result = run("convert", folder / "mm.safetensors", folder / "new.safetensors", "--kind", "v3")
    assert result.output.splitlines() == [str(folder / "new.safetensors")]
    assert load_motion_module(folder / "new.safetensors").kind == "v3"
    with pytest.raises(MotionFileError, match="force"):
        run("convert", folder / "waves.safetensors", folder / "new.safetensors")
    run("convert", folder / "waves.safetensors", folder / "new.safetensors", "--force")


def test_convert_says_what_is_lost(folder):
    result = run("convert", folder / "deeper/shot.safetensors", folder / "adapter", "--to", "adapter")
    assert "noise schedule" in result.stderr
    assert "the UNet's group norms" in result.stderr
