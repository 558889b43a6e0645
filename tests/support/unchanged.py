"""What must be afterwards as it was: a model, and the fields of a request."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Portrait:
    """Everything about a model: objects by identity, tensors by value, too."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.state = model.state_dict()
        self.clones = {key: tensor.clone() for key, tensor in self.state.items()}
        self.modules = dict(model.named_modules())
        self.attributes = {
            name: {key: dict(value) if isinstance(value, dict) else value for key, value in vars(module).items()}
            for name, module in self.modules.items()
        }
        self.classes = {kind: dict(vars(kind)) for kind in {type(module) for module in self.modules.values()}}
        self.global_hooks = {name: dict(value) for name, value in self.global_tables()}

    @staticmethod
    def global_tables():
        tables = vars(torch.nn.modules.module).items()
        return [(name, value) for name, value in tables if name.startswith("_global") and isinstance(value, dict)]

    def assert_unchanged(self) -> None:
        self.assert_same_objects()
        state = self.model.state_dict()
        assert list(state) == list(self.state)
        assert all(state[key].data_ptr() == self.state[key].data_ptr() for key in state)
        assert all(torch.equal(state[key], self.clones[key]) for key in state)

    def assert_same_objects(self) -> None:
        """Quick, for loops: all but the tensors' values."""
        now = dict(self.model.named_modules())
        assert list(now) == list(self.modules)
        assert all(now[name] is module and type(module) in self.classes for name, module in self.modules.items())
        for name, module in now.items():
            attributes, before = vars(module), self.attributes[name]
            assert attributes.keys() == before.keys(), name
            for key, value in attributes.items():
                same = self.same_entries(value, before[key]) if isinstance(value, dict) else value is before[key]
                assert same, f"{name}.{key}"
        assert all(dict(vars(kind)) == before for kind, before in self.classes.items())
        assert {name: dict(value) for name, value in self.global_tables()} == self.global_hooks

    @staticmethod
    def same_entries(now: dict, before: dict) -> bool:
        return now.keys() == before.keys() and all(now[key] is before[key] for key in now)


def own_values(p: Any) -> dict[str, Any]:
    """What a request's author may find changed on p: its fields, and methods that were put over the class's."""
    told = {"batch_size", "prompt", "negative_prompt", "seed", "subseed", "hr_prompt", "init_images"}
    told |= {"styles", "do_not_save_samples", "do_not_save_grid"}
    return {name: value for name, value in vars(p).items() if name in told or callable(value)}
