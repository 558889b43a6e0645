"""Options that several commands share, and help in groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lib_animatediff.builtin_model import DEFAULT, MODELS
from lib_animatediff.hosts.diffusers.pipeline import pick_device
from lib_animatediff.request.start.pins import Pin

AUTO = "auto"

CHECKPOINT_OPTION: Callable[[Any], Any] = click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    default=Path(DEFAULT.name),
    show_default=True,
    help=f"Stable Diffusion 1.5 checkpoint, or a small built-in one: {' or '.join(MODELS)}.",
)
DEVICE_OPTION: Callable[[Any], Any] = click.option(
    "--device", default=AUTO, show_default=True, help="auto (CUDA, then MPS, then the CPU), or cuda, mps, cpu."
)
MOST_RAY_WORKERS = 1024


def ray_option(what: str) -> Callable[[Any], Any]:
    """The option ``--ray N``, with what the workers do."""
    return click.option(
        "--ray", type=click.IntRange(1, MOST_RAY_WORKERS), help=f"{what} on this many workers of a Ray cluster."
    )


_WORDS = f"{__name__}.words"


def given_words(context: click.Context) -> tuple[str, ...]:
    """The options of a `GroupedCommand`, as they were given."""
    return tuple(context.meta.get(_WORDS, ()))


def say_device(name: str) -> None:
    """Print the device that ``auto`` selects."""
    if name == AUTO:
        click.echo(f"Device: {pick_device(name)}", err=True)


def is_given(name: str) -> bool:
    """Whether the running command was given an option; the recipe of a continued clip gives none."""
    return source_of(name) not in (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def frame_and_file(text: str) -> Pin | None:
    """``FRAME:FILE``, an image at a frame; None: it has another form."""
    frame, _, path = text.partition(":")
    return Pin(int(frame), Path(path)) if frame.strip().isdecimal() and path else None


def source_of(name: str) -> ParameterSource | None:
    """Where the value of the running command's option comes from."""
    return click.get_current_context().get_parameter_source(name)


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings.

    Args:
        headings: the heading of each option by its parameter's name; options without one come first.
    """

    def __init__(self, *args: Any, headings: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._headings = dict(headings or {})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words of the command for `given_words`, and parse them."""
        ctx.meta[_WORDS] = tuple(args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                heading = self._headings.get(parameter.name or "") or "Options"
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)
