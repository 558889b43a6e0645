"""A whole clip in the real WebUI, beside a batch of as many images, from the API's request to its reply.

    WEBUI_DIR=... WEBUI_PYTHON=... python -m tools.benchmarks.webui_clip
    WEBUI_DIR=... WEBUI_PYTHON=... ANIMATEDIFF_PEER=... python -m tools.benchmarks.webui_clip --full

The built-in model, 16 frames of 64 px, 20 steps; with ``--full``, Stable Diffusion 1.5 and a v2 motion module at full
widths with random weights, 8 frames of 96 px, 3 steps, and beside them the existing extension, if ANIMATEDIFF_PEER is
the folder of a checkout. It has a WebUI of its own, which waits while the other one works. Peaks of memory are those of
one request each, and need Linux. The WebUI is the one that the end-to-end tests take (docs/webui-tests.md).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from support.webui_real.server import WebUI  # noqa: E402

from lib_animatediff.builtin_model import POCKET, copy_to_webui  # noqa: E402
from lib_animatediff.sampling.text2video_zero import NAME  # noqa: E402

from . import webui_models  # noqa: E402
from .harness import FEWEST_ROUNDS, compare, conditions, spread  # noqa: E402
from .peers import PEER  # noqa: E402

IMAGES = "a batch of images"
GIB = 2**30


@dataclass(frozen=True)
class Work:
    """What is made: files, and values of the request."""

    checkpoint: str
    motion: str
    frames: int
    side: int
    steps: int
    cfg: float
    prompt: str

    def request(self, server: WebUI, clip: dict[str, Any] | None) -> None:
        """Make a batch of images, or a clip with these arguments of the extension that the server has."""
        payload: dict[str, Any] = {
            "prompt": self.prompt,
            "steps": self.steps,
            "width": self.side,
            "height": self.side,
            "cfg_scale": self.cfg,
            "sampler_name": "Euler a",
            "override_settings": {"sd_model_checkpoint": self.checkpoint},
        }
        if clip is None:
            server.txt2img(**payload, batch_size=self.frames)
        else:
            server.txt2img(**payload, alwayson_scripts={"AnimateDiff": {"args": [{"enable": True, **clip}]}})

    def ours(self, **more: Any) -> dict[str, Any]:
        """Arguments of our clip."""
        return {"model": self.motion, "frames": self.frames, **more}


SMALL = Work(POCKET.checkpoint, POCKET.motion, 16, POCKET.size, 20, POCKET.cfg, POCKET.prompt)
FULL = Work(webui_models.CHECKPOINT, webui_models.MOTION, 8, 96, 3, 7.0, "a photo of a cat")


@contextmanager
def server_with(folder: Path, extension: Path, *, full: bool) -> Iterator[WebUI]:
    """A running WebUI with one extension and the models."""
    webui = Path(os.environ["WEBUI_DIR"])
    python = Path(os.environ.get("WEBUI_PYTHON", webui / "venv" / "bin" / "python"))
    motion = folder / "data" / "models" / "animatediff"
    server = WebUI(webui, python, folder, extensions=[extension], settings={"animatediff_model_path": str(motion)})
    if full:
        webui_models.write_checkpoint(server.models_dir / "Stable-diffusion")
        webui_models.write_motion(motion)
    else:
        copy_to_webui(server.data_dir, POCKET)
    with server:
        if full:  # the existing extension changes the UNet before a request loads its checkpoint
            server.post("/sdapi/v1/options", {"sd_model_checkpoint": webui_models.CHECKPOINT})
        yield server


def peak(server: WebUI, request: Callable[[], object]) -> float:
    """The most resident memory of a server during a request, in GiB."""
    guard = server._process.pid  # type: ignore[union-attr]
    (worker,) = Path(f"/proc/{guard}/task/{guard}/children").read_text(encoding="ascii").split()
    Path(f"/proc/{worker}/clear_refs").write_text("5", encoding="ascii")
    request()
    lines = Path(f"/proc/{worker}/status").read_text(encoding="ascii").splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) * 1024 / GIB


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="A clip in the WebUI, beside a batch of images.")
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS)
    parser.add_argument(
        "--full", action="store_true", help="full widths with random weights, and the existing extension"
    )
    asked = parser.parse_args()
    if "WEBUI_DIR" not in os.environ:
        sys.exit("Set WEBUI_DIR to a WebUI 1.10 that starts.")
    work = FULL if asked.full else SMALL
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ours = stack.enter_context(server_with(Path(folder) / "ours", REPOSITORY, full=asked.full))
        ways: dict[str, tuple[WebUI, dict[str, Any] | None]] = {
            IMAGES: (ours, None),
            "a clip, as GIF": (ours, work.ours(formats=["GIF"])),
        }
        if asked.full and PEER in os.environ:
            theirs = stack.enter_context(server_with(Path(folder) / "theirs", Path(os.environ[PEER]), full=True))
            arguments = {
                "model": work.motion,
                "video_length": work.frames,
                "batch_size": work.frames,
                "format": ["GIF"],
            }
            ways["the existing extension, as GIF"] = (theirs, arguments)
        elif not asked.full:
            ways["a clip, as single frames"] = (ours, work.ours(formats=["PNG"]))
            ways[NAME] = (ours, work.ours(model=NAME))
        things = {
            name: lambda server=server, clip=clip: work.request(server, clip) for name, (server, clip) in ways.items()
        }
        found = compare(things, asked.rounds)
        peaks = {name: peak(server, things[name]) for name, (server, _) in ways.items() if sys.platform == "linux"}
    print(f"{work.frames} frames of {work.side} px, {work.steps} steps, {asked.rounds} rounds; {conditions()}\n")
    print("|  | s | relative to the images | peak, GiB |")
    print("|---|---|---|---|")
    for name in ways:
        memory = f"{peaks[name]:.2f}" if name in peaks else ""
        print(f"| {name} | {found.median(name):.2f} | {spread(found.ratio(name, IMAGES))} | {memory} |")
    for name in list(ways)[2:]:
        print(f"\nA clip, as GIF, takes {spread(found.ratio('a clip, as GIF', name))} of {name}.")


if __name__ == "__main__":
    main()
