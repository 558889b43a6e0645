"""Every stage of the village model runs, and goes on exactly where it was interrupted."""

import torch
from click.testing import CliRunner

from lib_animatediff.hosts.diffusers.animate import animate
from motion_module import load_motion_module
from tools.pocket.building import run_stages
from tools.pocket.export import load_pipeline
from tools.pocket.loop import load
from tools.village_model import cameras
from tools.village_model.__main__ import main
from tools.village_model.export import VILLAGE
from tools.village_model.motion import RESULT as MOTION
from tools.village_model.stages import STAGES

from .conftest import RECIPE

TRAINED_BY_THE_TRAINER = {"motion", *map(cameras.name, cameras.MOVES)}  # which has its own states and tests


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


def test_the_command_makes_a_smoke_build(tmp_path):
    command = ["build", "--steps", "1", "--stage", "probe", "--no-gates", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
