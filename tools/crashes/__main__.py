"""Kills a 48-frame clip of the built-in model at random moments, and continues it until it is written.

    python -m tools.crashes [--kills 40] [--frames 48] [--steps 8] [--size 64] [--seed 0] [--out results.json]

The clip has context windows, two FreeInit rounds and an ancestral sampler. The process that continues it is killed
as well, at most twice for each clip. After each kill, nothing but whole files and the program's own
temporary ones may be there, and after each clip all bytes of its files and of all frames must be those of the clip that
nobody interrupted. *Lost* are steps that were finished and are not in the state.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from lib_animatediff.jobs.unfinished import read_state, state_path
from lib_animatediff.video.atomic import PREFIX
from tools.crashes.clip import Noted, preload, read_notes, start

NAME = "clip.png"
POLL = 0.005  # seconds
MOST_OF_A_CLIP = 2  # kills; then it is continued to its end


def main() -> None:
    """Prints a line for each kill, and the result."""
    parser = argparse.ArgumentParser(prog="python -m tools.crashes", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--steps", type=int, default=8, help="of each of the two FreeInit rounds")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="JSON file with all kills")
    given = parser.parse_args()
    preload()
    with tempfile.TemporaryDirectory(prefix="crashes-") as folder:
        result = _Crashes(Path(folder), _words(given), random.Random(given.seed)).run(given.kills)
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in result.items() if name != "each"}, indent=2))


def _words(given: argparse.Namespace) -> list[str]:
    options = {
        "frames": given.frames,
        "steps": given.steps,
        "width": given.size,
        "height": given.size,
        "sampler": "euler-a",
        "freeinit-iters": 2,
        "prompt": "a red disc moving right",
        "seed": 7,
        "device": "cpu",
        "output": NAME,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return ["animate", "--freeinit-enable", "--format", "apng", "--format", "frames", *words]


class _Crashes:
    def __init__(self, place: Path, words: list[str], moments: random.Random) -> None:
        self._place = place
        self._words = words
        self._moments = moments
        self._clip = place / "clip"
        self._whole: dict[str, bytes] = {}
        self._each: list[dict[str, Any]] = []
        self._longest = self._around = 0.0

    def run(self, kills: int) -> dict[str, Any]:
        """Kill so many times; returns the result."""
        self._clip.mkdir()
        begun = time.monotonic()
        whole = self._ended(self._words, None)
        self._longest = time.monotonic() - begun
        if whole is None or whole.seconds is None:
            raise SystemExit(self._said())
        self._whole = self._files()
        steps, clips = whole.finished, 1
        print(f"Uninterrupted: {steps} steps, {len(self._whole)} files, {self._longest:.1f} s", flush=True)
        self._clear()
        begun = time.monotonic()
        self._ended([*self._words, "--steps", "1"], None)
        self._around = time.monotonic() - begun
        self._clear()
        while len(self._each) < kills:
            for _ in range(min(MOST_OF_A_CLIP, kills - len(self._each))):
                if not self._killed(steps):
                    break
            while state_path(self._clip / NAME).exists() or not self._is_written():
                self._ended(self._next_words(), None)
            clips += 1
            self._compare()
            self._clear()
        return self._result(whole, steps, clips)

    def _killed(self, steps: int) -> bool:
        """Let the clip go on, and kill it; False: it ended before."""
        kept = self._kept_steps()
        left = self._longest * (1 - kept / steps) + self._around  # loading, decoding and writing
        moment = self._moments.uniform(0, left)
        command = self._next_words()
        noted = self._ended(command, moment)
        if noted is None or noted.seconds is not None:
            return False
        finished, kept_now = max(noted.finished, kept), self._kept_steps()
        self._check_files()
        entry = {
            "command": command[0],
            "second": round(moment, 3),
            "finished": finished,
            "kept": kept_now,
            "lost": finished - kept_now,
            "written": self._is_written(),
        }
        self._each.append(entry)
        print(len(self._each), json.dumps(entry), flush=True)
        return True

    def _next_words(self) -> list[str]:
        return ["resume", NAME] if state_path(self._clip / NAME).exists() else self._words

    def _ended(self, words: list[str], moment: float | None) -> Noted | None:
        """Run a command to its end, or kill it at a moment. A failure ends everything."""
        notes = self._place / "notes"
        process = start(words, self._clip, notes, self._place / "said")
        end = None if moment is None else time.monotonic() + moment
        while True:
            number, status = os.waitpid(process, os.WNOHANG)
            if number:
                break
            if end is not None and time.monotonic() >= end:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return read_notes(notes)
            time.sleep(POLL)
        if status != 0:
            raise SystemExit(f"{' '.join(words)} failed.\n{self._said()}")
        return read_notes(notes)

    def _kept_steps(self) -> int:
        path = state_path(self._clip / NAME)
        return read_state(path).state.sampled if path.exists() else 0  # which raises for half a state

    def _is_written(self) -> bool:
        return (self._clip / NAME).exists()

    def _files(self) -> dict[str, bytes]:
        files = (path for path in self._clip.rglob("*") if path.is_file())
        return {str(path.relative_to(self._clip)): path.read_bytes() for path in files}

    def _check_files(self) -> None:
        """Whole files only, beside those under temporary names."""
        for name, data in self._files().items():
            is_own = name.startswith(PREFIX) or name == state_path(self._clip / NAME).name
            if not is_own and data != self._whole.get(name):
                raise SystemExit(f"{name} is half a file, or another one.")
        folder = self._clip / Path(NAME).stem
        if folder.exists() and len(list(folder.iterdir())) != sum("/" in name for name in self._whole):
            raise SystemExit(f"{folder.name} has not all frames.")

    def _compare(self) -> None:
        found = {name: data for name, data in self._files().items() if not name.startswith(PREFIX)}
        if found != self._whole:
            different = sorted(name for name in {*found, *self._whole} if found.get(name) != self._whole.get(name))
            raise SystemExit(f"The continued clip differs from the uninterrupted one: {', '.join(different)}")
        print("The clip is identical.", flush=True)

    def _clear(self) -> None:
        for path in sorted(self._clip.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    def _said(self) -> str:
        return (self._place / "said").read_text(encoding="utf-8", errors="replace")

    def _result(self, whole: Noted, steps: int, clips: int) -> dict[str, Any]:
        assert whole.seconds is not None
        processor, clock = (sum(each) for each in zip(*whole.states, strict=True)) if whole.states else (0.0, 0.0)
        return {
            "kills": len(self._each),
            "clips": clips,
            "of which resume was killed": sum(each["command"] == "resume" for each in self._each),
            "identical": True,
            "frames": sum("/" in name for name in self._whole),
            "steps": steps,
            "seconds for a step": round(whole.seconds[1] / steps, 3),
            "steps lost": dict(sorted(Counter(each["lost"] for each in self._each).items())),
            "states": len(whole.states),
            "share of the processor's time": round(processor / whole.seconds[0], 5),
            "share of the clock's time": round(clock / whole.seconds[1], 5),
            "each": self._each,
        }


if __name__ == "__main__":
    main()
