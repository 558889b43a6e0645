"""The fixture of the glue's tests: the double of the WebUI with our script on both tabs, painting on a real UNet."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import hosts
from support.motion_files import write_motion_file
from support.motions import inspected_once, read_once
from support.webui_double import components, double, noises
from support.webui_double.controlled import painting_controlled, write_walk
from support.webui_double.double import SIDE, SdModel, shared

import lib_animatediff


class WebUI:
    """What a test holds: makes requests of a tab and paints them."""

    def __init__(self, checkpoint: SdModel, folder: Path) -> None:
        self.checkpoint = checkpoint
        self.fields: dict[str, Any] = {}  # of every request that does not say otherwise
        self.models_folder = folder / "models" / "animatediff"
        self.outputs = folder / "outputs"
        self.made = double.modules(folder / "models")
        self.tabs = {tab: getattr(self.made["modules.scripts"], f"scripts_{tab}") for tab in ("txt2img", "img2img")}

    def module(self, name: str) -> Any:
        """A module of the WebUI, or of `hosts.webui`."""
        return self.made.get(f"modules.{name}") or importlib.import_module(f"lib_animatediff.hosts.webui.{name}")

    def load_script(self, kind: Callable[[], Any]) -> None:
        """Each tab gets an instance of its own."""
        for tab, runner in self.tabs.items():
            runner.add(kind(), tab == "img2img")

    def our_script(self, tab: str = "txt2img") -> Any:
        return self.tabs[tab].alwayson_scripts[0]

    def p(self, *args: object, tab: str = "txt2img", **fields: Any) -> Any:
        """A processing object, as part of whatever request is running."""
        kind = double.Txt2Img if tab == "txt2img" else double.Img2Img
        p = kind(outpath_samples=str(self.outputs), scripts=self.tabs[tab], **{**self.fields, **fields})
        p.script_args = p.scripts.arguments(*args)
        return p

    def request(self, *args: object, **fields: Any) -> Any:
        """The processing object of a new request."""
        shared.state.begin()
        return self.p(*args, **fields)

    def paint(self, *args: object, **fields: Any) -> Any:
        """A whole request."""
        return double.process_images(self.request(*args, **fields))

    double = double

    def picture(self) -> bytes:
        """A plain picture, always with the same words and seed."""
        (image,) = self.paint({"enable": False}).images
        return image.tobytes()


@pytest.fixture(autouse=True, scope="session")
def _compiled_once() -> Iterator[None]:
    """Each test imports the glue anew, which is compiled once also where Python writes no bytecode."""
    own, get_code = str(Path(lib_animatediff.__file__).parent), SourceFileLoader.get_code
    compiled: dict[tuple[str, str], Any] = {}

    def known(loader: SourceFileLoader, name: str) -> Any:
        if not loader.path.startswith(own):
            return get_code(loader, name)
        if (name, loader.path) not in compiled:
            compiled[name, loader.path] = get_code(loader, name)
        return compiled[name, loader.path]

    methods = cache(lambda text: compile(text, "<string>", "exec"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SourceFileLoader, "get_code", known)
        # Dataclasses write their methods as text.
        patch.setattr(dataclasses, "exec", lambda text, *names: exec(methods(text), *names), raising=False)
        yield


@pytest.fixture(scope="session")
def motion_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_motion_file(tmp_path_factory.mktemp("motion"))


def new_checkpoint(seed: int) -> SdModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SdModel(hosts.ldm_unet())


@pytest.fixture(scope="session")
def checkpoint() -> SdModel:
    return new_checkpoint(0)


@pytest.fixture(scope="session")
def other_checkpoint() -> SdModel:
    return new_checkpoint(1)


@pytest.fixture
def webui(tmp_path: Path, checkpoint: SdModel, motion_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebUI]:
    """Nothing of it stays in `sys.modules`; no hook of a script may have raised, and no forward hook may be left."""
    double.begin(checkpoint)
    webui = WebUI(checkpoint, tmp_path)
    webui.models_folder.mkdir(parents=True)
    (webui.models_folder / "mm.safetensors").symlink_to(motion_file)
    with double.in_place(webui.made):
        models = webui.module("catalog.models")
        load = models.load_motion_module
        monkeypatch.setattr(
            models, "load_motion_module", lambda path, **kind: load(path, **kind) if kind else read_once(path.resolve())
        )
        monkeypatch.setattr(models, "inspect_motion_file", inspected_once)
        webui.load_script(webui.module("hooks.script").AnimateDiffScript)
        shared.cfg_denoiser_callbacks.append(webui.module("hooks.script").before_denoising)
        yield webui
    left = double.count_hooks(checkpoint)
    for part in checkpoint.modules():
        part._forward_hooks.clear()
    assert not shared.swallowed
    assert not left
    components.Component.created.clear()


@pytest.fixture
def glue(tmp_path: Path) -> Iterator[Any]:
    """Our module of the clip's noise."""
    with noises.on_the_double(tmp_path) as module:
        yield module


@pytest.fixture
def uploads(monkeypatch, tmp_path_factory):
    """The folder of uploads."""
    folder = tmp_path_factory.mktemp("uploads")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder / "animatediff"


@pytest.fixture
def images(webui, uploads):
    """Two images in the WebUI's folder."""
    folder = webui.outputs.parent / "in"
    folder.mkdir()
    made = {}
    for name, red in (("a", 100), ("b", 200)):
        made[name] = Image.new("RGB", (SIDE, SIDE), (red, 0, 0))
        made[name].save(folder / f"{name}.png")
    return made


@pytest.fixture
def controlled(webui, monkeypatch):
    """Renders with units."""
    return painting_controlled(webui, monkeypatch)


@pytest.fixture
def walk(webui):
    """A folder in which image i is `level(i)` bright."""
    return write_walk(webui)


@pytest.fixture
def watched(webui, monkeypatch):
    """Notes the share and the text of the bar whenever a text is shown."""
    seen = []
    bar = webui.module("hooks.progress.bar").ProgressBar
    say = bar.say

    def noted(self, text=""):
        say(self, text)
        seen.append((shared.state.progress, text))

    monkeypatch.setattr(bar, "say", noted)
    return seen
