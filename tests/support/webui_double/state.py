"""What the double of the WebUI keeps between requests: its progress and its options."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

shared = SimpleNamespace()


class State:
    _starts = itertools.count(1)

    sampling_steps = job_no = job_count = id_live_preview = current_image_sampling_step = 0
    stopping_generation = False

    def begin(self) -> None:
        self.time_start = next(self._starts)
        self.interrupted = self.skipped = self.stopping_generation = False
        self.current_latent = self.textinfo = None
        self.sampling_step = self.job_no = self.id_live_preview = 0
        self.job_count = -1

    def nextjob(self) -> None:
        self.job_no += 1
        self.sampling_step = self.current_image_sampling_step = 0

    def dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("job_no", "job_count", "sampling_step", "sampling_steps")}

    @property
    def progress(self) -> float:
        """As modules.progress computes it."""
        progress, job_count, job_no = 0.0, self.job_count, self.job_no
        sampling_steps, sampling_step = self.sampling_steps, self.sampling_step
        if job_count > 0:
            progress += job_no / job_count
        if sampling_steps > 0 and job_count > 0:
            progress += 1 / job_count * sampling_step / sampling_steps
        return min(progress, 1)


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
