"""The command `animate`. What is in the settings table becomes an option by itself."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from lib_animatediff.injection import check_frames
from lib_animatediff.settings import SETTINGS, Setting, clip_frames, parse_settings
from lib_animatediff.standalone import pipeline as host
from lib_animatediff.video import write_gif
from motion_module import ClipError, load_motion_module

TABLE_OPTIONS = [s for s in SETTINGS.values() if s.name not in ("enable", "model")]


def _with_table_options(command: Callable[..., None]) -> Callable[..., None]:
    for setting in reversed(TABLE_OPTIONS):
        command = _option(setting)(command)
    return command


def _option(setting: Setting) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        f"--{setting.name.replace('_', '-')}",
        setting.name,
        type=setting.type,
        default=setting.default,
        show_default=True,
        help=setting.help,
    )


_FILE = click.Path(path_type=Path)


@click.command()
@click.option(
    "--checkpoint", type=_FILE, required=True, help="Stable Diffusion 1.5 checkpoint, a .safetensors or .ckpt file."
)
@click.option("--motion", "--model", "model", type=_FILE, required=True, help="Motion module, such as v3_sd15_mm.ckpt.")
@click.option("--prompt", required=True, help="What the clip shows.")
@click.option("--negative-prompt", default="", help="What it should not show.")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="Same seed, same clip; there is no -1 for a random one. Frame i takes seed + i.",
)
@_with_table_options
@click.option("--width", default=512, show_default=True, help="In pixels, a multiple of 8.")
@click.option("--height", default=512, show_default=True, help="In pixels, a multiple of 8.")
@click.option("--steps", default=25, show_default=True, help="Sampling steps. More is slower and cleaner.")
@click.option("--cfg", default=7.5, show_default=True, help="How strictly the prompt is followed.")
@click.option(
    "--config",
    type=_FILE,
    help="Folder with tokenizer and configs. Default: one named config beside the checkpoint, or that of SD 1.5.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or mps.")
@click.option("--output", type=_FILE, default=Path("clip.gif"), show_default=True, help="The GIF to write.")
def animate(
    checkpoint: Path,
    model: Path,
    prompt: str,
    negative_prompt: str,
    seed: int,
    width: int,
    height: int,
    steps: int,
    cfg: float,
    config: Path | None,
    device: str,
    output: Path,
    **table: Any,
) -> None:
    """Write a clip of a prompt."""
    settings = parse_settings(table)
    frames = clip_frames(settings)
    # All that can be refused is refused before the checkpoint is loaded, the quick checks first.
    host.check_request(seed=seed, size=(width, height), steps=steps, cfg=cfg)
    _check_output(output)
    host.check_host(checkpoint, device)
    config = host.find_config(checkpoint, config)
    motion = load_motion_module(model)
    check_frames(motion, frames)
    pipeline = host.load_pipeline(checkpoint, config=config, device=device)
    pipeline.set_progress_bar_config(disable=True)
    with click.progressbar(length=steps, label="Sampling", file=sys.stderr) as bar:
        pictures = host.animate(
            pipeline,
            motion,
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            frames=frames,
            size=(width, height),
            steps=steps,
            cfg=cfg,
            on_step=lambda: bar.update(1),
        )
    with _writing(output):
        write_gif(output, pictures, fps=settings.fps, loop_count=settings.loop_count, comment=prompt)
    click.echo(output)


def _check_output(output: Path) -> None:
    if output.suffix.lower() != ".gif":
        raise ClipError(f"{output}: this version writes GIF only. Let --output end in .gif.")
    if output.is_dir():
        raise ClipError(f"{output} is a folder. Choose another --output.")
    with _writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output.parent).close()  # permissions alone do not tell (read-only mounts, root)


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ClipError(f"{output} cannot be written ({error.strerror}). Choose another --output.") from error
