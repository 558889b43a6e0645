"""The command line in this process, which spares it the imports."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

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


def in_folder(folder: Path, words: Iterable[object]) -> list[object]:
    """Words of a command in which names of files, also behind a frame and a colon, are those of a folder."""
    placed: list[object] = []
    for word in words:
        frame, colon, name = str(word).rpartition(":")
        is_file = name.endswith((".png", ".safetensors"))
        placed.append(f"{frame}{colon}{folder / name}" if is_file else word)
    return placed


def check_refused(ended: Ended, code: str | None) -> None:
    """The last line is an error with this code; None: with any."""
    assert ended.code == 1
    line = ended.err.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    assert line.endswith(f"[{code}]" if code else "]")


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
