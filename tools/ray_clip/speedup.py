"""The speed-up of one long clip on several machines, by simulation.

The model: at each step the leader has W windows. It sends each to a worker that is free, which computes it and sends
the output back. The leader's network carries one message at a time, in each direction. A worker takes its next window when
its output has been sent. When all outputs are there, the leader takes the sampler's step. Latency is that of a local
network. Decoding and encoding stay with the leader, and are no part of it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

LATENCY = 0.0005  # seconds of a message, Ray's own work included (its actor calls take about 0.2 to 0.5 ms)
GIGABIT = 1e9 / 8  # bytes per second
EFFICIENCY = 0.94  # of TCP on Ethernet frames of 1500 bytes


@dataclass(frozen=True)
class Step:
    """What a step of the sampler needs.

    Attributes:
        windows: number of them.
        window: seconds of a worker for one.
        sent, received: bytes for one.
        step: seconds of the leader for fusion and the sampler's step.
    """

    windows: int
    window: float
    sent: int
    received: int
    step: float = 0.0


def seconds_of(step: Step, workers: int, gigabits: float) -> float:
    """The time of a step on this many workers, each on a machine of its own."""
    rate = gigabits * GIGABIT * EFFICIENCY
    up = down = 0.0  # when the leader's network is free, in each direction
    free = [0.0] * min(workers, step.windows)
    finished: list[tuple[float, int]] = []  # computed, not yet received
    left, received, last = step.windows, 0, 0.0
    while received < step.windows:
        # The next event: a window is sent to a free worker, or an output comes back, whichever can begin first.
        can_send = max(free[0], up) if left and free else float("inf")
        can_receive = max(finished[0][0], down) if finished else float("inf")
        if can_send <= can_receive:
            at = heapq.heappop(free)
            up = max(at, up) + step.sent / rate
            heapq.heappush(finished, (up + LATENCY + step.window, left))
            left -= 1
        else:
            done, _ = heapq.heappop(finished)
            down = max(done, down) + step.received / rate
            last = down + LATENCY
            received += 1
            heapq.heappush(free, last)
    return last + step.step


def speedup(step: Step, workers: int, gigabits: float) -> float:
    """How many times faster than one process that computes the windows itself."""
    return (step.windows * step.window + step.step) / seconds_of(step, workers, gigabits)
