"""The built-in model in a WebUI's folders: complete, and beside the user's own files."""

from __future__ import annotations

import json

import pytest
from support.cli import command_line

from lib_animatediff.builtin_model import POCKET, CheckpointError, copy_to_webui, copying


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "webui" / "models"
    folder.mkdir(parents=True)
    return folder


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_command_copies_what_the_webui_needs(models, capsys):
    told = command_line(capsys)("pocket-to-webui", models.parent).out.splitlines()
    names = ["Stable-diffusion/pocket.safetensors"]
    names += ["animatediff/pocket-motion.safetensors", "animatediff/pocket-fast-motion.safetensors"]
    names += ["Lora/pocket-lilac-lora.safetensors", "Lora/pocket-pan-lora.safetensors"]
    names += ["ControlNet/pocket-control.safetensors", "ControlNet/pocket-sparsectrl.safetensors"]
    names += ["Stable-diffusion/pocket.yaml"]
    assert told == [str(models / name) for name in names]
    config = json.loads((models / names[-1]).read_text())
    clip = config["model"]["params"]["cond_stage_config"]["params"]["version"]
    assert clip == str(models / "Stable-diffusion" / "pocket-clip")
    assert {"config.json", "merges.txt", "vocab.json"} <= {
        path.name for path in (models / "Stable-diffusion/pocket-clip").iterdir()
    }
    assert not list(models.rglob("*.part"))


def test_what_is_there_is_kept_and_what_is_missing_is_copied(models):
    copy_to_webui(models.parent, POCKET)
    before = content(models)
    times = {name: (models / name).stat().st_mtime_ns for name in before}
    (models / "animatediff" / POCKET.motion).unlink()
    copy_to_webui(models.parent, POCKET)
    assert content(models) == before
    changed = [name for name in before if (models / name).stat().st_mtime_ns != times[name]]
    assert changed == [f"animatediff/{POCKET.motion}"]


def test_after_the_webui_was_moved_its_config_names_the_new_folder(models, tmp_path):
    copy_to_webui(models.parent, POCKET)
    moved = models.parent.rename(tmp_path / "moved") / "models"
    copy_to_webui(moved.parent, POCKET)
    assert str(moved / "Stable-diffusion" / "pocket-clip") in (moved / "Stable-diffusion/pocket.yaml").read_text()


@pytest.mark.parametrize("name", ["pocket.yaml", POCKET.checkpoint, "pocket-clip/merges.txt"])
@pytest.mark.parametrize("kind", ["file", "folder", "link to nowhere"])
def test_nothing_of_the_users_is_replaced_and_nothing_else_is_written(models, name, kind):
    path = models / "Stable-diffusion" / name
    path.parent.mkdir(parents=True)
    if kind == "file":
        path.write_text("[]")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    before = sorted(models.rglob("*"))
    with pytest.raises(CheckpointError, match=rf"contains another file named {path.name}, .*\[AD-B04\]$"):
        copying.copy_to_models(models, POCKET)
    assert sorted(models.rglob("*")) == before


def test_a_write_that_fails_leaves_no_checkpoint_and_says_why(models, monkeypatch):
    (models / "animatediff").write_text("no folder")
    with pytest.raises(CheckpointError, match=r"animatediff cannot be written: .*\. Make .*\[AD-B03\]$"):
        copying.copy_to_models(models, POCKET)
    assert not (models / "Stable-diffusion" / POCKET.checkpoint).exists()
    assert not list(models.rglob("*.part"))
