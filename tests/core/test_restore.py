"""Whatever happens inside, the UNet and the model are afterwards what they were, object by object."""

from __future__ import annotations

import hosts
import pytest
import torch
from motion_files import write_motion_file
from torch import nn

from lib_animatediff import inject, use_schedule
from motion_module import load_motion_module
from motion_module.network import GEGLU, TemporalAttention

HOOK_TABLES = [name for name in vars(nn.Module()) if "hook" in name]
FRAMES = 2
GIVEN = hosts.inputs(FRAMES)


class Model(nn.Module):
    """As much of LDM's LatentDiffusion as an injection touches."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.diffusion_model = unet
        self.register_buffer("alphas_cumprod", torch.linspace(1, 0.01, 1000))

    def sample(self, motion):
        with use_schedule(self, motion.schedule), inject(self.model.diffusion_model, motion, frames=FRAMES):
            return hosts.call(self.model.diffusion_model, GIVEN)


class Portrait:
    """Everything about a model that must not change: objects by identity, tensors by value, too."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.state = model.state_dict()
        self.clones = {key: tensor.clone() for key, tensor in self.state.items()}
        self.modules = dict(model.named_modules())
        self.attributes = {name: self.attributes_of(module) for name, module in self.modules.items()}
        self.classes = {kind: dict(vars(kind)) for kind in {type(module) for module in self.modules.values()}}
        self.global_hooks = {name: dict(value) for name, value in self.global_tables()}

    @staticmethod
    def attributes_of(module: nn.Module) -> dict[str, object]:
        return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(module).items()}

    @staticmethod
    def global_tables():
        tables = vars(torch.nn.modules.module).items()
        return [(name, value) for name, value in tables if name.startswith("_global") and isinstance(value, dict)]

    def assert_unchanged(self) -> None:
        now = dict(self.model.named_modules())
        assert list(now) == list(self.modules)
        assert all(now[name] is module and type(module) in self.classes for name, module in self.modules.items())
        state = self.model.state_dict()
        assert list(state) == list(self.state)
        assert all(state[key].data_ptr() == self.state[key].data_ptr() for key in state)
        assert all(torch.equal(state[key], self.clones[key]) for key in state)
        for name, module in now.items():
            attributes, before = self.attributes_of(module), self.attributes[name]
            assert attributes.keys() == before.keys(), name
            for key, value in attributes.items():
                same = self.same_entries(value, before[key]) if isinstance(value, dict) else value is before[key]
                assert same, f"{name}.{key}"
        assert all(dict(vars(kind)) == before for kind, before in self.classes.items())
        assert {name: dict(value) for name, value in self.global_tables()} == self.global_hooks

    @staticmethod
    def same_entries(now: dict, before: dict) -> bool:
        return now.keys() == before.keys() and all(now[key] is before[key] for key in now)


@pytest.fixture(params=hosts.HOSTS)
def model(request):
    torch.manual_seed(0)
    return Model(hosts.HOSTS[request.param]())


@pytest.fixture(params=["v2", "v3"])
def motion(request, tmp_path):
    return load_motion_module(write_motion_file(tmp_path, request.param))


def test_after_success(model, motion):
    before, plain = Portrait(model), hosts.call(model.model.diffusion_model, GIVEN)
    assert not torch.equal(model.sample(motion), plain)
    before.assert_unchanged()
    assert torch.equal(hosts.call(model.model.diffusion_model, GIVEN), plain)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_exception_at_every_site(model, motion, error, monkeypatch):
    before = Portrait(model)
    for name, transformer in motion.sites():

        def fails(x, frames, name=name):
            raise error(name)

        monkeypatch.setattr(transformer, "forward", fails)
        with pytest.raises(error, match=name.replace(".", r"\.")):
            model.sample(motion)
        monkeypatch.undo()
        before.assert_unchanged()


@pytest.mark.parametrize("inner", [TemporalAttention, GEGLU, nn.GroupNorm])
def test_after_an_exception_inside_the_motion_module(model, motion, inner, monkeypatch):
    before = Portrait(model)
    part = [module for module in motion.modules() if isinstance(module, inner)][-1]

    def fails(*args):
        raise MemoryError("inside")

    monkeypatch.setattr(part, "forward", fails)
    with pytest.raises(MemoryError, match="inside"):
        model.sample(motion)
    before.assert_unchanged()


def test_after_an_exception_in_every_layer_of_the_unet_that_is_a_site(model, motion):
    """The host's own failure: it raises before our hook has run."""
    from lib_animatediff.sites import find_sites

    for site in find_sites(model.model.diffusion_model):
        handle = site.layer.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("host")))
        before = Portrait(model)
        with pytest.raises(RuntimeError, match="host"):
            model.sample(motion)
        before.assert_unchanged()
        handle.remove()


def test_after_a_failure_at_every_hook_registration(model, motion, monkeypatch):
    before, real = Portrait(model), nn.Module.register_forward_hook
    for failing in range(len(list(motion.sites()))):
        left = iter(range(failing))

        def register(self, hook, left=left, **kwargs):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return real(self, hook, **kwargs)

        monkeypatch.setattr(nn.Module, "register_forward_hook", register)
        with pytest.raises(KeyboardInterrupt):
            model.sample(motion)
        monkeypatch.undo()
        before.assert_unchanged()


def test_other_peoples_hooks_stay_where_they_were(model, motion):
    site = next(m for m in model.modules() if type(m).__name__ in ("SpatialTransformer", "Transformer2DModel"))
    seen = []
    site.register_forward_hook(lambda *_: seen.append("before"))
    with inject(model.model.diffusion_model, motion, frames=FRAMES):
        site.register_forward_hook(lambda *_: seen.append("inside"))
    hosts.call(model.model.diffusion_model, GIVEN)
    assert seen == ["before", "inside"]
    assert len(site._forward_hooks) == 2


def test_a_weight_load_inside_does_not_touch_the_former_schedule(model, motion):
    """The WebUI copies a checkpoint's table into whatever tensor stands there."""
    former = model.alphas_cumprod.clone()
    with use_schedule(model, motion.schedule):
        model.alphas_cumprod.copy_(torch.zeros(1000))
    assert torch.equal(model.alphas_cumprod, former)
    with use_schedule(model, motion.schedule):
        assert model.alphas_cumprod[-1] == pytest.approx(0.00157896, rel=1e-5)


def test_a_model_that_was_moved_to_meta_is_left_without_a_touch(model, motion):
    """The WebUI may unload the model inside: restoring must read no weight."""
    with use_schedule(model, motion.schedule), inject(model.model.diffusion_model, motion, frames=FRAMES):
        model.to("meta")
    assert not any(module._forward_hooks for module in model.modules())
