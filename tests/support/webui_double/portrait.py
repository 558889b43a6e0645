"""What a request must leave as it was."""

from __future__ import annotations

from typing import Any

import torch
from support.webui_double.double import SdModel


class Portrait:
    """A model: hooks, tensors and schedule, objects by identity."""

    def __init__(self, model: SdModel) -> None:
        self.model = model
        self.schedule = model.alphas_cumprod
        self.state = {key: (tensor, tensor.clone()) for key, tensor in model.state_dict(keep_vars=True).items()}
        self.tables = self.hook_tables()

    def hook_tables(self) -> list[dict[str, Any]]:
        modules = self.model.modules()
        return [{key: dict(value) for key, value in vars(m).items() if "hook" in key and value} for m in modules]

    def assert_unchanged(self) -> None:
        assert self.model.alphas_cumprod is self.schedule
        now = self.model.state_dict(keep_vars=True)
        assert list(now) == list(self.state)
        for key, (tensor, clone) in self.state.items():
            assert now[key] is tensor, key
            assert torch.equal(tensor, clone), key
        assert self.hook_tables() == self.tables


def own_values(p: Any) -> dict[str, Any]:
    """What a request's author may find changed on p: its fields, and methods that were put over the class's."""
    told = {"batch_size", "prompt", "negative_prompt", "seed", "subseed", "hr_prompt", "init_images"}
    told |= {"do_not_save_samples", "do_not_save_grid"}
    return {name: value for name, value in vars(p).items() if name in told or callable(value)}
