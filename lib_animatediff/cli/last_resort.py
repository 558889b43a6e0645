"""What the command line prints when a command fails: one line with a code, never a traceback."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from lib_animatediff.engine.memory import is_out_of_memory
from motion_module import AnimateDiffError
from motion_module.limits import printable

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130  # exit codes, as of other programs
_LONGEST = 600  # characters of a line
_WRONG_PATHS = (errno.ENAMETOOLONG, errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


def run(command: click.Command) -> NoReturn:
    """Run a command, and end the process with its exit code."""
    if any("\0" in word for word in sys.argv):
        error = AnimateDiffError("An argument contains a NUL character. Remove it.", code="AD-K23")
        _end(f"Error: {error}", WRONG_USE)
    try:
        with _stopped_by_sigterm():
            status: Any = command.main(standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        _end("Stopped.", INTERRUPTED)
    except click.ClickException as error:
        help_line = f" See {_path(error)} --help." if isinstance(error, click.UsageError) else ""
        _end(f"Error: {_short(error.format_message())}{help_line}", error.exit_code)
    except BrokenPipeError:  # the reader of the output has ended, as `head` does
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - Python flushes it at its end
        sys.exit(FAILED)
    except Exception as error:
        _end(f"Error: {_one_line(str(explained(error)))}", FAILED)
    sys.exit(status if isinstance(status, int) else 0)


class _Terminated(KeyboardInterrupt):
    """SIGTERM as Ctrl-C.

    Where a plain KeyboardInterrupt passes through code that `exec` runs from text, as in the definition of a dataclass,
    Python ends the process by SIGINT, even though it is caught further out and another exit code is asked for.
    """


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """End as Ctrl-C does, so that temporary files are removed and a training keeps its state."""

    def interrupt(*_: Any) -> NoReturn:
        raise _Terminated

    try:
        former = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def explained(error: Exception) -> AnimateDiffError:
    """What to tell of an error; AD-K22, with a log, if nobody knows it."""
    if isinstance(error, AnimateDiffError):
        return error
    if is_out_of_memory(error):
        return AnimateDiffError(
            "Memory ran out. Lower the size, the number of frames or the context length.", code="AD-K20"
        )
    if isinstance(error, OSError) and error.filename is not None and error.errno in _WRONG_PATHS:
        return AnimateDiffError(f"{_short(str(error.filename))}: {error.strerror}. Give another path.", code="AD-K24")
    if isinstance(error, OSError) and error.filename is not None:
        return AnimateDiffError(
            f"{error.filename}: {error.strerror}. Free some space, or choose another place.", code="AD-K21"
        )
    reason = f"{type(error).__name__}: {_short(str(error))}"
    return AnimateDiffError(
        f"Something went wrong ({reason}). The details are in {_write_log(error)}; please report them.", code="AD-K22"
    )


def _write_log(error: Exception) -> str:
    try:
        handle, name = tempfile.mkstemp(prefix="animatediff-error-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{' '.join(sys.argv)}\n\n{''.join(traceback.format_exception(error))}")
    except OSError as problem:
        return f"no file ({problem.strerror})"
    return name


def _path(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx else "python -m lib_animatediff"


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _short(text: str) -> str:
    line = _one_line(text)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def _end(line: str, status: int) -> NoReturn:
    click.echo(line, err=True)
    sys.exit(status)
