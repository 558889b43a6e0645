"""Starts a real Forge or reForge as `server` starts the WebUI: a copy whose tables know the small models."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from .places import REPOSITORY
from .server import START_FLAGS, ServerError, WebUI, pixels

HOSTS = ("FORGE", "REFORGE")  # with _DIR, variables with the folders of the programs; with _PYTHON, of their Pythons
SPY = REPOSITORY / "tests" / "support" / "webui_real" / "forge_spy"
FLAGS = [flag for flag in START_FLAGS if "--no-half" not in flag and "--use-cpu" not in flag]
FLAGS = [flag for flag in FLAGS if flag not in ("--precision=full", "--do-not-download-clip")]


class ForgeFamily(WebUI):
    """One of the hosts, with this extension and the spy."""

    def __init__(self, host: str, workdir: Path) -> None:
        folder = Path(os.environ[f"{host}_DIR"])
        python = Path(os.environ.get(f"{host}_PYTHON", folder / "venv" / "bin" / "python"))
        super().__init__(
            folder, python, workdir, extensions=[REPOSITORY, SPY], settings={"show_progress_type": "Approx cheap"}
        )
        own = ["--gradio-allowed-path", str(folder), "--all-in-fp32"] if host == "FORGE" else []
        self._own_flags = ["--always-cpu", *own]

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

    def _command(self) -> list[str]:
        place = ["--server-name", "127.0.0.1", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        return [str(self.python), str(self.webui_dir / "launch.py"), *FLAGS, *place, *self._own_flags]

    def _wait_until_ready(self, deadline: float) -> None:
        """Returns when the API answers; Forge loads the checkpoint at the first request."""
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerError(f"the program ended while starting\n{self._log_tail()}")
            if "Startup time" in self.log_text() and self._answers():
                return
            time.sleep(0.3)
        raise ServerError(f"the program did not answer in time\n{self._log_tail()}")

    def _complete_settings(self) -> None:
        """Their options need no values."""
