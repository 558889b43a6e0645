"""The commands `inspect` and `convert`: identify motion module files, and write them in another format."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from motion_module import MotionFileInfo, convert_motion_file, inspect_motion_file
from motion_module.files.diffusers_format import is_motion_adapter
from motion_module.files.weights import MOTION_FILE_SUFFIXES
from motion_module.kinds import BASES, KINDS
from motion_module.limits import is_folder, printable

_PATH = click.Path(path_type=Path)
_MILLION = 1_000_000
_COLUMNS = ("file", "kind", "for", "weights", "frames", "schedule", "format", "precision")
KIND_OPTION = click.option(
    "--kind", type=click.Choice(list(KINDS)), help="Kind of the motion module, if its file is ambiguous."
)


@click.command()
@click.argument("files", type=_PATH, nargs=-1, required=True)
@KIND_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects.")
def inspect(files: tuple[Path, ...], kind: str | None, as_json: bool) -> None:
    """Identify FILES: the kind of motion module, or another type of file. Folders are searched. Nothing is loaded."""
    inspected = [info for path in files for info in _inspected(path, kind)]
    if as_json:
        click.echo(json.dumps([asdict(info) for info in inspected], indent=2))
        return
    modules = [info for info in inspected if info.problem is None or info.guide is not None]
    if modules:
        click.echo(printable("\n".join(_aligned([_COLUMNS, *map(_row, modules)]))))
    for info in modules:
        if info.hint:
            click.echo(printable(f"{info.name}: {info.hint}"))
    for info in inspected:
        if info.problem is not None:
            click.echo(printable(info.problem))


def _inspected(path: Path, kind: str | None) -> Iterator[MotionFileInfo]:
    if not is_folder(path) or is_motion_adapter(path):
        yield inspect_motion_file(path, kind=kind)
        return
    files = sorted(_weights_in(path))
    for file in files:
        yield inspect_motion_file(file, kind=kind)
    if not files:
        suffixes = ", ".join(MOTION_FILE_SUFFIXES)
        yield MotionFileInfo(
            path.name,
            "a folder without weights",
            problem=f"{path} and its subfolders contain no weights files ({suffixes}). Check the path.",
        )


def _weights_in(folder: Path) -> Iterator[Path]:
    """Weights files in a folder and its subfolders, links included; each folder once."""
    seen = set()
    for path, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:  # a link to a folder that was visited
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(path, name) for name in names if name.lower().endswith(MOTION_FILE_SUFFIXES))


def _row(info: MotionFileInfo) -> tuple[str, ...]:
    assert info.base is not None
    assert info.parameters is not None
    return (
        info.name,
        info.kind or info.guide or "",
        BASES[info.base],
        f"{info.parameters / _MILLION:.1f} M",
        str(info.trained_length),
        f"{info.schedule.name} to {info.schedule.beta_end:.3f}" if info.schedule else "-",
        f"{info.format}, {info.container}",
        str(info.dtype),
    )


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


@click.command()
@click.argument("source", type=_PATH)
@click.argument("target", type=_PATH)
@click.option(
    "--to",
    type=click.Choice(["official", "adapter"]),
    default="official",
    show_default=True,
    help="official: safetensors in AnimateDiff's format. adapter: the folder of a diffusers MotionAdapter.",
)
@KIND_OPTION
@click.option("--force", is_flag=True, help="Replace TARGET if it exists.")
def convert(source: Path, target: Path, to: Literal["official", "adapter"], kind: str | None, force: bool) -> None:
    """Write SOURCE to TARGET in another format, with the same weights: a motion module, or a file that steers clips."""
    lost = convert_motion_file(source, target, to=to, kind=kind, force=force)
    click.echo(target)
    for sentence in lost:
        click.echo(sentence, err=True)
