"""The speed-up of one long clip on several machines, by simulation.

The model: at each step the leader has W windows. It packs one for a worker that is free, sends it, and the worker
computes it and sends the output back, which the leader unpacks and adds. The leader does one thing at a time, and its
network carries one message at a time in each direction. A worker gets its next window when its output has come. When
all outputs are there, the leader takes the sampler's step. Decoding and encoding stay with the leader, and are no part
of it. Alone, a process computes the windows itself, and adds their outputs.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

LATENCY = 0.0005  # seconds of a message with Ray's own work
GIGABIT = 1e9 / 8  # bytes per second
EFFICIENCY = 0.94  # of TCP in Ethernet frames of 1500 bytes


@dataclass(frozen=True)
class Step:
    """What a step of the sampler needs.

    Attributes:
        windows: number of them.
        window: seconds of a worker for one.
        sent, received: bytes for one.
        pack, add: seconds of the leader for one, before and after.
        step: seconds of the leader for the sampler's step.
    """

    windows: int
    window: float
    sent: int
    received: int
    pack: float = 0.0
    add: float = 0.0
    step: float = 0.0


def seconds_of(step: Step, workers: int, gigabits: float) -> float:
    """The time of a step on this many workers, each on a machine of its own."""
    rate = gigabits * GIGABIT * EFFICIENCY
    leader = up = down = 0.0  # when the leader, and its network in each direction, are free
    free = [0.0] * min(workers, step.windows)
    computed: list[float] = []  # when outputs can be sent back
    left, added = step.windows, 0
    while added < step.windows:
        send_at = max(free[0], leader) if left and free else float("inf")
        receive_at = max(computed[0], down) + step.received / rate if computed else float("inf")
        if send_at <= max(receive_at, leader):  # sending first, since a worker waits for it
            heapq.heappop(free)
            leader = send_at + step.pack
            up = max(leader, up) + step.sent / rate
            heapq.heappush(computed, up + LATENCY + step.window)
            left -= 1
        else:
            heapq.heappop(computed)
            down = receive_at
            leader = max(leader, down + LATENCY) + step.add
            added += 1
            heapq.heappush(free, down + LATENCY)
    return leader + step.step


def speedup(step: Step, workers: int, gigabits: float) -> float:
    """How many times faster than one process that computes the windows itself."""
    return (step.windows * (step.window + step.add) + step.step) / seconds_of(step, workers, gigabits)
