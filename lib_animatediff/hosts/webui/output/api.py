"""What clients of the WebUI's API can ask about: motion modules, settings, version. See docs/api.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib_animatediff import __version__
from lib_animatediff.hosts.webui.catalog.models import available_models
from lib_animatediff.request.methods import WITHOUT_FILE
from lib_animatediff.request.settings import json_schema
from motion_module import inspect_motion_file

_FIELDS = ("what", "problem", "kind", "base", "parameters", "trained_length", "format", "dtype", "hint")

PREFIX = "/animatediff/v1"
_OF_THE_WEBUI = "/sdapi/v1/txt2img"


def add_routes(_demo: Any, app: Any) -> None:
    """Add our routes beside the WebUI's own, behind whatever authentication those have; without its API, none."""
    neighbours = [route for route in app.routes if getattr(route, "path", None) == _OF_THE_WEBUI]
    for neighbour in neighbours[:1]:
        for path, endpoint in (("/models", models), ("/schema", schema), ("/version", version)):
            app.add_api_route(PREFIX + path, endpoint, methods=["GET"], dependencies=neighbour.dependencies)


def models() -> list[dict[str, Any]]:
    """Every file in the list of motion modules, with what its header says of it; last, what works without any."""
    files = [{"name": name, **_header(path)} for name, path in available_models().items()]
    unknown = dict.fromkeys(_FIELDS)
    return [
        *files,
        *({"name": name, **unknown, "what": "motion without a motion module", "base": "any"} for name in WITHOUT_FILE),
    ]


def schema() -> dict[str, Any]:
    """The JSON schema of the script's one argument."""
    return json_schema()


def version() -> dict[str, str]:
    """Which AnimateDiff answers."""
    return {"version": __version__}


def _header(path: Path) -> dict[str, Any]:
    found = inspect_motion_file(path)
    return {name: getattr(found, name) for name in _FIELDS}
