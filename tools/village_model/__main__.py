"""`python -m tools.village_model build`: the village model from nothing, stage by stage."""

from __future__ import annotations

from pathlib import Path

import click

from tools.pocket.building import BuildError, run_stages

from . import shipped, viewing
from .recipe import Recipe
from .report import CLIPS, write_report
from .stages import STAGES

OUT = Path("build/village")
SMOKE_OUT = Path("build/village-smoke")


@click.group()
def main() -> None:
    """The village model: a small Stable Diffusion of a world that moves."""


@main.command("build")
@click.option("--stage", type=click.Choice([stage.name for stage in STAGES]), default=STAGES[-1].name,
              help="The last stage to run; what it needs is built first.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), help="A smoke run: so many small steps of each stage.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False),
              help=f"Folder for everything  [default: {OUT}; {SMOKE_OUT} for a smoke run]")  # fmt: skip
@click.option("--seed", default=0, show_default=True)
@click.option("--trained", is_flag=True, help="Begin with the files that are kept here, in place of their stages.")
@click.option("--gates/--no-gates", default=True, help="Measure each stage, and stop where it is not good enough.")
def build_command(stage: str, steps: int | None, out: Path | None, seed: int, trained: bool, gates: bool) -> None:
    """Train and export. A finished stage is skipped, an interrupted one goes on where it stopped."""
    import torch

    recipe = Recipe(seed=seed)
    torch.set_num_threads(1 if steps else torch.get_num_threads())
    folder = out or (SMOKE_OUT if steps else OUT)
    if trained:
        shipped.restore(shipped.FOLDER, folder)
    try:
        run_stages(STAGES, recipe.smoke(steps) if steps else recipe, folder, stage, gates=gates, say=click.echo)
    except BuildError as error:
        raise click.ClickException(str(error)) from error


@main.command("evaluate")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=OUT, show_default=True)
@click.option("--page", type=click.Path(path_type=Path), default=Path("docs/village.md"), show_default=True)
@click.option("--clips", type=click.IntRange(min=1), default=CLIPS, show_default=True, help="Of the longest row.")
def evaluate_command(out: Path, page: Path, clips: int) -> None:
    """Measure a build's clips beside controls, and write a page about it."""
    write_report(Recipe(), out, page, click.echo, clips)


@main.command("show")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=OUT, show_default=True)
@click.option("--clips", type=click.IntRange(min=1), default=viewing.CLIPS, show_default=True)
def show_command(out: Path, clips: int) -> None:
    """Write clips for a viewer who does not see their captions."""
    click.echo(viewing.write_clips(out, clips))


@main.command("ship")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=OUT, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=shipped.FOLDER, show_default=True)
def ship_command(out: Path, folder: Path) -> None:
    """Copy what is kept from a build."""
    for path in shipped.ship(out, folder):
        click.echo(path)


if __name__ == "__main__":
    main()
