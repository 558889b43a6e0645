"""One long clip over several workers: at each step they compute its context windows.

The process that samples holds the latents and the scheduler. Workers hold the models. Outputs are added in the order of
the plan, whichever worker sends them and whenever, so that any number of workers gives the same bits on one kind of
device.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lib_animatediff.engine.windowed_forward import WindowCall
from lib_animatediff.hosts.diffusers.pipeline import pick_device
from lib_animatediff.hosts.diffusers.remote.windows import ClipWindows, check_divisible, device_of, moved
from lib_animatediff.jobs.recipe import Ready, Request, prepare
from motion_module import AnimateDiffError, ClipError

from .pool import Pool

MOST_LOSSES = 5  # of workers in one window, after which the clip fails
_LOOK = 1.0  # seconds
_SENT = pickle.HIGHEST_PROTOCOL


@dataclass
class Traffic:
    """What went over the network.

    Attributes:
        calls: of the UNet on the whole clip.
        windows: that were computed, those of lost workers included.
        sent, received: bytes.
    """

    calls: int = 0
    windows: int = 0
    sent: int = 0
    received: int = 0


@dataclass(frozen=True)
class _Answer:
    """What a worker returns: the output of a window as a pickle, or an error."""

    output: bytes = b""
    sentence: str = ""
    code: str = ""


class RayWindows:
    """The workers of one clip, see `Elsewhere`.

    Args:
        ready: the clip.
        count: of workers.

    Raises:
        ClipError: the clip cannot be divided.
        RayError: there is no cluster.
    """

    def __init__(self, ready: Ready, count: int) -> None:
        check_divisible(ready.plan, ready.method)
        self._pool: Pool[tuple[int, int]] = Pool(count, MakeWorker(ready.request, Path.cwd()))
        self.traffic = Traffic()

    @property
    def lost(self) -> int:
        """How many workers were lost and replaced."""
        return self._pool.lost

    @property
    def report(self) -> str:
        """What was computed elsewhere, in a sentence."""
        traffic = self.traffic
        sent, received = (f"{size / 2**20:.1f} MiB" for size in (traffic.sent, traffic.received))
        lost = f", {self.lost} workers were lost and replaced" if self.lost else ""
        return f"Ray: {traffic.windows} windows of {traffic.calls} calls, {sent} sent, {received} received{lost}."

    def __call__(self, size: tuple[int, int], windows: Sequence[WindowCall]) -> Iterator[Any]:
        """The outputs of the windows of one call, in their order.

        Raises:
            AnimateDiffError: a worker cannot compute one.
        """
        call, device = self.traffic.calls, device_of(windows)
        self.traffic.calls += 1
        waiting, losses = deque(range(len(windows))), [0] * len(windows)
        outputs: dict[int, Any] = {}

        def give() -> None:
            for worker in self._pool.free()[: len(waiting)]:
                window = waiting.popleft()
                self._pool.give(worker, (call, window), size, self._packed(windows[window]))

        for number in range(len(windows)):
            while number not in outputs:
                give()
                for ended in self._pool.ended(_LOOK):
                    its_call, window = ended.task
                    if its_call != call:  # of a call that was interrupted
                        continue
                    if ended.is_lost:
                        losses[window] += 1
                        _check_losses(losses[window])
                        waiting.appendleft(window)
                        continue
                    give()  # before the output is unpacked, for which a worker need not wait
                    outputs[window] = moved(self._unpacked(ended.result), device)
            yield outputs.pop(number)

    def workers(self) -> Sequence[int]:
        """The processes of the workers that are ready."""
        return self._pool.processes()

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    def _packed(self, window: WindowCall) -> bytes:
        cpu = torch.device("cpu")
        data = pickle.dumps(
            replace(window, args=moved(window.args, cpu), kwargs=moved(dict(window.kwargs), cpu)), protocol=_SENT
        )
        self.traffic.windows += 1
        self.traffic.sent += len(data)
        return data

    def _unpacked(self, answer: _Answer) -> Any:
        if answer.sentence:
            raise AnimateDiffError(answer.sentence, code=answer.code)
        self.traffic.received += len(answer.output)
        return pickle.loads(answer.output)


def _check_losses(losses: int) -> None:
    if losses >= MOST_LOSSES:
        raise ClipError(
            f"{losses} workers were lost while they computed one context window. It may need more memory than they "
            "have: lower the size or the context length.",
            code="AD-M44",
        )


class MakeWorker:
    """Makes what computes windows, in the process of a worker.

    Args:
        request: of the clip.
        folder: where its paths start, which all machines have.
    """

    def __init__(self, request: Request, folder: Path) -> None:
        self._request, self._folder = request, folder

    def __call__(self) -> Callable[[tuple[int, int], bytes], _Answer]:
        """Load the models.

        Raises:
            AnimateDiffError: a file is missing on this machine, or does not fit.
        """
        if self._folder.is_dir():  # otherwise paths must be absolute
            os.chdir(self._folder)
        ready = prepare(replace(self._request, device=pick_device()))
        windows = ClipWindows(ready.load(), ready.plan, ready.method, ready.request.size)

        def compute(size: tuple[int, int], data: bytes) -> _Answer:
            try:
                return _Answer(pickle.dumps(windows.compute(size, pickle.loads(data)), protocol=_SENT))
            except AnimateDiffError as error:
                return _Answer(sentence=error.message, code=error.code)

        return compute
