"""The command `render`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from lib_animatediff.cli.options import AUTO, is_given, ray_option
from lib_animatediff.hosts.diffusers.pipeline import pick_device
from lib_animatediff.jobs.api_workers.api import WebUI
from lib_animatediff.jobs.many.errors import ManifestError, StoppedError
from lib_animatediff.jobs.many.manifest import read_defaults, read_manifest

from .api_workers import rows as webui_rows
from .api_workers.crew import WebUICrew
from .clips import Row, rows_of
from .crew import Crew
from .fields import FIELDS, named
from .progress import say
from .results import Results
from .run import NOTHING_RENDERED, Run
from .watching import RETRY, Watched

MOST_WORKERS = 64
_WHO_RENDERS = {"devices": "--devices", "ray": "--ray", "webuis": "--webui"}
_CPUS = re.compile(r"cpu:([0-9]{1,3})")
_SHARD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")
_FILE = click.Path(path_type=Path)


@dataclass(frozen=True)
class Shard:
    """Every n-th clip of a manifest, counted from the first one."""

    number: int = 1
    count: int = 1

    @property
    def part(self) -> str:
        """What names of files contain."""
        return "" if self.count == 1 else f"-{self.number}-of-{self.count}"


def _shard(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Shard:
    found = _SHARD.fullmatch(text or "1/1")
    shard = Shard(*map(int, found.groups())) if found else Shard(0)
    if not 1 <= shard.number <= shard.count:
        raise click.BadParameter(f"{text} is not a shard. Write I/N with I from 1 to N, such as 2/8.")
    return shard


def _devices(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    """PyTorch's names, one for each process: ``cpu:2`` means two processes on the CPU."""
    found: list[str] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        cpus = _CPUS.fullmatch(name)
        found += ["cpu"] * int(cpus[1]) if cpus else [pick_device(name) if name == AUTO else name]
    if not 1 <= len(found) <= MOST_WORKERS:
        raise click.BadParameter(f"{text} names {len(found)} devices. Name 1 to {MOST_WORKERS}.")
    return found


_DEVICES = click.option(
    "--devices",
    default=AUTO,
    show_default=True,
    callback=_devices,
    help="A process on each, such as cuda:0,cuda:1 or cpu:2, which is two processes on the CPU.",
)
_DEFAULTS = click.option(
    "--defaults", type=_FILE, help="JSON or YAML file with fields that all rows have unless they differ."
)


@click.command()
@click.argument("manifest", type=_FILE)
@_DEFAULTS
@click.option("--output", type=_FILE, help="Folder of the clips. Default: the manifest's name without its suffix.")
@_DEVICES
@ray_option("Render")
@click.option(
    "--webui", "webuis", multiple=True, help="Let the WebUI at this address render, by its API. May be repeated."
)
@click.option("--shard", callback=_shard, help="Render the I-th of N parts of the manifest: I/N, from 1/N to N/N.")
@click.option("--check", "only_check", is_flag=True, help="Check every row, write failed.jsonl, and render nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def render(
    manifest: Path,
    defaults: Path | None,
    output: Path | None,
    devices: list[str],
    ray: int | None,
    webuis: tuple[str, ...],
    shard: Shard,
    only_check: bool,
    as_json: bool,
) -> int:
    """Render every clip of MANIFEST: JSONL, CSV or YAML, whose rows have fields named as the options of animate.

    Finished clips are skipped, so the same command continues after an interruption. Rows that fail are written to
    failed.jsonl. The exit code is 0, 3 if some rows failed, or 4 if there is no clip.
    """
    if len(who := [option for name, option in _WHO_RENDERS.items() if is_given(name)]) > 1:
        raise click.UsageError(f"{' and '.join(who)} each say who renders. Give one of them.")
    try:
        fields = (webui_rows.named, webui_rows.FIELDS) if webuis else (named, FIELDS)
        common = read_defaults(defaults) if defaults else {}
        rows = of_shard(rows_of(read_manifest(manifest), common, *fields), shard)
        clips = sum(not row.elsewhere for row in rows)
        folder = output or manifest.with_suffix("")
        # No more processes or workers than there are clips.
        devices, ray = devices[: max(clips, 1)], ray and min(ray, max(clips, 1))
        with closing(_crew(list(map(WebUI, webuis)), devices, folder, ray)) as crew:
            run = Run(rows, folder, crew, Results(folder, manifest.stem, shard.part))
            if only_check:
                return run.report(run.check(keep_seeds=False), as_json)
            return run.render(run.check(), as_json)
    except (ManifestError, StoppedError) as error:
        say(f"Error: {error}")
        return NOTHING_RENDERED


def _crew(webuis: list[WebUI], devices: list[str], folder: Path, ray: int | None) -> Crew | WebUICrew:
    return WebUICrew(webuis, folder) if webuis else Crew(devices, folder, ray)


def of_shard(rows: list[Row], shard: Shard) -> list[Row]:
    """The rows of a shard, and those of the others that name a file, which may be the same."""
    elsewhere = (replace(row, elsewhere=(row.number - shard.number) % shard.count != 0) for row in rows)
    return [row for row in elsewhere if row.name or not row.elsewhere]


@click.command()
@click.argument("folder", type=_FILE)
@_DEFAULTS
@click.option("--output", type=_FILE, help="Folder of the clips. Default: clips in FOLDER.")
@_DEVICES
def watch(folder: Path, defaults: Path | None, output: Path | None, devices: list[str]) -> None:
    """Render each manifest that is put into FOLDER, until the command is interrupted.

    A JSON or YAML file with one object is a manifest of one row. A file that changes is rendered again, except for what
    is finished. After a full disk, a manifest is tried again. Models stay loaded.
    """
    common = read_defaults(defaults) if defaults else {}
    clips = output or folder / "clips"
    with closing(Crew(devices, clips)) as crew:
        watched = Watched(folder)
        for manifest in watched:
            say(f"{manifest.name}:")
            if _has_stopped(manifest, common, clips, crew):
                watched.retry(manifest)
                say(f"{manifest.name} is tried again in {RETRY:.0f} s.")


def _has_stopped(manifest: Path, common: Mapping[str, Any], clips: Path, crew: Crew) -> bool:
    """Render a manifest; whether it ended early, for a reason that has nothing to do with its rows."""
    try:
        rows = rows_of(read_manifest(manifest), common)
        run = Run(rows, clips, crew, Results(clips, manifest.stem, f"-{manifest.stem}"))
        run.render(run.check(), as_json=False)
    except ManifestError as error:
        say(f"Error: {error}")
        return False
    except StoppedError as error:
        say(f"Error: {error}")
        return True
    return run.stopped is not None
