"""A random motion module of every kind, and what the oracle has to know of it: from the facts, not from the package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from support.motion_files import random_motion_state
from torch import Tensor

from motion_module import MotionFileInfo, MotionModule, inspect_motion_file, load_motion_module
from motion_module.files.diffusers_format import CONFIG
from motion_module.kinds import KINDS
from motion_module.network import Layout


@dataclass(frozen=True)
class Facts:
    """What sets a kind apart: middle site, resolutions, trained length, norms over all frames of a clip."""

    mid: bool
    levels: int
    length: int
    resnet_norms: bool = False
    own_norm: bool = False

    @property
    def norms(self) -> dict[str, bool]:
        return {"shared_resnet_norms": self.resnet_norms, "shared_own_norm": self.own_norm}


OFFICIAL = {
    "v1": Facts(mid=False, levels=4, length=24, resnet_norms=True),
    "v2": Facts(mid=True, levels=4, length=32),
    "v3": Facts(mid=False, levels=4, length=32),
    "sdxl": Facts(mid=False, levels=3, length=32, own_norm=True),
    "hotshot": Facts(mid=False, levels=3, length=24, resnet_norms=True),
    "lcm": Facts(mid=True, levels=4, length=64),
}
SD15_KINDS = [kind for kind, facts in OFFICIAL.items() if facts.levels == 4]
SDXL_KINDS = [kind for kind, facts in OFFICIAL.items() if facts.levels == 3]


def random_motion(kind: str, width: int = 32) -> tuple[MotionModule, dict[str, Tensor]]:
    """A module of a kind for a UNet of a width, with the state dict that it was made from."""
    facts = OFFICIAL[kind]
    widths = tuple(width * factor for factor in (1, 2, 4, 4)[: facts.levels])
    state = random_motion_state("v2" if facts.mid else "v3", widths, tables=False)
    layout = Layout(
        down=tuple((w,) * 2 for w in widths),
        mid=widths[-1] if facts.mid else None,
        up=tuple((w,) * 3 for w in reversed(widths)),
        trained_length=facts.length,
    )
    return MotionModule.from_state_dict(dict(state), layout, KINDS[kind], f"{kind}.safetensors"), state


@cache
def shared_motion(kind: str) -> tuple[MotionModule, dict[str, Tensor]]:
    """The same, made once, for tests that only look at it."""
    return random_motion(kind)


@cache
def read_once(path: Path) -> MotionModule:
    """A file's, read once: reading is tested elsewhere."""
    return load_motion_module(path)


def inspected_once(path: Path, *, kind: str | None = None) -> MotionFileInfo:
    """What a file is, likewise, wherever a link to it is."""
    if not path.is_file() or (path.parent / CONFIG).exists():
        return inspect_motion_file(path, kind=kind)
    if (key := (path.name, path.resolve(), path.stat().st_mtime_ns, kind)) not in _INSPECTED:
        _INSPECTED[key] = inspect_motion_file(path, kind=kind)
    return _INSPECTED[key]


_INSPECTED: dict[tuple[object, ...], MotionFileInfo] = {}
