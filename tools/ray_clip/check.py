"""A long clip of the built-in model on 1, 2, 3 workers of a local cluster, one of which is killed at a random step."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.engine.windowed_forward import WindowCall
from lib_animatediff.jobs.ray.windows import RayWindows
from lib_animatediff.jobs.recipe import Ready, Request, prepare
from lib_animatediff.request.settings import parse_settings

_CFG = 3.0


class Killing:
    """Passes windows on, and kills a worker in the middle of a step.

    Args:
        at: the call of the UNet, from 0.
    """

    def __init__(self, workers: RayWindows, at: int, chance: random.Random) -> None:
        self._workers, self._at, self._chance = workers, at, chance
        self._calls = 0

    def __call__(self, size: tuple[int, int], windows: Sequence[WindowCall]) -> Iterator[Any]:
        """The outputs of the windows."""
        is_now, after = self._calls == self._at, self._chance.randrange(len(windows) // 2)
        self._calls += 1
        for number, output in enumerate(self._workers(size, windows)):
            if is_now and number == after:
                os.kill(self._chance.choice(self._workers.workers()), signal.SIGKILL)
            yield output


def check(frames: int, steps: int, counts: Sequence[int], seed: int) -> dict[str, Any]:
    """Render in this process and on workers; returns a report with a list of problems."""
    import ray

    chance = random.Random(seed)
    ready, pipeline = _clip(frames, steps)
    begun = time.monotonic()
    alone = _digest(ready, pipeline, None)
    report: dict[str, Any] = {
        "frames": frames,
        "steps": steps,
        "alone": {"sha256": alone, "seconds": round(time.monotonic() - begun, 1)},
        "workers": [],
        "problems": [],
    }
    # As many cores as workers, although the machine may have fewer.
    ray.init(address="local", num_cpus=max(counts), include_dashboard=False, log_to_driver=False)
    try:
        for count in counts:
            one = _on_workers(ready, pipeline, count, steps, chance)
            report["workers"].append(one)
            if one["sha256"] != alone:
                report["problems"].append(f"{count} workers give other bits")
            if not one["lost"]:
                report["problems"].append(f"none of {count} workers was lost")
    finally:
        ray.shutdown()
    return report


def _on_workers(ready: Ready, pipeline: Any, count: int, steps: int, chance: random.Random) -> dict[str, Any]:
    begun = time.monotonic()
    with closing(RayWindows(ready, count)) as workers:
        killing = Killing(workers, chance.randrange(steps), chance)
        digest = _digest(ready, pipeline, killing)
        traffic, per_call = workers.traffic, workers.traffic.calls
        return {
            "count": count,
            "sha256": digest,
            "seconds": round(time.monotonic() - begun, 1),
            "lost": workers.lost,
            "windows": traffic.windows,
            "calls": traffic.calls,
            "bytes sent per call": traffic.sent // per_call,
            "bytes received per call": traffic.received // per_call,
            "bytes sent per window": traffic.sent // traffic.windows,
        }


def _clip(frames: int, steps: int) -> tuple[Ready, Any]:
    request = Request(
        checkpoint=POCKET.folder / POCKET.checkpoint,
        motion=POCKET.folder / POCKET.motion,
        prompt="a red disc moving right",
        settings=parse_settings({"frames": frames}),
        size=(POCKET.size, POCKET.size),
        steps=steps,
        cfg=_CFG,
        sampler="euler-a",
    )
    ready = prepare(request)
    return ready, ready.load()


def _digest(ready: Ready, pipeline: Any, elsewhere: Any) -> str:
    digest = hashlib.sha256()
    for image in ready.render(pipeline, elsewhere=elsewhere):
        digest.update(image.tobytes())
    return digest.hexdigest()


def window_seconds(rounds: int = 9) -> float:
    """The median time of one window of the built-in model in this process."""
    ready, pipeline = _clip(32, rounds)
    times: list[float] = []

    def here(_size: tuple[int, int], windows: Sequence[WindowCall]) -> Iterator[Any]:
        for window in windows:
            begun = time.monotonic()
            output = worker.compute(ready.request.size, window)
            times.append(time.monotonic() - begun)
            yield output

    from lib_animatediff.hosts.diffusers.remote.windows import ClipWindows

    other = ready.load()
    worker = ClipWindows(other, ready.plan, prepare(ready.request).method, ready.request.size)
    _digest(ready, pipeline, here)
    return statistics.median(times)
