"""The table of built-in models."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib_animatediff.builtin_model import DEFAULT, MODELS, built_in, of_motion
from motion_module import inspect_motion_file
from motion_module.files.weights import read_header


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_files_of_a_model_are_there_and_small(model):
    assert all((model.folder / name).is_file() for name in model.files)
    assert (model.folder / f"{model.name}.yaml").is_file()
    assert sum(path.stat().st_size for path in model.folder.rglob("*") if path.is_file()) <= 40e6
    assert inspect_motion_file(model.folder / model.motion).problem is None
    assert all(read_header(model.folder / name) for name in model.files)


def test_a_model_is_found_by_its_name_and_by_its_motion_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT.name).mkdir()  # what lies beside us does not hide it
    assert built_in(Path(DEFAULT.name)) is DEFAULT
    assert built_in(Path(DEFAULT.checkpoint)) is None
    assert of_motion(DEFAULT.motion) is DEFAULT
    assert of_motion("v3_sd15_mm.ckpt") is None
