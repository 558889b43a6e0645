"""A whole clip in the real WebUI, beside a batch of as many pictures, from the API's request to its answer.

    WEBUI_DIR=... WEBUI_PYTHON=... python -m tools.benchmarks.webui_clip

The built-in model, 16 frames of 64 px, 20 steps, both streams in one call. The WebUI is the one that the end-to-end
tests take, and it has the variables that they take (docs/webui-tests.md).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from webui.server import WebUI  # noqa: E402

from lib_animatediff.builtin_model import POCKET, copy_to_webui  # noqa: E402
from lib_animatediff.sampling.text2video_zero import NAME  # noqa: E402

from .harness import FEWEST_ROUNDS, compare, conditions, spread  # noqa: E402

FRAMES = 16


def request(server: WebUI, steps: int, side: int, clip: dict[str, Any] | None) -> None:
    """Paint a batch of images, or a clip."""
    payload: dict[str, Any] = {
        "prompt": POCKET.prompt,
        "steps": steps,
        "width": side,
        "height": side,
        "cfg_scale": POCKET.cfg,
        "sampler_name": "Euler a",
        "override_settings": {"sd_model_checkpoint": POCKET.checkpoint},
    }
    if clip is None:
        server.txt2img(**payload, batch_size=FRAMES)
    else:
        arguments = {"enable": True, "frames": FRAMES, **clip}
        server.txt2img(**payload, alwayson_scripts={"AnimateDiff": {"args": [arguments]}})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="A clip in the WebUI, beside a batch of images.")
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--side", type=int, default=POCKET.size, help="of the pictures, in pixels")
    asked = parser.parse_args()
    if "WEBUI_DIR" not in os.environ:
        sys.exit("Set WEBUI_DIR to a WebUI 1.10 that starts.")
    webui = Path(os.environ["WEBUI_DIR"])
    python = Path(os.environ.get("WEBUI_PYTHON", webui / "venv" / "bin" / "python"))
    with tempfile.TemporaryDirectory() as folder, WebUI(webui, python, Path(folder), extensions=[REPOSITORY]) as server:
        copy_to_webui(server.data_dir, POCKET)
        server.api("POST", "/sdapi/v1/refresh-checkpoints").raise_for_status()
        clips: dict[str, dict[str, Any] | None] = {
            "a batch of images": None,
            "a clip, as GIF": {"model": POCKET.motion},
            "a clip, as single frames": {"model": POCKET.motion, "formats": ["PNG"]},
            NAME: {"model": NAME},
        }
        things = {
            name: lambda clip=clip: request(server, asked.steps, asked.side, clip) for name, clip in clips.items()
        }
        found = compare(things, asked.rounds)
    print(f"{FRAMES} frames of {asked.side} px, {asked.steps} steps, {asked.rounds} rounds; {conditions()}\n")
    print("|  | s | relative to the images |")
    print("|---|---|---|")
    for name in clips:
        print(f"| {name} | {found.median(name):.2f} | {spread(found.ratio(name, 'a batch of images'))} |")


if __name__ == "__main__":
    main()
