"""Stages of a build: each writes one result, and its gate says whether to go on. An interrupted build loses minutes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .gates import Gate
from .loop import load, replacing

SHEETS = "sheets"


class BuildError(Exception):
    """The build cannot go on; the message says why."""


@dataclass(frozen=True)
class Stage:
    """One step of the build.

    Attributes:
        name: for the command line.
        result: the file that is there when the stage is finished.
        needs: names of the recipe's parts that the result depends on.
        run: makes the result from a recipe in a folder; with a step to stop before, may return without one.
        gate: measures the result.
    """

    name: str
    result: str
    needs: tuple[str, ...]
    run: Callable[[Any, Path, int | None], None]
    gate: Callable[[Any, Path], list[Gate]]


def run_stages(
    stages: Sequence[Stage],
    recipe: Any,
    folder: Path,
    last: str = "",
    *,
    gates: bool = True,
    say: Callable[[str], None] = print,
    until: int | None = None,
) -> None:
    """Run every stage up to and including the last one that is not finished yet, and its gate.

    Args:
        stages: in their order.
        recipe: what to build: has `about`, which labels a result.
        folder: for results, states, figures and contact sheets.
        last: name of the last stage to run; all of them by default.
        gates: whether to measure, and to stop where a gate fails.
        say: prints a line.
        until: stop every stage before this step, as an interruption would.

    Raises:
        BuildError: a gate fails, or the folder holds a result of another recipe.
    """
    for stage in stages:
        _finish(stage, recipe, folder, say, until)
        if not (folder / stage.result).exists():
            return
        if gates:
            _pass(stage, recipe, folder, say)
        if stage.name == last:
            return


def _finish(stage: Stage, recipe: Any, folder: Path, say: Callable[[str], None], until: int | None) -> None:
    """Make a stage's result, unless it is there."""
    result = folder / stage.result
    if not result.exists():
        stage.run(recipe, folder, until)
        return
    about = load(result)[1]
    wanted = json.loads(json.dumps(recipe.about(*stage.needs)))
    if any(about.get(name) != value for name, value in wanted.items()):
        raise BuildError(f"{result} was made by another recipe. Remove it, or build into another folder with --out.")
    say(f"{stage.name}: finished before, {result}")


def _pass(stage: Stage, recipe: Any, folder: Path, say: Callable[[str], None]) -> None:
    """Measure a stage's result, unless that was done and passed."""
    figures = folder / "figures" / f"{stage.name}.json"
    result = folder / stage.result
    if figures.exists() and figures.stat().st_mtime >= result.stat().st_mtime:
        found = [Gate(**figure) for figure in json.loads(figures.read_text(encoding="utf-8"))]
    else:
        found = stage.gate(recipe, folder)
        with replacing(figures) as path:
            path.write_text(json.dumps([asdict(gate) for gate in found], indent=1), encoding="utf-8")
    for gate in found:
        say(str(gate))
    if not all(gate.passed for gate in found):
        figures.unlink()
        raise BuildError(f"The stage {stage.name} did not pass its gate. See the contact sheets in {folder / SHEETS}.")
