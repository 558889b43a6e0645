"""What the double of the WebUI keeps between requests: its progress and its options."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any


class State:
    _starts = itertools.count(1)

    def begin(self) -> None:
        self.time_start = next(self._starts)
        self.interrupted = self.skipped = False


class InterruptedException(BaseException):
    pass


@dataclass
class OptionInfo:
    default: Any
    label: str
    section: tuple[str, str]


class Options(SimpleNamespace):
    """Options have their values in `data`; each is an attribute, too."""

    @property
    def data(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "added"}

    def add_option(self, name: str, info: OptionInfo) -> None:
        self.added[name] = info
        setattr(self, name, info.default)
