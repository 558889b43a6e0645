"""The programs that the end-to-end tests can start as the WebUI; each is known by its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_COMMON = (
    "--skip-prepare-environment", "--skip-torch-cuda-test", "--skip-version-check", "--api",
    "--disable-console-progressbars",
)  # fmt: skip
_FLAGS = (*_COMMON, "--no-download-sd-model")
_PREVIEWS = {"show_progress_type": "Approx cheap"}  # the family's default needs a file


@dataclass(frozen=True)
class Host:
    """How one of them is started.

    Attributes:
        name: as the reports call it.
        flags: of its command line.
        asks_for_modules: whether a request for hires fix has to name the modules of the second pass.
        loads_early: whether its log says at start that a checkpoint is there; otherwise the first request loads it.
        settings: with which it starts.
        beside_infotext: what a request with an infotext has to name, since its API fails on reading it.
        without: samplers of AUTOMATIC1111's WebUI that it does not have.
        has_latent_upscalers: whether hires fix can enlarge latents. Otherwise a request has to name another upscaler.
    """

    name: str
    flags: tuple[str, ...]
    asks_for_modules: bool = False
    loads_early: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    beside_infotext: tuple[tuple[str, Any], ...] = ()
    without: tuple[str, ...] = ()
    has_latent_upscalers: bool = True

    @property
    def is_patched(self) -> bool:
        """Whether it is of Forge's family: its UNet is a patcher's."""
        return not self.loads_early

    def defaults(self, payload: dict[str, Any]) -> dict[str, Any]:
        """What a request has to say to mean here what it means to AUTOMATIC1111's WebUI."""
        if not self.is_patched or not payload.get("enable_hr"):
            return {}
        modules = {"hr_additional_modules": ["Use same choices"]} if self.asks_for_modules else {}
        upscaler = {} if self.has_latent_upscalers else {"hr_upscaler": "None"}
        return {"hr_cfg": payload.get("cfg_scale", 7), **modules, **upscaler}


A1111 = Host(
    "WebUI",
    (*_FLAGS, "--use-cpu=all", "--no-half", "--precision=full", "--do-not-download-clip"),
    loads_early=True,
)
FORGE = Host(
    "Forge",
    (*_FLAGS, "--always-cpu", "--all-in-fp32"),
    asks_for_modules=True,
    settings=_PREVIEWS,
    beside_infotext=(("styles", []),),
)
# The default takes the text encoder of another checkpoint of the same name: "small.ckpt" for "small.safetensors".
REFORGE = Host(
    "reForge",
    (*_FLAGS, "--always-cpu"),
    settings={**_PREVIEWS, "sd_text_encoder": "None"},
    without=("DDIM CFG++",),
)
NEO = Host(
    "Forge Neo",
    (*_COMMON, "--cpu", "--force-fp32"),
    asks_for_modules=True,
    has_latent_upscalers=False,
    settings={**_PREVIEWS, "VERSION_UID": "PY313"},  # otherwise it waits for a key
    without=(
        "DDIM CFG++", "DPM++ 2S a", "DPM2 a", "DPM fast", "DPM adaptive", "DPM++ 2M SDE Heun", "PLMS",
    ),
)  # fmt: skip


def host_of(folder: Path) -> Host:
    """The program in a folder."""
    if (folder / "backend").is_dir():
        return NEO if (folder / "modules_forge" / "presets.py").is_file() else FORGE
    return REFORGE if (folder / "ldm_patched").is_dir() else A1111


def chosen_host() -> Host:
    """The program that WEBUI_DIR names."""
    return host_of(Path(os.environ.get("WEBUI_DIR", "")))
