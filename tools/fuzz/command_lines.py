"""Wrong command lines, made of the program's own commands and options."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from unittest import mock

import click

from lib_animatediff.cli import evaluate, main, train
from lib_animatediff.cli.last_resort import explained
from lib_animatediff.cli.one_clip import render as one_clip
from lib_animatediff.cli.render import command as many
from motion_module import AnimateDiffError

VALUES = (
    *(
        "9" * 400,
        "-1e400",
        "nan",
        "wörd",
        "",
        "a\0b",
        "a\udc80",
        "n" * 300,
        "missing/file.safetensors",
        ".",
        "\x1b[31m",
    ),
    *("[" * 100_000, "pipe.safetensors", "0", "-1", "1e100000000", "16", "0: a\n8: b", "x.gif", "/dev/null", "*", "%s"),
)
_SLOW = (
    (one_clip, "prepare"),
    (many, "Crew"),
    (evaluate, "check"),
    (train, "train"),
)  # where the work of a right line begins
_FEWEST = [["no-such-command"], ["animate", "--no-such-option"], ["train", "--data"], ["reproduce"], ["convert", "one"]]


def wrong_words(random: Random) -> list[str]:
    """A command with wrong values for its arguments and for one to three of its options."""
    name = random.choice(sorted(main.cli.commands))
    command = main.cli.commands[name]
    words = [name]
    words += [random.choice(VALUES) for each in command.params if isinstance(each, click.Argument)]
    options = [each for each in command.params if isinstance(each, click.Option) and not each.is_flag]
    for option in random.sample(options, min(len(options), random.randint(1, 3))):
        words += [option.opts[0], random.choice(VALUES)]
    return words


def wrong_lines(count: int, seed: int = 0) -> list[list[str]]:
    """So many command lines, all of them wrong."""
    random = Random(seed)
    return [*_FEWEST, *(wrong_words(random) for _ in range(count - len(_FEWEST)))][:count]


def wrong_line(random: Random, _seeds: Sequence[bytes]) -> bytes:
    """A wrong command line as JSON."""
    return json.dumps(wrong_words(random)).encode()


def examples(folder: Path) -> list[bytes]:
    """The lines that need no randomness, as JSON; makes the pipe that some lines name."""
    if not (folder / "pipe.safetensors").exists():
        os.mkfifo(folder / "pipe.safetensors")
    return [json.dumps(words).encode() for words in _FEWEST]


def run(data: bytes, _folder: Path) -> None:
    """Run a command line up to the place where the work begins.

    Raises:
        AnimateDiffError, click.ClickException: as the command does.
    """
    words = json.loads(data)
    if any("\0" in word for word in words):
        return  # `last_resort` refuses it before click sees it, and a shell cannot pass it
    with _in_silence(), _without_work():
        try:
            main.cli.main(words, prog_name="animatediff", standalone_mode=False)
        except (OSError, MemoryError) as error:
            raise explained(error) from error


@contextmanager
def _in_silence() -> Iterator[None]:
    with open(os.devnull, "w", encoding="utf-8", errors="replace") as nowhere:  # noqa: PTH123, SIM117
        with mock.patch.multiple(sys, stdout=nowhere, stderr=nowhere):
            yield


@contextmanager
def _without_work() -> Iterator[None]:
    """Refuse whatever would take long."""
    with ExitStack() as stack:
        for module, name in _SLOW:
            stack.enter_context(mock.patch.object(module, name, _refuse))
        yield


def _refuse(*_args: object, **_more: object) -> None:
    raise AnimateDiffError("The line was accepted.")
