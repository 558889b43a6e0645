"""Claims: one owner at a time, and none for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from lib_animatediff.jobs.many import claims
from lib_animatediff.jobs.many.claims import SILENCE, Claims
from lib_animatediff.jobs.many.random_seeds import FILE, RandomSeeds


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def elsewhere(monkeypatch):
    """Owners are processes of another machine, of which nothing is known."""
    monkeypatch.setattr(claims, "_where", lambda: None)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_job_has_one_owner_until_it_is_released(tmp_path):
    one, other = Claims(tmp_path), Claims(tmp_path)
    with one.take("a"):
        assert other.take("a") is None
        assert one.take("a") is None
        with other.take("b"):
            assert files(tmp_path) == ["a.0", "b.0"]
    assert files(tmp_path) == []
    assert other.take("a") is not None
    other.close()
    assert files(tmp_path) == []


def test_the_claim_of_a_process_that_ended_is_taken_over_at_once(tmp_path):
    code = (
        "from pathlib import Path; from lib_animatediff.jobs.many.claims import Claims; import os, signal, sys;"
        "assert Claims(Path(sys.argv[1])).take('a'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert files(tmp_path) == ["a.0"]
    with Claims(tmp_path).take("a"):
        assert files(tmp_path) == ["a.0", "a.1"]
        assert Claims(tmp_path).take("a") is None
    assert files(tmp_path) == []


def test_of_another_machine_only_silence_tells_whatever_its_clock_says(tmp_path, clock, elsewhere):
    owner, waiting = Claims(tmp_path), Claims(tmp_path, clock)
    claim = owner.take("a")
    place = tmp_path / "a.0"
    for touched in (2_000_000_000, 1_000_000_000, 5):  # its clock goes backwards, and it lives
        os.utime(place, (touched, touched))
        assert waiting.take("a") is None
        clock.now += SILENCE
    assert waiting.take("a") is None
    clock.now += 1
    with waiting.take("a"):
        assert files(tmp_path) == ["a.0", "a.1"]
        claim.release()  # it was only slow: the claim of the other one stays
        assert files(tmp_path) == ["a.1"]
    owner.close()


def test_the_owner_touches_its_claim(tmp_path, monkeypatch, elsewhere):
    monkeypatch.setattr(claims, "BEAT", 0.01)
    owner = Claims(tmp_path)
    owner.take("a")
    os.utime(tmp_path / "a.0", (5, 5))
    for _ in range(1000):
        if (tmp_path / "a.0").stat().st_mtime != 5:
            break
        threading.Event().wait(0.01)
    else:
        pytest.fail("nobody touched it")
    owner.close()


def test_a_claim_that_was_taken_over_while_it_was_judged_is_left_alone(tmp_path, clock, elsewhere):
    """Another run ends the dead claim and a third one begins a claim of its own, just before ours is created."""
    Claims(tmp_path).take("a")
    late = Claims(tmp_path, clock)
    assert late.take("a") is None
    clock.now += SILENCE + 1
    look = late._highest

    def slow(job):
        seen = look(job)
        late._highest = look
        (tmp_path / "a.0").unlink()
        assert Claims(tmp_path).take("a")
        return seen

    late._highest = slow
    assert late.take("a") is None
    assert files(tmp_path) == ["a.0"]


def test_of_many_that_want_a_dead_claim_one_gets_it(tmp_path, clock, elsewhere):
    Claims(tmp_path).take("a")
    all_of_them = [Claims(tmp_path, clock) for _ in range(8)]
    assert not any(each.take("a") for each in all_of_them)
    clock.now += SILENCE + 1
    start, won = threading.Barrier(8), []

    def race(each):
        start.wait()
        won.append(each.take("a"))

    threads = [threading.Thread(target=race, args=(each,)) for each in all_of_them]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claim is not None for claim in won) <= 1
    if not any(won):  # all saw another one and gave way
        assert all_of_them[0].take("a")


def test_a_full_disk_leaves_no_claim(tmp_path, monkeypatch):
    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(claims, "_owner", full)
    with pytest.raises(OSError, match="space"):
        Claims(tmp_path).take("a")
    assert files(tmp_path) == []


def test_random_seeds_are_those_of_the_first_run_and_rows_that_are_the_same_differ(tmp_path):
    rows = [({"prompt": "a"}, 0), ({"prompt": "b"}, 0), ({"prompt": "a"}, 1)]
    first, second = RandomSeeds(tmp_path), RandomSeeds(tmp_path)
    assert 0 <= RandomSeeds(tmp_path, keep=False).of(*rows[0]) < 2**32
    assert files(tmp_path) == []
    seeds = [first.of(*row) for row in rows]
    assert [second.of(*row) for row in reversed(rows)] == seeds[::-1]
    assert RandomSeeds(tmp_path, keep=False).of(*rows[0]) == seeds[0]
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert files(tmp_path) == [FILE]
    (tmp_path / FILE).unlink()
    assert RandomSeeds(tmp_path).of(*rows[0]) != seeds[0]
