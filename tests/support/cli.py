"""The command line in this process, which spares it the imports."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lib_animatediff.cli import main as program


@dataclass
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def one_error(self) -> str:
        """Its only line, of a command that was refused."""
        assert self.code != 0
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("Error: ")
        return line


def exit_code(*words: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["animatediff", *map(str, words)])
        with pytest.raises(SystemExit) as exit:
            program.main()
    return exit.value.code or 0


def command_line(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    def run(*words: object) -> Ended:
        code = exit_code(*words)
        return Ended(code, *capsys.readouterr())

    return run
