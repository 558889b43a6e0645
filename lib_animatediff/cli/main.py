"""The command line: one group with all commands."""

from __future__ import annotations

import click

from lib_animatediff import __version__

from .animate import TO_WEBUI, animate
from .clips import info, reproduce
from .evaluate import evaluate
from .files import convert, inspect
from .last_resort import run
from .one_clip.resume import resume
from .render.command import render, watch
from .train import train_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="animatediff")
def cli() -> None:
    """Render clips with Stable Diffusion and motion modules."""


for command in (animate, resume, render, watch, info, reproduce, evaluate, train_command, inspect, convert, *TO_WEBUI):
    cli.add_command(command)


def main() -> None:
    """Run the command line, and end the process. Errors are printed in one line, without a traceback."""
    run(cli)
