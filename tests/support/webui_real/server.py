"""Starts the real WebUI on a private data folder with small random models, and talks to it: no GPU, no network."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy
import requests
from PIL import Image
from support.webui_real import small_models
from support.webui_real.hosts import host_of

START_TIMEOUT = 300.0
STOP_TIMEOUT = 20.0
REQUEST_TIMEOUT = 600.0

CHECKPOINT = "small.safetensors"
OTHER_CHECKPOINT = "other.safetensors"
SHARED_CONFIG_CHECKPOINT = "small.ckpt"
LORA = "small_lora"
LYCORIS = "small_loha"
VAE = "painters_vae"  # named like a checkpoint, it would be taken for it
UPSCALER = "small_esrgan"
EMBEDDING = "smallembedding"
HYPERNETWORK = "small_hypernetwork"
STYLE = "Blue"

# Written before the first start. The first group decides what happens at start; the options of the second run a
# callback when the API sets them for the first time, so they must be in the file before `complete_settings`.
SETTINGS: dict[str, Any] = {
    "sd_model_checkpoint": CHECKPOINT,
    "auto_launch_browser": "Disable",
    "randn_source": "CPU",
    "notification_audio": False,
    "gradio_theme": "Default",
    "sd_vae": "Automatic",
    "sd_vae_overrides_per_model_preferences": True,
    "temp_dir": "",
    "cross_attention_optimization": "Automatic",
    "fp8_storage": "Disable",
    "cache_fp16_weight": False,
    "disabled_extensions": [],
    "disable_all_extensions": "none",
}

PAYLOAD: dict[str, Any] = {
    "prompt": "a photo of a cat",
    "negative_prompt": "",
    "seed": 1,
    "steps": 4,
    "width": 64,
    "height": 64,
    "cfg_scale": 7,
    "sampler_name": "Euler a",
    "scheduler": "Automatic",
}

NOT_COPIED = (
    ".git", ".venv*", "venv", "node_modules", "__pycache__", "*.pyc", ".pytest_cache", ".ruff_cache", ".mypy_cache",
)  # fmt: skip

# Variables that would change what the server does, or break it.
UNWANTED_VARIABLES = (
    "COMMANDLINE_ARGS", "SD_WEBUI_RESTARTING", "SD_WEBUI_RESTART", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV",
)  # fmt: skip


class ServerError(RuntimeError):
    """The server did not start, died, or answered with an error."""


class WebUI:
    def __init__(
        self,
        webui_dir: Path,
        python: Path,
        workdir: Path,
        *,
        extensions: Iterable[Path] = (),
        extra_args: Sequence[str] = (),
        settings: dict[str, Any] | None = None,
        auth: tuple[str, str] | None = None,
        ui_config: dict[str, Any] | None = None,
    ):
        self.webui_dir = Path(webui_dir)
        self.host = host_of(self.webui_dir)
        self.python = Path(python)
        self.workdir = Path(workdir)
        self.extensions = [Path(path).resolve() for path in extensions]
        self.extra_args = [*extra_args, *(["--api-auth", ":".join(auth)] if auth else [])]
        self.auth = auth
        self.data_dir = self.workdir / "data"
        self.log_path = self.workdir / "webui.log"
        self.models_dir = self.data_dir / "models"
        self.outputs_dir = self.data_dir / "outputs"
        self.motion_modules_dir = self.models_dir / "animatediff"
        self.port = 0
        self._process: subprocess.Popen | None = None
        self._log_start = 0
        self._settings = {**SETTINGS, **self.host.settings, **(settings or {})}
        self._write_data_dir()
        if ui_config is not None:
            (self.data_dir / "ui-config.json").write_text(json.dumps(ui_config), encoding="utf-8")

    def __enter__(self) -> WebUI:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> WebUI:
        """Copies the extensions, starts the server and waits until the checkpoint is loaded and the API answers."""
        if self._process is not None:
            raise ServerError("the WebUI is running already")
        self._copy_extensions()
        self.port = free_port()
        try:
            self._spawn()
            self._wait_until_ready(time.monotonic() + START_TIMEOUT)
            self._complete_settings()
            if self.host.is_patched:
                self.txt2img(steps=1)  # loads the checkpoint
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Kills the server and everything it started."""
        process, self._process = self._process, None
        if process is None:
            return
        process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self) -> WebUI:
        """Stops and starts the server on the same data folder; the extensions are copied anew, the port changes."""
        self.stop()
        return self.start()

    def log_text(self) -> str:
        """What the server has printed since its last start."""
        return self.log_path.read_bytes()[self._log_start :].decode("utf-8", "replace")

    def api(self, method: str, path: str, json: Any = None, timeout: float = REQUEST_TIMEOUT) -> requests.Response:
        """Sends one request to the server and returns the answer, whatever its status."""
        with requests.Session() as session:
            # a proxy of the environment must not get to see requests to this machine
            session.trust_env = False
            return session.request(method, f"{self.url}{path}", json=json, timeout=timeout, auth=self.auth)

    def post(self, path: str, json: Any = None) -> Any:
        response = self.api("POST", path, json)
        if response.status_code != 200:
            raise ServerError(f"POST {path} answered {response.status_code}: {response.text}\n{self._log_tail()}")
        return response.json()

    def txt2img(self, **payload: Any) -> dict:
        return self.post("/sdapi/v1/txt2img", {**PAYLOAD, **self.host.defaults(payload), **payload})

    def from_infotext(self, text: str, **payload: Any) -> dict:
        """What txt2img makes of a text."""
        return self.post("/sdapi/v1/txt2img", {"infotext": text, **dict(self.host.beside_infotext), **payload})

    def img2img(self, **payload: Any) -> dict:
        return self.post("/sdapi/v1/img2img", {**PAYLOAD, **payload})

    def options(self) -> dict[str, Any]:
        return self.api("GET", "/sdapi/v1/options").json()

    def _write_data_dir(self) -> None:
        """Writes models and settings; models that an earlier instance wrote there are written again, identically."""
        checkpoints = self.models_dir / "Stable-diffusion"
        checkpoint = small_models.write_checkpoint(checkpoints, "small", seed=0)
        small_models.write_checkpoint(checkpoints, "small", seed=2, suffix=".ckpt", with_schedule=False)
        small_models.write_checkpoint(checkpoints, "other", seed=1)
        small_models.write_lora(self.models_dir / "Lora", LORA, checkpoint, seed=3)
        small_models.write_lycoris(self.models_dir / "Lora", LYCORIS, checkpoint, seed=6)
        small_models.write_vae(self.models_dir / "VAE", VAE, seed=7)
        small_models.write_upscaler(self.models_dir / "ESRGAN", UPSCALER, seed=8)
        small_models.write_embedding(self.data_dir / "embeddings", EMBEDDING, seed=4)
        small_models.write_hypernetwork(self.models_dir / "hypernetworks", HYPERNETWORK, seed=5)
        self.motion_modules_dir.mkdir(parents=True, exist_ok=True)
        styles = f'name,prompt,negative_prompt\n{STYLE},"{{prompt}}, blue",red\n'
        (self.data_dir / "styles.csv").write_text(styles, encoding="utf-8")
        config = self.data_dir / "config.json"
        if not config.exists():
            config.write_text(json.dumps(self._settings, indent=4), encoding="utf-8")

    def _copy_extensions(self) -> None:
        """Makes fresh copies of the extensions: the server must not write into the sources."""
        for source in self.extensions:
            target = self.data_dir / "extensions" / source.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(*NOT_COPIED))

    def _complete_settings(self) -> None:
        """Gives every option a value in the server and in config.json.

        The WebUI restores an API request's `override_settings` only for options that config.json holds; others keep
        the overriding value. The API cannot tell which ones are missing (it answers with defaults for them); all
        defaults stand in the page, in the settings' hidden text box.
        """
        held = json.loads((self.data_dir / "config.json").read_text(encoding="utf-8"))
        components = self.api("GET", "/config").json()["components"]
        told, *_ = (c["props"]["value"] for c in components if c["props"].get("elem_id") == "settings_json")
        missing = {k: v for k, v in json.loads(told).items() if k not in held and v is not None and k[0] != "_"}
        self.post("/sdapi/v1/options", missing)

    def _command(self) -> list[str]:
        place = ["--server-name", "127.0.0.1", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        if self.host.is_patched:  # their data folders are not allowed by themselves
            place += ["--gradio-allowed-path", str(self.webui_dir)]
        return [str(self.python), str(self.webui_dir / "launch.py"), *self.host.flags, *place, *self.extra_args]

    def _environment(self) -> dict[str, str]:
        """Offline, one thread, no flags but our own."""
        kept = {name: value for name, value in os.environ.items() if name not in UNWANTED_VARIABLES}
        one = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONUNBUFFERED")
        return {
            **kept,
            **dict.fromkeys(one, "1"),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_TEMP_DIR": str(self.workdir / "gradio"),
            "SD_WEBUI_LOG_LEVEL": "INFO",
        }

    def _spawn(self) -> None:
        """Starts the server under its guard, with its output appended to the log."""
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("guard.py")), *self._command()],
                cwd=self.webui_dir,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_until_ready(self, deadline: float) -> None:
        """Returns when the API answers and the checkpoint, which another thread loads, is in place."""
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerError(f"the WebUI ended while starting\n{self._log_tail()}")
            log = self.log_text()
            if "Stable diffusion model failed to load" in log:
                raise ServerError(f"the WebUI could not load the checkpoint\n{self._log_tail()}")
            # Asked any earlier, the WebUI cannot add its API any more.
            if "Startup time" in log and ("Model loaded in" in log or self.host.is_patched) and self._answers():
                return
            time.sleep(0.3)
        raise ServerError(f"the WebUI did not answer in {START_TIMEOUT:.0f} s\n{self._log_tail()}")

    def _answers(self) -> bool:
        """Whether the API is up (it is added after the page)."""
        try:
            return self.api("GET", "/sdapi/v1/options", timeout=30).status_code == 200
        except requests.RequestException:
            return False

    def _log_tail(self) -> str:
        tail = "\n".join(self.log_text().splitlines()[-60:])
        return f"--- end of {self.log_path} ---\n{tail}"


def free_port() -> int:
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def file_bytes(answer: dict, index: int = 0) -> bytes:
    """One file of an API answer: a PNG, or whatever clip an extension put there."""
    return base64.b64decode(answer["images"][index].split(",", 1)[-1])


def pixels(answer: dict, index: int = 0) -> numpy.ndarray:
    """Height x width x 3 bytes."""
    return numpy.asarray(Image.open(io.BytesIO(file_bytes(answer, index))).convert("RGB"))


def base64_image(image: Image.Image) -> str:
    """As the API takes images."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def open_page(page: Any, server: WebUI) -> None:
    """Opens the WebUI in a browser's page and waits until its scripts have run and the settings have arrived."""
    page.goto(server.url)
    page.locator("#tab_txt2img").wait_for(state="visible")
    # the tab is visible before the page's load events have filled in the settings and the checkpoint's box
    page.wait_for_function("typeof opts === 'object' && Object.keys(opts).length > 0")
    page.wait_for_function("!gradioApp().querySelector('#quicksettings .wrap.default:not(.hide)')")
