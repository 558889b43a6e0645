"""The ControlNet extension beside us: what its script holds during a request, found by the names of its version 1.1."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from . import a1111

_log = logging.getLogger(__name__)

_TITLE = "controlnet"


def release(p: Any) -> None:
    """Remove ControlNet from the UNet after sampling has failed.

    It would only do so in ``postprocess``, which the WebUI skips after an exception, and would control the images of
    the other tab's next request.
    """
    script = _script(p)
    network = getattr(script, "latest_network", None)
    if network is None:
        return
    try:
        network.restore()
    except Exception:  # the sampling's own error is the one to show
        _log.warning("AnimateDiff could not remove ControlNet from the UNet.", exc_info=True)
    finally:
        script.latest_network = None


def failed_units(p: Any) -> int:
    """Number of enabled units that control nothing, since ControlNet's own preparation failed, which it only prints."""
    script = _script(p)
    if script is None or not hasattr(script, "latest_network"):
        return 0
    enabled = sum(map(_is_enabled, _arguments(p, script)))
    acting = len(getattr(script.latest_network, "control_params", None) or [])
    return max(enabled - acting, 0)


def _script(p: Any) -> Any:
    return next((script for script in a1111.scripts_of(p) if a1111.title_of(script) == _TITLE), None)


def _arguments(p: Any, script: Any) -> Sequence[Any]:
    return p.script_args[script.args_from : script.args_to]  # type: ignore[no-any-return]


def _is_enabled(unit: Any) -> bool:
    """Whether a unit, an object or an API client's dictionary, is enabled; a dictionary is unless it says otherwise."""
    if isinstance(unit, dict):
        return bool(unit.get("enabled", True))
    return bool(getattr(unit, "enabled", False))
