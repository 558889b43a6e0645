"""ControlNet in context windows in the real WebUI, beside what the extension alone takes for the same rows.

    WEBUI_DIR=... WEBUI_PYTHON=... CONTROLNET_DIR=... python -m tools.benchmarks.webui_controlnet
    WEBUI_DIR=... WEBUI_PYTHON=... CONTROLNET_DIR=... python -m tools.benchmarks.webui_controlnet --small

Stable Diffusion 1.5, a v2 motion module and a ControlNet at full widths with random weights; with ``--small``, the
checkpoints and models of the end-to-end tests. A clip in windows without overlap has the rows of as many batches of a
window's length. What a unit adds to the clip is compared with what it adds to the batches, so that motion and decoding
do not count. Peaks of memory are those of the server for clips of 32 to 400 frames, and need Linux.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from PIL import Image  # noqa: E402
from support.webui_real.places import TROUBLE  # noqa: E402
from support.webui_real.server import NOT_COPIED, WebUI, base64_image  # noqa: E402

from . import webui_models  # noqa: E402
from .harness import FEWEST_ROUNDS, compare, conditions, spread  # noqa: E402
from .webui_clip import peak  # noqa: E402

CONTROLNET = "CONTROLNET_DIR"
NAME = "random_sd15_canny"  # the extension reads the base from it
IMAGES, CLIP = "batches of images", "a clip in windows"
WITH = " with ControlNet"
MOST = 1.05  # of what a unit adds to batches


@dataclass(frozen=True)
class Work:
    """What is made.

    Attributes:
        model: of the unit.
        motion: of clips; empty: the server's choice.
        window: frames of a context window, and images of a batch.
        windows: their number.
        lengths: of the clips whose memory is measured.
    """

    model: str
    motion: str
    window: int
    windows: int
    side: int
    steps: int
    lengths: tuple[int, ...] = (32, 100, 200, 400)

    def request(self, server: WebUI, frames: int = 0, *, controlled: bool, folder: str = "") -> None:
        """Make batches of images, or a clip of a number of frames, with a unit or without."""
        payload: dict[str, Any] = {"prompt": "a cat", "steps": self.steps, "sampler_name": "Euler a"}
        payload |= {"width": self.side, "height": self.side, "alwayson_scripts": {}}
        scripts = payload["alwayson_scripts"]
        if controlled:
            image = base64_image(Image.linear_gradient("L").resize((self.side, self.side)).convert("RGB"))
            unit = {"enabled": True, "module": "none", "model": self.model, "image": None if frames else image}
            scripts["ControlNet"] = {"args": [unit]}
        if not frames:
            server.txt2img(**payload, batch_size=self.window, n_iter=self.windows)
            return
        clip = {"enable": True, "model": self.motion, "frames": frames, "formats": ["GIF"]}
        clip |= {"context_kind": "batched", "context_length": self.window, "overlap": 0}
        clip |= {"control_images": f"0: {folder}", "control_fill": "loop"} if controlled else {}
        scripts["AnimateDiff"] = {"args": [clip]}
        server.txt2img(**payload)


def small_or_full(server: WebUI, *, full: bool) -> Work:
    """Write the models; returns what is made with them."""
    from support.motion_files import write_motion_file
    from support.webui_real import small_control

    folder = server.models_dir / "ControlNet"
    if not full:
        write_motion_file(server.motion_modules_dir, "v2")
        small_control.write_control_model(folder)
        return Work(
            small_control.NAME, "mm_small_v2.safetensors", window=4, windows=2, side=64, steps=2, lengths=(8, 32)
        )
    webui_models.write_checkpoint(server.models_dir / "Stable-diffusion")
    webui_models.write_motion(server.motion_modules_dir)
    webui_models.write_controlnet(folder / f"{NAME}.safetensors")
    return Work(NAME, webui_models.MOTION, window=8, windows=2, side=64, steps=3, lengths=(32, 400))


@contextmanager
def controlled_server(folder: Path, *, full: bool) -> Iterator[tuple[WebUI, Work]]:
    """A running WebUI with both extensions and the models, and what it makes."""
    webui = Path(os.environ["WEBUI_DIR"])
    python = Path(os.environ.get("WEBUI_PYTHON", webui / "venv" / "bin" / "python"))
    beside = folder / "controlnet"
    shutil.copytree(os.environ[CONTROLNET], beside, ignore=shutil.ignore_patterns(*NOT_COPIED))
    # The extension of the tests gives ControlNet the widths of the small models.
    extensions = [REPOSITORY, beside, *([] if full else [TROUBLE])]
    server = WebUI(webui, python, folder / "webui", extensions=extensions)
    work = small_or_full(server, full=full)
    with server:
        if full:
            server.post("/sdapi/v1/options", {"sd_model_checkpoint": webui_models.CHECKPOINT})
        yield server, work


def write_hints(server: WebUI, work: Work) -> str:
    """A folder with as many images as the longest clip has frames; returns its path for the WebUI."""
    folder = server.data_dir / "in" / "hints"
    folder.mkdir(parents=True)
    for frame in range(max(work.lengths)):
        Image.new("RGB", (work.side, work.side), (frame % 256,) * 3).save(folder / f"{frame:04}.png")
    return "in/hints"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="ControlNet in context windows, beside the extension alone.")
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS)
    parser.add_argument("--small", action="store_true", help="the models of the end-to-end tests, to try the command")
    asked = parser.parse_args()
    if not {"WEBUI_DIR", CONTROLNET} <= set(os.environ):
        sys.exit(f"Set WEBUI_DIR to a WebUI 1.10 that starts, and {CONTROLNET} to sd-webui-controlnet.")
    with (
        tempfile.TemporaryDirectory() as folder,
        controlled_server(Path(folder), full=not asked.small) as (server, work),
    ):
        hints, frames = write_hints(server, work), work.window * work.windows

        def making(length: int, *, controlled: bool) -> Any:
            return lambda: work.request(server, length, controlled=controlled, folder=hints)

        found = compare(
            {
                IMAGES: making(0, controlled=False),
                IMAGES + WITH: making(0, controlled=True),
                CLIP: making(frames, controlled=False),
                CLIP + WITH: making(frames, controlled=True),
            },
            asked.rounds,
        )
        briefly = replace(work, steps=1)  # a step takes as much memory as many
        peaks = {
            length: [
                peak(server, partial(briefly.request, server, length, controlled=controlled, folder=hints))
                for controlled in (False, True)
            ]
            for length in (work.lengths if sys.platform == "linux" else ())
        }
    added = found.less(CLIP + WITH, CLIP, "clip").less(IMAGES + WITH, IMAGES, "images")
    print(f"{frames} frames of {work.side} px in {work.windows} windows, {work.steps} steps; {conditions()}\n")
    print("|  | s | with ControlNet, s |")
    print("|---|---|---|")
    for name in (IMAGES, CLIP):
        print(f"| {name} | {found.median(name):.2f} | {found.median(name + WITH):.2f} |")
    print(f"\nControlNet adds to the clip {spread(added.ratio('clip', 'images'))} of what it adds to the images.")
    print(f"The bar is {MOST}.")
    print("\n| frames | peak, GiB | with ControlNet, GiB |")
    print("|---|---|---|")
    for length, (without, controlled) in peaks.items():
        print(f"| {length} | {without:.2f} | {controlled:.2f} |")


if __name__ == "__main__":
    main()
