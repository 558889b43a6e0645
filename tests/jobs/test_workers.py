"""Processes that render one queue, and those that die."""

from __future__ import annotations

import multiprocessing
from contextlib import closing
from types import SimpleNamespace

import pytest
from support.small_workers import Job, Make

from lib_animatediff.jobs.many import workers as workers_module
from lib_animatediff.jobs.many.errors import StoppedError
from lib_animatediff.jobs.many.queue import RETRY, JobQueue
from lib_animatediff.jobs.many.workers import Workers


@pytest.fixture
def _started_by_a_copy(monkeypatch):
    """Processes that are copied from one that has imported everything, where only their ends matter."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lib_animatediff.jobs.many.workers"])
    monkeypatch.setattr(workers_module, "multiprocessing", SimpleNamespace(get_context=lambda _: context))


COPIED = pytest.mark.usefixtures("_started_by_a_copy")


def test_a_worker_begins_from_nothing_and_renders(tmp_path):
    """As CUDA needs it."""
    with closing(Workers(["cpu"], Make(tmp_path))) as workers:
        assert workers._context.get_start_method() == "spawn"
        ((job, outcome),) = workers.work(JobQueue([Job("a")]))
    assert (job.name, outcome.kind) == ("a", "rendered")


def test_a_worker_keeps_its_models_and_others_begin_with_models_of_their_own():
    jobs = [Job(name, models=name[0]) for name in ("a1", "a2", "b1", "b2", "b3")]
    queue = JobQueue(jobs)
    taken = [(worker, queue.next(worker).name) for worker in (1, 2, 1, 2, 1)]
    assert taken == [(1, "a1"), (2, "b1"), (1, "a2"), (2, "b2"), (1, "b3")]
    assert queue.next(2) is None
    assert len(queue) == 0


def test_a_clip_of_another_run_is_tried_after_the_others():
    now = [0.0]
    queue = JobQueue([Job("a"), Job("b")], lambda: now[0])
    queue.try_later(queue.next(1))
    assert queue.next(1).name == "b"
    assert (queue.next(1), len(queue)) == (None, 1)
    now[0] = RETRY
    assert queue.next(1).name == "a"


@COPIED
def test_a_worker_that_dies_gives_its_clip_back_a_few_times(tmp_path, monkeypatch):
    monkeypatch.setattr(workers_module, "MOST_DEATHS", 2)
    jobs = [Job("a"), Job("b", deaths=1), Job("c", deaths=100), Job("d")]
    with closing(Workers(["cpu"], Make(tmp_path))) as workers:
        ended = {job.name: outcome for job, outcome in workers.work(JobQueue(jobs))}
    assert {name: outcome.kind for name, outcome in ended.items()} == {
        "a": "rendered",
        "b": "rendered",
        "c": "failed",
        "d": "rendered",
    }
    assert ended["c"].code == "AD-M31"
    assert "SIGKILL" in ended["c"].sentence
    tries = sorted(path.stem for path in tmp_path.iterdir())
    assert tries == ["a", "b", "b", "c", "c", "d"]


@COPIED
def test_the_deaths_of_a_clip_are_forgotten_when_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(workers_module, "MOST_DEATHS", 2)
    with closing(Workers(["cpu"], Make(tmp_path))) as workers:
        for deaths in (1, 3):  # one in each run of the same clip
            ((_, outcome),) = workers.work(JobQueue([Job("a", deaths=deaths)]))
            assert outcome.kind == "rendered"


@COPIED
def test_workers_that_die_all_the_time_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(workers_module, "MOST_IN_A_ROW", 1)
    with closing(Workers(["cpu"], Make(tmp_path))) as workers, pytest.raises(StoppedError, match="AD-M33"):
        list(workers.work(JobQueue([Job("a", deaths=100)])))


@COPIED
def test_workers_that_cannot_begin_end_the_run_with_their_reason(tmp_path):
    with (
        closing(Workers(["cpu"], Make(tmp_path, problem="There is no card."))) as workers,
        pytest.raises(StoppedError, match=r"There is no card\)"),
    ):
        list(workers.work(JobQueue([Job("a")])))
