"""Every stage runs, goes on exactly where it was interrupted, and is not done twice."""

import pytest
import torch
from click.testing import CliRunner

from tools.pocket.__main__ import main
from tools.pocket.building import BuildError, Stage, _pass
from tools.pocket.gates import Gate
from tools.pocket.loop import load, replacing
from tools.pocket.measure import read
from tools.pocket.recipe import Recipe
from tools.pocket.results import load_first_vae
from tools.pocket.stages import STAGES, build

from .conftest import RECIPE


def test_an_interrupted_build_equals_an_uninterrupted_one_bit_for_bit(built, tmp_path):
    said: list[str] = []
    build(RECIPE, tmp_path, gates=False, say=said.append, until=1)  # of two steps
    assert not (tmp_path / STAGES[0].result).exists()
    for stage in STAGES:
        stage.run(RECIPE, tmp_path, 1)
        if not (tmp_path / stage.result).exists():
            stage.run(RECIPE, tmp_path, None)
    build(RECIPE, tmp_path, gates=False, say=said.append)
    for stage in STAGES:
        mine, theirs = load(tmp_path / stage.result)[0], load(built / stage.result)[0]
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine), stage.name
    assert not list(tmp_path.glob("*.state"))
    assert any("finished before" in line for line in said)


def test_a_result_of_another_recipe_is_not_taken_for_this_one(built):
    with pytest.raises(BuildError, match="another recipe"):
        build(Recipe(seed=1).smoke(3), built, gates=False)


def test_a_failed_gate_stops_the_build_and_names_the_figure(built, monkeypatch):
    monkeypatch.setattr("tools.pocket.gates.VAE_PICTURES", 10)
    said: list[str] = []
    with pytest.raises(BuildError, match="did not pass"):
        build(RECIPE, built, "vae", say=said.append)
    assert any(line.startswith("FAIL  vae, plain: PSNR") for line in said)
    assert (built / "sheets" / "vae.png").exists()
    assert not (built / "figures" / "vae.json").exists()


def test_a_passed_gate_is_not_measured_again(built, tmp_path):
    counted = []

    def gate(recipe, folder):
        counted.append(folder)
        return [Gate("share", 1.0, 0.9)]

    stage = Stage("some", "result", (), lambda recipe, folder, until: None, gate)
    (tmp_path / "result").touch()
    for _ in range(2):
        _pass(stage, RECIPE, tmp_path, lambda line: None)
    assert len(counted) == 1


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as unfinished:
        unfinished.write_text("all")
        assert not path.exists()
    assert path.read_text() == "all"
    assert not unfinished.exists()


def test_the_command_makes_a_smoke_build(tmp_path):
    result = CliRunner().invoke(main, ["build", "--steps", "1", "--stage", "vae", "--no-gates", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert read(load_first_vae(tmp_path).decode(torch.zeros(1, 4, 8, 8))[0]).style
