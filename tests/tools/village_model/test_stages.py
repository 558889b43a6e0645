"""Every stage of the village model runs, and goes on exactly where it was interrupted."""

import json

import torch
from click.testing import CliRunner

from lib_animatediff.hosts.diffusers.animate import animate
from motion_module import load_motion_module
from tools.pocket import evaluate as pocket_evaluate
from tools.pocket.building import run_stages
from tools.pocket.export import load_pipeline
from tools.pocket.loop import load
from tools.village import words
from tools.village_model import base, cameras, evaluate, shipped, vae
from tools.village_model.__main__ import main
from tools.village_model.export import VILLAGE
from tools.village_model.motion import RESULT as MOTION
from tools.village_model.report import STRENGTHS, write_report
from tools.village_model.stages import STAGES
from tools.village_model.viewing import write_clips

from .conftest import RECIPE

TRAINED_BY_THE_TRAINER = {"motion", "fast", *map(cameras.name, cameras.MOVES)}  # which has its own states and tests


def test_an_interrupted_build_equals_an_uninterrupted_one_bit_for_bit(village, tmp_path):
    for stage in STAGES:
        stage.run(RECIPE, tmp_path, 1)
        if not (tmp_path / stage.result).exists():
            stage.run(RECIPE, tmp_path, None)
        if stage.name not in TRAINED_BY_THE_TRAINER:
            mine, theirs = load(tmp_path / stage.result)[0], load(village / stage.result)[0]
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[name], theirs[name]) for name in mine), stage.name
    assert not list(tmp_path.glob("*.state"))


def test_a_finished_build_is_not_done_again(village):
    said: list[str] = []
    run_stages(STAGES, RECIPE, village, gates=False, say=said.append)
    assert len([line for line in said if "finished before" in line]) == len(STAGES)


def test_the_built_files_make_a_clip(village):
    pipeline = load_pipeline(village, VILLAGE.name)
    frames = animate(
        pipeline,
        load_motion_module(village / MOTION),
        prompt="a red car moving left in a town",
        seed=1,
        frames=4,
        size=(VILLAGE.size, VILLAGE.size),
        steps=2,
        cfg=3,
    )
    assert [frame.size for frame in frames] == [(VILLAGE.size, VILLAGE.size)] * 4


def test_a_build_can_begin_with_the_kept_files(village, tmp_path):
    package, build = tmp_path / "package", tmp_path / "build"
    names = [path.name for path in shipped.ship(village, package)]
    assert names[: len(shipped.VILLAGE.files)] == list(shipped.VILLAGE.files)
    assert json.loads((package / "village.yaml").read_text())["model"]["target"].endswith("LatentDiffusion")
    shipped.restore(package, build)
    for result in (base.RESULT, vae.RESULT):
        mine, theirs = load(build / result), load(village / result)
        assert mine[0].keys() == theirs[0].keys()
        assert all(torch.equal(mine[0][name], theirs[0][name].half().float()) for name in mine[0])
        assert theirs[1].items() <= mine[1].items()
    said: list[str] = []
    run_stages(STAGES[:-1], RECIPE, build, "vae", gates=False, say=said.append)
    assert said == [f"{name}: finished before, {build / name}.safetensors" for name in ("probe", "vae")]


def test_the_report_has_a_row_for_each_thing(village, tmp_path, monkeypatch):
    for module in (evaluate, pocket_evaluate):
        monkeypatch.setattr(module, "STEPS", 1)
    said: list[str] = []
    write_report(RECIPE, village, tmp_path / "page.md", said.append, clips=1)
    page = (tmp_path / "page.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Compared",
        "## Ablations",
        "## Loops",
        "## Motion LoRAs",
    ]
    assert len(said) == 8 + 2 + 2 + len(cameras.MOVES) * len(STRENGTHS)
    assert all(line in page for line in said)


def test_a_viewer_gets_clips_without_captions(village, monkeypatch):
    monkeypatch.setattr(evaluate, "STEPS", 1)
    folder = write_clips(village, clips=1)
    assert sorted(path.name for path in folder.iterdir()) == ["00.png", "answers.json"]
    (answer,) = json.loads((folder / "answers.json").read_text())
    assert words.caption(words.parse(answer["caption"])) == answer["caption"]


def test_the_command_makes_a_smoke_build(tmp_path):
    command = ["build", "--steps", "1", "--stage", "probe", "--no-gates", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
