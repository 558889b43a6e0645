"""One process that renders the clip or goes on with it, and notes which steps are finished and what states cost.

The process is forked from one that has imported the program, which spares each of them the imports. It gets no other
help: `SIGKILL` ends it at any instruction.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_animatediff.cli.main import cli
from lib_animatediff.hosts.diffusers.start.resuming import ResumableSampling
from lib_animatediff.jobs.unfinished import UnfinishedClip

FINISHED, KEPT, ENDED = "finished", "kept", "ended"


@dataclass(frozen=True)
class Noted:
    """What a process has noted until its end.

    Attributes:
        finished: the last step that it finished, of all runs; 0: none.
        states: seconds of processor and of the clock for each state that was written.
        seconds: of processor and of the clock, of a process that ended by itself, else None.
    """

    finished: int
    states: tuple[tuple[float, float], ...]
    seconds: tuple[float, float] | None


def preload() -> None:
    """Import what rendering imports when it is first used."""
    import diffusers  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import lib_animatediff.hosts.diffusers.animate
    import lib_animatediff.hosts.diffusers.pipeline  # noqa: F401

    torch.set_num_threads(1)  # threads do not survive a fork


def start(words: Sequence[str], folder: Path, notes: Path, output: Path) -> int:
    """Begin a command in a folder, in a process of its own; returns the process's number.

    Args:
        notes: the file for `read_notes`.
        output: the file for what it says.
    """
    notes.unlink(missing_ok=True)
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        said = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.chdir(folder)
        _note_steps(notes)
        begun = time.process_time(), time.monotonic()
        status = _run(words)
        _note(notes, ENDED, time.process_time() - begun[0], time.monotonic() - begun[1])
    finally:
        sys.stderr.flush()
        os._exit(status)


def read_notes(notes: Path) -> Noted:
    """What a process has noted. A kill may cut its last line."""
    finished, states, seconds = 0, [], None
    for line in notes.read_text(encoding="utf-8").splitlines() if notes.exists() else ():
        try:
            kind, *numbers = json.loads(line)
        except ValueError:
            break
        if kind == FINISHED:
            finished = int(numbers[0])
        elif kind == KEPT:
            states.append((numbers[0], numbers[1]))
        else:
            seconds = numbers[0], numbers[1]
    return Noted(finished, tuple(states), seconds)


def _run(words: Sequence[str]) -> int:
    try:
        cli.main(list(words), prog_name="animatediff", standalone_mode=False)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _note_steps(notes: Path) -> None:
    after_step, keep = ResumableSampling.after_step, UnfinishedClip.keep

    def noted_step(sampling: ResumableSampling, *args: Any, **kwargs: Any) -> None:
        _note(notes, FINISHED, sampling.sampled + 1)
        after_step(sampling, *args, **kwargs)

    def timed_keep(states: UnfinishedClip, state: Any) -> None:
        begun = time.process_time(), time.monotonic()
        keep(states, state)
        _note(notes, KEPT, time.process_time() - begun[0], time.monotonic() - begun[1])

    ResumableSampling.after_step = noted_step  # type: ignore[method-assign]
    UnfinishedClip.keep = timed_keep  # type: ignore[method-assign]


def _note(notes: Path, *values: Any) -> None:
    line = (json.dumps(values) + "\n").encode()
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line)
    os.close(file)
