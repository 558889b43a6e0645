"""sgm's own UNetModel, as the WebUI has it in its repositories, with Stable Diffusion 1.5's layers at small widths."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from . import hosts

_REPOSITORY = "repositories/generative-models"
_PACKAGES = ("sgm", "sgm.modules", "sgm.modules.diffusionmodules")


def sgm_unet(width: int = 32, context: int = 64) -> nn.Module:
    """Its UNet with random weights; the test is skipped where there is no WebUI."""
    folder = Path(os.environ.get("WEBUI_DIR", "nowhere")) / _REPOSITORY
    if not folder.is_dir():
        pytest.skip("WEBUI_DIR names no WebUI, in whose repositories sgm is")
    with pytest.MonkeyPatch.context() as patch:
        for name in _PACKAGES:  # their own code needs PyTorch Lightning, which the UNet does not
            package = ModuleType(name)
            package.__path__ = [str(folder / name.replace(".", "/"))]
            patch.setitem(sys.modules, name, package)
        unet_of = import_module(f"{_PACKAGES[-1]}.openaimodel").UNetModel
        for name in [name for name in sys.modules if name.startswith("sgm.")]:
            patch.delitem(sys.modules, name, raising=False)
    always = {"in_channels": 4, "out_channels": 4, "num_res_blocks": 2, "transformer_depth": 1}
    always |= {"use_spatial_transformer": True, "use_checkpoint": False, "legacy": False}
    unet = unet_of(model_channels=width, context_dim=context, **always, **hosts.SD15)
    for module in unet.modules():  # each block checkpoints by default, which needs gradients
        if hasattr(module, "checkpoint"):
            module.checkpoint = False
    return hosts.no_zero_weights(unet)
