"""The progress that the page asks the real WebUI for while a clip is made, and interrupts in every phase."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from dataclasses import dataclass, field

import pytest
from support.webui_real.clips import animate, clip_of, clip_payload
from support.webui_real.server import PAYLOAD, UPSCALER
from support.webui_real.studio import hooks_in_the_unet, left_as_it_was, portrait

PERIOD = 0.05  # seconds between two questions; the page asks every half second
MOST_LETTERS = 25
MOST_POINTS = 6.0
SOON = 2.0  # seconds
AT_ONCE = {"frames": 16, "format": ["GIF"]}
LONG = {"frames": 48, "context_length": 16, "overlap": 4, "format": ["MP4", "GIF"]}
HIRES = {"enable_hr": True, "hr_scale": 2, "denoising_strength": 0.6, "hr_second_pass_steps": 3, "hr_upscaler": "Latent"}
UPSCALED = {**HIRES, "hr_upscaler": "Nearest"}
INTERRUPTED = "AnimateDiff notes"


@dataclass
class Told:
    """What the page was told, and when, in seconds since the request was sent."""

    answer: dict = field(default_factory=dict)
    seconds: float = 0.0
    asked: list[tuple[float, dict]] = field(default_factory=list)
    interrupted_at: float = 0.0

    @property
    def shares(self) -> list[tuple[float, float]]:
        return [(at, told["progress"]) for at, told in self.asked if told["progress"]]

    @property
    def texts(self) -> list[str]:
        return [told["textinfo"] for _, told in self.asked if told["textinfo"]]

    @property
    def largest_error(self) -> float:
        """In points of 100, against the share of the time that really had passed."""
        return max(abs(100 * (share - at / self.seconds)) for at, share in self.shares)

    @property
    def notes(self) -> list[str]:
        return json.loads(self.answer["info"])["extra_generation_params"].get("AnimateDiff notes", [])


def followed(server, clip: dict, *, interrupt_at: str = "", **payload) -> Told:
    """Make a clip, and ask for its progress as the page does; interrupt once a text of the bar begins like this."""
    told, task = Told(), f"task({uuid.uuid4().hex[:7]})"

    def make() -> None:
        told.answer = animate(server, clip, force_task_id=task, **payload)
        told.seconds = time.monotonic() - began

    began = time.monotonic()
    painting = threading.Thread(target=make)
    painting.start()
    while painting.is_alive():
        question = {"id_task": task, "id_live_preview": -1, "live_preview": False}
        reply = server.api("POST", "/internal/progress", question).json()
        if reply["active"]:
            told.asked.append((time.monotonic() - began, reply))
        if interrupt_at and not told.interrupted_at and re.match(interrupt_at, reply["textinfo"] or ""):
            server.api("POST", "/sdapi/v1/interrupt")
            told.interrupted_at = time.monotonic() - began
        time.sleep(PERIOD)
    painting.join()
    return told


def check(told: Told) -> None:
    """What holds for every request, however long it takes."""
    shares = [share for _, share in told.shares]
    assert shares == sorted(shares), "the percentage fell"
    assert max(map(len, told.texts)) <= MOST_LETTERS
    assert all(reply["eta"] is not None for _, reply in told.asked if reply["progress"])


@pytest.mark.shows("Progress: percent and time left of a clip")
@pytest.mark.parametrize(
    ("clip", "payload"),
    [
        (AT_ONCE, {"steps": 20, "width": 256, "height": 256}),
        (LONG, {"steps": 6, "width": 128, "height": 128, **HIRES}),
        (LONG, {"steps": 6, "width": 128, "height": 128, **UPSCALED}),
    ],
    ids=["one window", "windows, hires", "windows, hires by pixels"],
)
def test_the_percentage_is_the_share_of_time(studio, clip, payload):
    first = followed(studio, clip, **payload)
    again = followed(studio, clip, **payload)
    for told in (first, again):
        check(told)
        print(f"{told.seconds:.1f} s, {told.largest_error:.1f} points, {len(set(told.shares))} shares, {sorted(set(told.texts))[:60]}")
        print([(round(at, 1), round(100 * share), round(100 * at / told.seconds), reply["textinfo"]) for (at, share), (_, reply) in list(zip(told.shares, told.asked))[::4]])
    assert again.largest_error <= MOST_POINTS
