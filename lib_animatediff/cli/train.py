"""The command ``train``: each row of the settings table becomes an option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from lib_animatediff.training.run import train
from lib_animatediff.training.settings import SETTINGS, Setting, TrainingSettings

Command = Callable[..., None]


def _with_options(command: Command) -> Command:
    for setting in reversed(SETTINGS.values()):
        command = _option(setting)(command)
    return command


def _option(setting: Setting) -> Callable[[Command], Command]:
    flag = f"--{setting.name.replace('_', '-')}"
    if setting.type is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", setting.name, default=setting.default, help=setting.help)
    return click.option(
        flag,
        setting.name,
        type=click.Choice(setting.choices) if setting.choices else str if setting.type is tuple else setting.type,
        multiple=setting.type is tuple,
        default=setting.default,
        show_default=setting.default not in ("", ()),
        help=setting.help,
    )


@click.command("train")
@_with_options
def train_command(**values: Any) -> None:
    """Train a motion module or what goes with one; --target names it. For several GPUs, use accelerate launch."""
    click.echo(train(TrainingSettings(**values)))
