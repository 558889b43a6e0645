"""HTTP routes: for clients motion modules, settings and version, see docs/api.md; for the page help and folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib_animatediff import __version__
from lib_animatediff.hosts.webui.catalog.models import available_models
from lib_animatediff.hosts.webui.catalog.unfinished import asking_to_resume, unfinished_clips
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.request.methods import WITHOUT_FILE
from lib_animatediff.request.settings import json_schema
from motion_module import inspect_motion_file

from .help_page import help_page

_FIELDS = ("what", "problem", "kind", "base", "parameters", "trained_length", "format", "dtype", "hint")

PREFIX = "/animatediff/v1"
_WEBUI_ROUTE = "/sdapi/v1/txt2img"


def add_routes(_demo: Any, app: Any) -> None:
    """Add our routes to the WebUI's server.

    Those for clients are part of the WebUI's API, with the same authentication; without the API, there are none. Those
    for the page are always there, as the page does not have the API's password.
    """
    existing = [route for route in app.routes if getattr(route, "path", None) == _WEBUI_ROUTE]
    for route in existing[:1]:
        endpoints = {"/models": models, "/schema": schema, "/version": version, "/unfinished": unfinished}
        for path, endpoint in endpoints.items():
            app.add_api_route(PREFIX + path, endpoint, methods=["GET"], dependencies=route.dependencies)
    app.add_api_route(f"{PREFIX}/troubleshooting", troubleshooting, methods=["GET"], include_in_schema=False)
    app.add_api_route(f"{PREFIX}/open-folder", open_folder, methods=["PUT"], include_in_schema=False)


def models() -> list[dict[str, Any]]:
    """Every file in the list of motion modules, with data from its header, then the methods without a file."""
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
    """The version of AnimateDiff."""
    return {"version": __version__}


def unfinished() -> list[dict[str, Any]]:
    """The clips that were interrupted while they were sampled, the newest first."""
    return [
        {"tab": each.header.tab, "infotext": asking_to_resume(each.header.infotext), "calls": each.count}
        for each in unfinished_clips()
    ]


def troubleshooting() -> Any:
    """The page that explains error codes."""
    from fastapi.responses import HTMLResponse

    return HTMLResponse(help_page())


def open_folder(shown: dict[str, str]) -> dict[str, bool]:
    """Open the folder of a file on the server's own screen, if the WebUI has shown this file on the page.

    It takes PUT, which browsers let no page of another site send without the server's consent.
    """
    file = Path(shown.get("file", ""))
    return {"opened": a1111.page_may_read(file) and a1111.open_folder(file.parent)}


def _header(path: Path) -> dict[str, Any]:
    found = inspect_motion_file(path)
    return {name: getattr(found, name) for name in _FIELDS}
