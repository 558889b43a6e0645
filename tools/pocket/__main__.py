"""`python -m tools.pocket build`: the pocket model from nothing, stage by stage."""

from __future__ import annotations

from pathlib import Path

import click

from .building import BuildError
from .recipe import Recipe
from .stages import STAGES, build

OUT = Path("build/pocket")
SHIPPED = Path("lib_animatediff/builtin_model/pocket")
SMOKE_OUT = Path("build/pocket-smoke")


@click.group()
def main() -> None:
    """The pocket model: a tiny Stable Diffusion and its small world."""


@main.command("build")
@click.option("--stage", type=click.Choice([stage.name for stage in STAGES]), default=STAGES[-1].name,
              help="The last stage to run; what it needs is built first.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), help="A smoke run: so many small steps of each stage.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False),
              help=f"Folder for everything  [default: {OUT}; {SMOKE_OUT} for a smoke run]")  # fmt: skip
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Threads to compute with  [default: torch's]")
@click.option("--gates/--no-gates", default=True, help="Measure each stage, and stop where it is not good enough.")
def build_command(stage: str, steps: int | None, out: Path | None, seed: int, threads: int | None, gates: bool) -> None:
    """Train and export. A finished stage is skipped, an interrupted one goes on where it stopped."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    recipe = Recipe(seed=seed)
    folder = out or (SMOKE_OUT if steps else OUT)
    try:
        build(recipe.smoke(steps) if steps else recipe, folder, stage, gates=gates, say=click.echo)
    except BuildError as error:
        raise click.ClickException(str(error)) from error


@main.command("evaluate")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=SHIPPED, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=OUT, show_default=True,
              help="Folder of the build, for the fine-tuned checkpoint.")  # fmt: skip
@click.option("--page", type=click.Path(path_type=Path), default=Path("docs/pocket.md"), show_default=True)
def evaluate_command(folder: Path, out: Path, page: Path) -> None:
    """Measure the built-in model's motion beside controls, and write a page about it."""
    from .report import write_report
    from .style import FINE_TUNED

    tuned = out / f"{FINE_TUNED}.safetensors"
    write_report(folder, tuned if tuned.is_file() else None, page, click.echo)


@main.command("show")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=SHIPPED, show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), default=Path("docs/images/pocket.gif"), show_default=True)
def show_command(folder: Path, picture: Path) -> None:
    """Make the picture that the README opens with."""
    from .showcase import write_showcase

    write_showcase(folder, picture)


@main.command("control")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=SHIPPED, show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), default=Path("docs/images/control.gif"), show_default=True)
def control_command(folder: Path, picture: Path) -> None:
    """Measure how well sprites follow drawn paths, and make a picture of it."""
    from .following import measure_paths, write_picture

    write_picture(folder, picture)
    for line in measure_paths(folder):
        click.echo(line)


@main.command("keys")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=SHIPPED, show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), default=Path("docs/images/keys.gif"), show_default=True)
@click.option("--figures", type=click.Path(path_type=Path, dir_okay=False), default=OUT / "figures" / "keys.json",
              show_default=True, help="Keeps what is measured; remove it to measure again.")  # fmt: skip
@click.option("--clips", type=click.IntRange(min=1), default=48, show_default=True, help="Clips of each row.")
@click.option("--page", type=click.Path(path_type=Path), default=Path("docs/pocket-keys.md"), show_default=True)
def keys_command(folder: Path, picture: Path, figures: Path, clips: int, page: Path) -> None:
    """Measure clips that are given images at frames, by each method, and write a page with a picture of them."""
    from .keys import Models, measure_keys, write_page, write_picture

    lines = list(measure_keys(Models.load(folder).methods(), figures, clips))
    write_picture(folder, picture)
    write_page(lines, page, picture)


@main.command("train-camera")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=OUT, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Instead of the recipe's; more go on where it stopped.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Threads to compute with  [default: torch's]")
def train_camera_command(out: Path, steps: int | None, seed: int, threads: int | None) -> None:
    """Train a CameraCtrl model in the folder of a finished build."""
    from dataclasses import replace

    import torch

    from .camera import RESULT, train_camera

    if threads:
        torch.set_num_threads(threads)
    recipe = Recipe(seed=seed)
    train_camera(replace(recipe, camera=replace(recipe.camera, steps=steps or recipe.camera.steps)), out)
    click.echo(out / RESULT)


@main.command("cameras")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=SHIPPED, show_default=True)
@click.option("--model", type=click.Path(path_type=Path, dir_okay=False), help="Another CameraCtrl model.")
@click.option("--figures", type=click.Path(path_type=Path, dir_okay=False), default=OUT / "figures" / "cameras.json",
              show_default=True, help="Keeps what is measured; remove it to measure again.")  # fmt: skip
@click.option("--clips", type=click.IntRange(min=1), default=12, show_default=True, help="Clips of each move.")
@click.option("--picture", type=click.Path(path_type=Path), help="Write a picture of the moves.")
@click.option("--quiz", type=click.Path(path_type=Path, file_okay=False), help="Folder for clips under shuffled names.")
def cameras_command(
    folder: Path, model: Path | None, figures: Path, clips: int, picture: Path | None, quiz: Path | None
) -> None:
    """Measure clips under named moves of a camera beside what the exact camera sees."""
    from .moves import Director, measure_moves, table, write_picture, write_quiz

    director = Director.load(folder, model)
    for line in table(measure_moves(director.clip, clips, figures)):
        click.echo(line)
    if picture:
        write_picture(director, picture)
    if quiz:
        write_quiz(director, quiz)


@main.command("ship")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=OUT, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=SHIPPED, show_default=True)
def ship_command(out: Path, folder: Path) -> None:
    """Copy what the package needs from a finished build."""
    from .ship import ship

    for path in ship(out, folder):
        click.echo(path)


if __name__ == "__main__":
    main()
