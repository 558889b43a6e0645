"""What the panel says about the motion module that is chosen, before anything is painted."""

from __future__ import annotations

from modules import sd_models

from lib_animatediff.hosts.webui.catalog.models import find_model, means_zero
from lib_animatediff.sampling.text2video_zero import NAME
from motion_module import MotionFileError, inspect_motion_file

_NAMES = {"sd15": "Stable Diffusion 1.5", "sdxl": "SDXL"}
_REFUSED = {"is_sd2": "Stable Diffusion 2", "is_sd3": "Stable Diffusion 3", "is_ssd": "SSD-1B"}
_GLIDES = (
    f"{NAME} lets the whole picture glide by the shift that you set below, on any checkpoint; nothing in it moves by "
    "itself. For that, take a motion module."
)


def advice(name: str) -> str:
    """One line for a name of the list: why it would be refused, or what settings it wants; empty if all is well."""
    if means_zero(name):
        return _GLIDES
    try:
        found = inspect_motion_file(find_model(name))
    except MotionFileError as error:
        return str(error)
    if found.problem or found.base is None:
        return found.problem or ""
    unsuited = _unsuited_checkpoint(found.base)
    if unsuited:
        return f"{found.name} is for {_NAMES[found.base]}, but the checkpoint is {unsuited}. Choose two of one base."
    return found.hint or ""


def _unsuited_checkpoint(base: str) -> str | None:
    """What the checkpoint is, if it is loaded (asking the WebUI for it would load it) and of another base."""
    loaded = sd_models.model_data.sd_model
    if loaded is None:
        return None
    for flag, name in _REFUSED.items():
        if getattr(loaded, flag, False):
            return name
    is_sdxl = bool(getattr(loaded, "is_sdxl", False))
    return None if is_sdxl == (base == "sdxl") else _NAMES["sdxl" if is_sdxl else "sd15"]
