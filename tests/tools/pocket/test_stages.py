"""Every stage runs, goes on exactly where it was interrupted, and is not done twice."""

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from tools.pocket.__main__ import main
from tools.pocket.base import alphas_cumprod, new_unet
from tools.pocket.gates import Gate, errors
from tools.pocket.loop import load, replacing, stream
from tools.pocket.measure import read
from tools.pocket.recipe import Recipe
from tools.pocket.results import load_first_vae, load_unet
from tools.pocket.sampling import ddim
from tools.pocket.stages import STAGES, BuildError, Stage, _pass, build
from tools.pocket.text import POSITIONS, WIDTH
from tools.pocket.vae import new_vae, pictures, whiten
from tools.pocket.world import CONCEPTS

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
    monkeypatch.setattr("pocket.gates.VAE_PICTURES", 10)
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


@pytest.mark.parametrize(("value", "at_least", "passed"), [(1.0, True, True), (0.8, True, False), (0.8, False, True)])
def test_a_gate_keeps_its_bound(value, at_least, passed):
    assert Gate("share", value, 0.9, at_least).passed is passed


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as unfinished:
        unfinished.write_text("all")
        assert not path.exists()
    assert path.read_text() == "all"
    assert not unfinished.exists()


def test_whitening_changes_no_picture():
    vae = new_vae(0)
    shown = pictures(stream("whitening"), ("plain", "dusk"), 4)
    with torch.no_grad():
        before = vae.paint(vae.mean(shown))
        whiten(vae, shown)
        assert torch.allclose(vae.paint(vae.mean(shown)), before, atol=1e-5)
        assert torch.allclose(vae.encode(shown).std(dim=(0, 2, 3)), torch.ones(4), atol=1e-4)


def test_a_perfect_model_of_one_picture_samples_it():
    """DDIM with the error that leads to a known picture arrives there, whatever the guidance."""
    clean = torch.randn(1, 4, 8, 8, generator=stream("clean"))

    class Perfect(nn.Module):
        def forward(self, x, t, context):
            alpha = alphas_cumprod()[t][:, None, None, None]
            return (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()

    context = torch.zeros(1, POSITIONS, WIDTH)
    painted = ddim(Perfect(), torch.randn(1, 4, 8, 8), context, context)
    assert torch.allclose(painted, clean, atol=0.15)  # what is left is the noise of the schedule's first step
    assert errors(Perfect(), clean, context, [500])[500] < 1e-6


def test_fast_attention_changes_no_result(built, conditions):
    fast = load_unet(built)
    context = conditions.plain(torch.tensor([0, 1]))
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
    with torch.no_grad():
        found = fast(x, t, context=context)
        for module in fast.modules():
            vars(module).pop("forward", None)
        assert torch.allclose(fast(x, t, context=context), found, atol=1e-5)


def test_captions_are_told_apart_in_every_phrasing(conditions):
    every = conditions.plain(torch.arange(len(CONCEPTS))).flatten(1)
    apart = torch.cdist(every, every) + 1e9 * torch.eye(len(every))
    assert apart.min() > 5
    picked = conditions.pick(torch.zeros(400, dtype=torch.long), stream("pick"), 0.1)
    assert picked.shape == (400, POSITIONS, WIDTH)
    plain = (picked == conditions.plain(torch.zeros(1, dtype=torch.long))).all(dim=2).all(dim=1)
    assert 0.45 < plain.float().mean() < 0.65


def test_new_models_depend_on_the_seed_alone():
    one, same, other = (new_unet(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_command_makes_a_smoke_build(tmp_path):
    result = CliRunner().invoke(main, ["build", "--steps", "1", "--stage", "vae", "--no-gates", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert read(load_first_vae(tmp_path).decode(torch.zeros(1, 4, 8, 8))[0]).style
