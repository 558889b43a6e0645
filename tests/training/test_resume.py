"""A training that was interrupted goes on as if nothing had happened."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch
from support.matrix import in_matrix
from training import parts

from lib_animatediff.training import MemorySource, TrainingError, train
from motion_module.camera_ctrl.poses import CameraPose

OTHER_TARGETS = ("motion-lora", "adapter", "sparsectrl", "pia", "cameractrl")


class PowerCutError(Exception):
    """Stands for a power cut."""


class Cut(MemorySource):
    """A source that stops the training at its n-th clip."""

    def __init__(self, reads):
        given = [(*clip, None, [CameraPose()] * len(clip[0])) for clip in parts.latent_clips(20)]
        super().__init__(given, latents=True)
        self.reads = reads

    def read(self, index, cut):
        self.reads -= 1
        if self.reads < 0:
            raise PowerCutError
        return super().read(index, cut)


def last_state(output):
    return torch.load(max((output / "states").iterdir()), weights_only=True)


def flat(value, prefix=""):
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {name: leaf for key, inner in pairs for name, leaf in flat(inner, f"{prefix}/{key}").items()}
    return {prefix: value}


@pytest.mark.parametrize("target", ["motion-module", *map(in_matrix, OTHER_TARGETS)])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, target):
    more = {"target": target, "steps": 4, "warmup": 2, "lr_schedule": "cosine", "save_every": 2}
    more |= {"caption_dropout": 0.5, "lr": 1e-3, "ema": 0.9 if target == "motion-module" else 0.0}
    more |= {"validation_clips": 1 if target == "motion-module" else 0, "validation_every": 2}
    more |= parts.motion_for(target, tmp_path)
    whole = parts.trained(tmp_path / "a", clips=Cut(1000), **more)

    # In the fourth step, so that the third must be done again. The validation reads clips, too, and a PIA model all.
    reads = 3 + 2 * more["validation_clips"] + (20 if target == "pia" else 0)
    with pytest.raises(PowerCutError):
        parts.trained(tmp_path / "b", clips=Cut(reads), **more)
    assert last_state(tmp_path / "b")["step"] == 2
    torch.manual_seed(99)
    torch.randn(3)
    resumed = parts.trained(tmp_path / "b", clips=Cut(1000), resume=True, **more)

    assert parts.equal(whole, resumed)
    a, b = (flat(last_state(tmp_path / name)) for name in "ab")
    a, b = ({key: value for key, value in state.items() if "/settings" not in key} for state in (a, b))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a)
    assert parts.records(tmp_path / "a") == parts.records(tmp_path / "b")


def test_a_used_folder_is_not_trained_over_nor_gone_on_with_by_another_training(tmp_path):
    parts.trained(tmp_path, steps=1, seed=1)
    with pytest.raises(TrainingError, match=r"contains a training at step 1\. Set resume"):
        parts.trained(tmp_path, steps=1, seed=1)
    with pytest.raises(TrainingError, match="other settings: seed was 1"):
        parts.trained(tmp_path, steps=2, seed=2, resume=True)


def test_a_finished_training_stays_as_it_is_and_may_be_prolonged(tmp_path):
    whole = parts.trained(tmp_path / "a", steps=2)
    first = parts.trained(tmp_path / "b", steps=1)
    assert parts.equal(parts.trained(tmp_path / "b", steps=1, resume=True), first)
    assert parts.equal(parts.trained(tmp_path / "b", steps=2, resume=True), whole)


def test_a_broken_state_says_so_and_two_are_kept(tmp_path):
    parts.trained(tmp_path, steps=3, save_every=1)
    first, last = sorted((tmp_path / "states").iterdir())
    assert (first.name, last.name) == ("step-00000002.pt", "step-00000003.pt")
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"step-00000003\.pt cannot be read"):
        parts.trained(tmp_path, steps=3, resume=True)


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", Mock(side_effect=OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        train(parts.settings(tmp_path), base=parts.small_base(), clips=MemorySource(parts.latent_clips(), latents=True))
    assert list((tmp_path / "states").iterdir()) == []


def test_what_a_killed_training_left_half_written_is_removed(tmp_path):
    parts.trained(tmp_path, steps=1)
    (left,) = (tmp_path / "states").iterdir()
    left.with_name(f"{left.name}.1234.part").write_bytes(b"half")
    parts.trained(tmp_path, steps=2, resume=True)
    assert not list((tmp_path / "states").glob("*.part"))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["weights"].update({name: weight[:1] for name, weight in state["weights"].items()}),
        lambda state: state["weights"].update({name: weight * torch.nan for name, weight in state["weights"].items()}),
        lambda state: state["weights"].clear(),
        lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(1)),
        lambda state: state.pop("settings"),
    ],
    ids=["weights of another shape", "not a number", "no weights", "moments of another shape", "no settings"],
)
def test_a_state_that_does_not_fit_is_refused_and_nothing_is_broadcast(tmp_path, change):
    parts.trained(tmp_path, steps=1)
    (path,) = (tmp_path / "states").iterdir()
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    with pytest.raises(TrainingError, match="lacks parts of a state"):
        parts.trained(tmp_path, steps=2, resume=True)
