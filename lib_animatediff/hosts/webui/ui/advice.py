"""The panel's advice on the selected motion module."""

from __future__ import annotations

from lib_animatediff.hosts.webui.catalog.models import find_model, method_without_file
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.request.methods import WITHOUT_FILE
from motion_module import MotionFileError, inspect_motion_file

_NAMES = {"sd15": "Stable Diffusion 1.5", "sdxl": "SDXL"}
_REFUSED = {"is_sd2": "Stable Diffusion 2", "is_sd3": "Stable Diffusion 3", "is_ssd": "SSD-1B"}


def advice(name: str) -> str:
    """One line for a name in the list: the reason of a refusal, or recommended settings; empty otherwise."""
    if method := method_without_file(name):
        return WITHOUT_FILE[method]
    try:
        found = inspect_motion_file(find_model(name))
    except MotionFileError as error:
        return str(error)
    if found.problem or found.base is None:
        return found.problem or ""
    unsuited = _unsuited_checkpoint(found.base)
    if unsuited:
        return (
            f"{found.name} is for {_NAMES[found.base]}, but the checkpoint is {unsuited}. Choose two of the same base."
        )
    return found.hint or ""


def _unsuited_checkpoint(base: str) -> str | None:
    """The checkpoint's base, if a checkpoint of another base is loaded. Does not load a checkpoint."""
    loaded = a1111.loaded_model()
    if loaded is None:
        return None
    for flag, name in _REFUSED.items():
        if getattr(loaded, flag, False):
            return name
    is_sdxl = bool(getattr(loaded, "is_sdxl", False))
    return None if is_sdxl == (base == "sdxl") else _NAMES["sdxl" if is_sdxl else "sd15"]
