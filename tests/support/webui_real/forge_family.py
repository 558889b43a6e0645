"""A real Forge, reForge or Forge Neo whose tables know the small models, and what reaches its UNet."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .places import REPOSITORY
from .server import WebUI, pixels

HOSTS = ("FORGE", "REFORGE", "NEO")  # with _DIR, variables with the programs' folders; with _PYTHON, their Pythons
SPY = REPOSITORY / "tests" / "support" / "webui_real" / "forge_spy"


class ForgeFamily(WebUI):
    """One of the hosts, with this extension and the spy."""

    def __init__(self, host: str, workdir: Path) -> None:
        self.name = host
        folder = Path(os.environ[f"{host}_DIR"])
        python = Path(os.environ.get(f"{host}_PYTHON", folder / "venv" / "bin" / "python"))
        super().__init__(folder, python, workdir, extensions=[REPOSITORY, SPY])

    def calls(self) -> list[dict[str, Any]]:
        """What has reached the UNet since this was asked last."""
        path = self.data_dir / "unet_calls.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def frames(self, clip: dict[str, Any] | None = None, kind: str = "txt2img", **payload: Any) -> list[Any]:
        """The images of a request."""
        given = {"enable": True, "formats": ["PNG"], **clip} if clip is not None else None
        scripts = {} if given is None else {"alwayson_scripts": {"AnimateDiff": {"args": [given]}}}
        self.calls()
        answer = getattr(self, kind)(**payload, **scripts)
        return [pixels(answer, number) for number in range(len(answer["images"]))]
