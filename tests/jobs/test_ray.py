"""Workers of a Ray cluster: outputs in the order of the plan, and nothing is lost with a worker."""

from __future__ import annotations

import builtins
import pickle
import random
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.fake_ray import FakeRay
from support.small_workers import Job

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.engine.windowed_forward import WindowCall
from lib_animatediff.jobs.many.errors import StoppedError
from lib_animatediff.jobs.many.outcome import CLAIMED, RENDERED, Outcome
from lib_animatediff.jobs.many.queue import JobQueue
from lib_animatediff.jobs.ray import cluster, pool, windows
from lib_animatediff.jobs.ray.clips import RayWorkers
from lib_animatediff.jobs.ray.cluster import RayError
from lib_animatediff.jobs.ray.windows import RayWindows
from lib_animatediff.jobs.recipe import Request, prepare
from lib_animatediff.request.settings import parse_settings
from motion_module import ClipError

SIZE = (64, 64)
READY = SimpleNamespace(plan=None, method=None, request=None)


@pytest.fixture
def on_ray(monkeypatch):
    """Makes pools use a `FakeRay`."""

    def use(losses=lambda _task: False, seed=0):
        ray = FakeRay(random.Random(seed), losses)
        monkeypatch.setattr(pool, "connect", lambda: ray)
        return ray

    return use


@pytest.fixture
def doubling(monkeypatch):
    """Workers of windows that double the latents, without a model."""

    def make():
        def compute(_size, data):
            window = pickle.loads(data)
            return windows._Answer(pickle.dumps((window.args[0] * 2,)))

        return compute

    monkeypatch.setattr(windows, "check_divisible", lambda *_: None)
    monkeypatch.setattr(windows, "MakeWorker", lambda *_: make)


def calls(count, first=0):
    """Windows whose latents are numbers, from the first one."""
    latents = (torch.full((1, 1), float(number)) for number in range(first, first + count))
    return [WindowCall((0,), (0,), 1, 0, 0.0, 1.0, (each,), {}) for each in latents]


@pytest.mark.parametrize("workers", [1, 3])
def test_outputs_come_in_the_order_of_the_plan_whichever_worker_sends_them(on_ray, doubling, workers):
    ray = on_ray(lambda task: task in (2, 5, 6))
    made = RayWindows(READY, workers)
    outputs = [output[0].item() for output in made(SIZE, calls(9))]
    assert outputs == [2.0 * number for number in range(9)]
    assert (made.lost, ray.actors) == (3, workers + 3)
    assert (made.traffic.calls, made.traffic.windows) == (1, 12)
    assert "3 workers were lost and replaced" in made.report


def test_outputs_of_a_call_that_was_interrupted_are_not_those_of_the_next(on_ray, doubling):
    for seed in range(10):  # orders in which they end
        on_ray(seed=seed)
        made = RayWindows(READY, 3)
        next(iter(made(SIZE, calls(9))))
        assert [output[0].item() for output in made(SIZE, calls(4, first=20))] == [40.0, 42.0, 44.0, 46.0]


def test_a_window_that_ends_every_worker_fails_the_clip(on_ray, doubling):
    on_ray(lambda _task: True)
    with pytest.raises(ClipError) as failed:
        list(RayWindows(READY, 1)(SIZE, calls(2)))
    assert failed.value.code == "AD-M44"


def test_a_worker_that_cannot_begin_says_why(on_ray, monkeypatch):
    def make():
        raise ClipError("There is no file x.", code="AD-D16")

    on_ray()
    workers = RayWorkers(1, make)
    with pytest.raises(StoppedError, match="There is no file x") as stopped:
        list(workers.work(JobQueue([Job("a")])))
    assert stopped.value.code == "AD-M42"


def test_each_clip_is_rendered_once_and_one_that_ends_its_workers_is_named(on_ray):
    rendered, claimed = Counter(), []

    def make():
        def render(job):
            if job.name == "c" and not claimed:
                claimed.append(job)
                return Outcome(CLAIMED)
            rendered[job.name] += 1
            return Outcome(RENDERED)

        return render

    ray = on_ray(lambda task: task in (1, 3))
    ended = dict(RayWorkers(2, make).work(JobQueue([Job(name) for name in "abcdef"], now=lambda: ray.tasks * 10.0)))
    assert {job.name: outcome.kind for job, outcome in ended.items()} == dict.fromkeys("abcdef", RENDERED)
    assert set(rendered.values()) == {1}

    on_ray(lambda _task: True)
    ((_, outcome),) = RayWorkers(1, make).work(JobQueue([Job("a")]))
    assert (outcome.kind, outcome.code) == ("failed", "AD-M45")


def test_a_cluster_without_a_working_machine_ends_the_run(on_ray):
    on_ray(lambda _task: True)
    with pytest.raises(StoppedError) as stopped:
        list(RayWorkers(1, lambda: None).work(JobQueue([Job(name) for name in "abcdef"])))
    assert stopped.value.code == "AD-M43"


def test_without_ray_a_sentence_says_what_to_install(monkeypatch):
    load = builtins.__import__

    def without_ray(name, *words):
        if name == "ray":
            raise ImportError
        return load(name, *words)

    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(RayError) as refused:
        cluster.connect()
    assert refused.value.code == "AD-M40"


def request_of(**settings):
    return Request(
        POCKET.folder / POCKET.checkpoint,
        Path("text2video-zero") if settings.pop("zero", False) else POCKET.folder / POCKET.motion,
        "a red disc moving right",
        parse_settings(settings),
        size=(32, 32),
        steps=20,
        cfg=3.0,
        sampler="euler-a",
    )


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"frames": 16}, "AD-D45"),
        ({"frames": 24, "views": True}, "AD-D45"),
        ({"frames": 24, "reuse": 2}, "AD-D46"),
        ({"frames": 24, "zero": True}, "AD-D44"),
    ],
)
def test_a_clip_that_cannot_be_divided_is_refused_before_ray_starts(settings, code):
    with pytest.raises(ClipError) as refused:
        RayWindows(prepare(request_of(**settings)), 2)
    assert refused.value.code == code


@pytest.mark.matrix
def test_a_real_cluster_gives_the_same_bits(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    torch.set_num_threads(1)
    ready = prepare(request_of(frames=24, upscale=2.0))
    pipeline = ready.load()
    alone = [image.tobytes() for image in ready.render(pipeline)]
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        made = RayWindows(ready, 2)
        assert [image.tobytes() for image in ready.render(pipeline, elsewhere=made)] == alone
        made.close()
    finally:
        ray.shutdown()
