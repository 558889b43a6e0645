"""What the double of the WebUI keeps between requests: its progress and its options."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

shared = SimpleNamespace()


class State:
    _starts = itertools.count(1)

    def begin(self) -> None:
        self.time_start = next(self._starts)
        self.interrupted = self.skipped = False
        self.current_latent = self.textinfo = None
        self.sampling_step = 0


class InterruptedException(BaseException):
    pass


@dataclass
class OptionInfo:
    default: Any
    label: str
    component: Any = None
    component_args: Any = None
    section: tuple[str, str] = ("", "")


class Options:
    """Options have their values in `data`; they are read and set as attributes, which hides none that is one."""

    def __init__(self, **data: Any) -> None:
        vars(self).update(data=data, added={})

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)["data"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self.data[name] = value

    def add_option(self, name: str, info: OptionInfo) -> None:
        self.added[name] = info
        setattr(self, name, info.default)
