"""The progress of a request: its arithmetic, its words, and the share that the WebUI shows."""

from __future__ import annotations

import threading
from itertools import pairwise
from types import SimpleNamespace

import pytest
from support.matrix import every_once
from support.plans import plan_of
from support.source_files import shades
from support.webui_double import double
from support.webui_double.double import shared

from lib_animatediff.video import write_clip

CLIP = {"model": "mm.safetensors", "frames": 4, "format": ["GIF", "MP4"]}
WINDOWS = {**CLIP, "frames": 6, "context_length": 4, "overlap": 2}
HIRES = {"enable_hr": True}
PIXELS = {**HIRES, "latent_scale_mode": None}
MOST_LETTERS = 25


def never_falls(shares):
    return all(after >= before - 1e-9 for before, after in pairwise(shares))


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def parts(webui):
    """The modules of the arithmetic."""
    names = ("workload", "sampling_place", "tasks", "interrupts", "vae_watch")
    return SimpleNamespace(**{name: webui.module(f"hooks.progress.{name}") for name in names})


# ---- arithmetic


def test_the_share_is_that_of_time_and_never_falls(parts):
    clock = Clock()
    tasks = [parts.workload.Task("a", 10, seconds=1.0), parts.workload.Task("b", 5, seconds=2.0)]
    work = parts.workload.Workload(tasks, parts.workload.Speeds(), clock)
    work.start("a", 1)
    assert work.share() == 0
    shares = []
    for done in range(1, 11):  # each takes twice as long as was thought
        clock.now += 2
        work.advance("a", 0, done, 1)
        shares.append(work.share())
    assert never_falls(shares)
    assert shares[-1] == pytest.approx(20 / (20 + 10))
    clock.now += 1
    assert work.share() > shares[-1]  # it moves while a unit is under way


def test_speeds_are_remembered_for_the_same_place(parts):
    speeds, clock = parts.workload.Speeds(), Clock()
    for wanted in (2 / 11, 2 / 5):  # the first time it is thought to take six seconds, and then two
        task = parts.workload.Task("a", 4, seconds=3.0, place="here")
        work = parts.workload.Workload([task], speeds, clock)
        work.start("a", 1)
        clock.now += 2
        assert work.share() == pytest.approx(wanted, abs=0.02)
        work.advance("a", 0, 2, 1)
        clock.now += 2
        work.advance("a", 0, 4, 0)
        work.finish()
    assert speeds.of(task) == 1.0


def test_a_busy_device_is_busy_for_the_work_to_come_as_well(parts):
    speeds, clock = parts.workload.Speeds(), Clock()
    for seconds in (1, 3):
        tasks = [parts.workload.Task("a", 2, seconds=9.0), parts.workload.Task("b", 1, seconds=9.0, like="a")]
        work = parts.workload.Workload(tasks, speeds, clock)
        work.start("a", 1)
        for done in (1, 2):
            clock.now += seconds
            work.advance("a", 0, done, 1)
        last = work.share()
        clock.now += 2 * seconds
        work.advance("b", 0, 1, 0)
        work.finish()
    assert last == pytest.approx(6 / (6 + 6))  # and not 6 / (6 + 2)


def test_other_work_on_a_device_follows_its_measured_speed(parts):
    clock = Clock()
    tasks = [parts.workload.Task("a", 2, seconds=1.0), parts.workload.Task("b", 1, seconds=3.0, like="a")]
    work = parts.workload.Workload(tasks, parts.workload.Speeds(), clock)
    work.start("a", 1)
    for done in (1, 2):
        clock.now += 10
        work.advance("a", 0, done, 1)
    assert work.share() == pytest.approx(20 / (20 + 30))


def test_the_place_counts_windows_runs_and_steps(parts):
    place = parts.sampling_place.SamplingPlace([12, 8], 1.0, [2, 4])
    assert place.total == 20 + 40
    done = []
    for run in (2, 4):
        for call in range(run):
            place.next_call(call, run, run)
            done.append(place.done)
            for window in (1, 2):
                place.next_window(window, 2)
                done.append(place.done)
    assert done == sorted(done)
    assert done[-1] == place.total
    assert place.text == "Run 2/2, step 4/4 (1/2)"


def test_the_place_counts_the_inversion_of_a_video(parts):
    """At half the units of a call with CFG, before each run whose number of steps is new."""
    place = parts.sampling_place.SamplingPlace([12, 8], 1.0, [2, 2, 4], calls_at_once=2, inversions=[2, 0, 4])
    assert place.total == 10 + 20 + 20 + 20 + 40
    done, texts = [], []

    def windows():
        for window in (1, 2):
            place.next_window(window, 2)
            done.append(place.done)

    for calls, is_inverted in ((2, True), (2, False), (4, True)):
        for call in range(calls if is_inverted else 0):
            place.next_inversion(call, calls)
            done.append(place.done)
            texts.append(place.text)
            windows()
        for call in range(calls):
            place.next_call(call, calls, calls)
            done.append(place.done)
            windows()
            windows()
    assert done == sorted(done)
    assert done[-1] == place.total == 110
    assert texts[-1] == "Inverting 4/4, window 1/2"
    assert done[3] == 6  # the first inverting call, of 12 frames


def test_steps_of_second_order_samplers_are_the_users(parts):
    place = parts.sampling_place.SamplingPlace([4], 1.0, [5])
    seen = []
    for call in range(10):
        place.next_call(call, 5, 10)
        seen.append(place.text)
    assert seen == [f"Step {step}/5" for step in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)]
    assert place.total == 40


@pytest.mark.parametrize(
    ("steps", "windows", "runs", "is_second"),
    # The longest words of all have every largest number.
    every_once([1, 20, 150], [1, 5, 99, 10_000], [1, 5], [False, True], more=lambda places: places == (2, 3, 1, 1)),
)
def test_the_words_have_room(parts, steps, windows, runs, is_second):
    place = parts.sampling_place.SamplingPlace([16], 1.0, [steps] * runs, is_second=is_second)
    place.next_call(steps - 1, steps, steps)
    place.next_window(windows - 1, windows)
    assert f"{steps}/{steps}" in place.text
    assert len(place.text) <= MOST_LETTERS


def test_the_words_of_every_format_have_room(webui, watched):
    shared.state.begin()
    delivery = webui.module("hooks.progress.delivery").FollowedDelivery
    progress = webui.module("hooks.progress.request").RequestProgress(
        plan_of(frames=4),
        webui.module("hooks.progress.bar").ProgressBar(webui.module("hooks.progress.workload").Speeds()),
    )
    one = delivery(plan_of(frames=4), progress)
    one.begin(SimpleNamespace(batch_size=1, n_iter=1, width=8, height=8))
    for key in webui.module("hooks.progress.delivery").FORMATS:
        one.writing(key, 9999, 10_000)
        one.writing(key, 3, 4)
    texts = [text for _, text in watched]
    assert max(map(len, texts)) <= MOST_LETTERS
    assert {"Writing GIF 4/4", "Writing MP4 10000/10000", "Writing PNG 4/4"} <= set(texts)


# ---- in the WebUI's own formula


@pytest.mark.parametrize(
    ("clip", "fields"),
    every_once([CLIP, WINDOWS], [{}, {"n_iter": 2}, {**PIXELS, "n_iter": 2}, HIRES, {"batch_size": 2}]),
)
def test_the_webuis_formula_gives_a_share_that_never_falls(webui, watched, clip, fields):
    seen = []
    shared.during_decoding = lambda _: seen.append(shared.state.progress)
    webui.paint(clip, **fields)
    shares = [share for share, _ in watched]
    assert never_falls(shares)
    assert never_falls(seen)
    assert 0 <= shares[0] < max(shares) < 1
    assert shared.state.progress == 1
    assert shared.state.textinfo is None
    texts = {text.split(" ")[0] for _, text in watched}
    assert {"", "Decoding", "Measuring", "Writing", "Step"} <= texts
    assert ("Hires" in texts) == ("enable_hr" in fields)
    assert type(shared.state) is type(webui.double.State())


@pytest.mark.parametrize("clip", [{}, {"freeinit_enable": True, "freeinit_iters": 3, "freeinit_coarse": True}], ids=str)
def test_the_inversion_of_a_video_is_work_that_is_known_beforehand(webui, watched, clip, monkeypatch):
    folder = webui.outputs.parent / "in"
    folder.mkdir()
    write_clip(folder / "a.gif", shades(4, (double.SIDE, double.SIDE)), fps=5)
    bar, totals = webui.module("hooks.progress.bar").ProgressBar, []
    begin = bar.begin

    def began(self, p, plan, passes):
        totals.append(passes[False])
        begin(self, p, plan, passes)

    monkeypatch.setattr(bar, "begin", began)
    found = {}
    for share in (0, 1):
        watched.clear()
        totals.clear()
        webui.paint({**CLIP, **clip, "video": "in/a.gif", "denoise": 0.5, "video_inversion": share})
        found[share] = totals[0]  # before the first call
    assert found[1] == pytest.approx(1.5 * found[0])
    assert never_falls([share for share, _ in watched])
    steps = list(dict.fromkeys(text for _, text in watched if text.startswith("Inverting")))
    calls = int(steps[0].partition("/")[2])
    assert steps[:calls] == [f"Inverting {call + 1}/{calls}" for call in range(calls)]


def test_clients_get_the_webuis_own_jobs(webui):
    seen = []
    shared.during_decoding = lambda _: seen.append((shared.state.dict()["job_no"], shared.state.job_count))
    webui.paint(CLIP, n_iter=2, **HIRES)
    assert set(seen) == {(1, 4), (3, 4)}


def test_a_scripts_runs_share_the_bar(webui, watched):
    """As the X/Y/Z plot, which counts the jobs of all its cells."""
    shared.state.begin()
    shared.state.job_count = 2
    for _ in range(2):
        double.process_images(webui.p(CLIP))
        watched.append((shared.state.progress, "between"))
    shares = [share for share, _ in watched]
    assert never_falls(shares)
    assert [share for share, text in watched if text == "between"] == [0.5, 1]


# ---- decoding


def test_a_preview_that_another_thread_decodes_is_no_frame(parts):
    model = SimpleNamespace(decode_first_stage=lambda z: z)
    seen = []
    watch = parts.vae_watch.VaeWatch(model, 2, lambda: True, lambda *given: seen.append(given))
    frame = double.noise([1])
    thread = threading.Thread(target=model.decode_first_stage, args=(frame,))
    thread.start()
    thread.join()
    assert not seen
    model.decode_first_stage(frame)
    assert model.decode_first_stage(frame * 2).equal(frame)
    assert seen == [("decode", 1)]
    assert watch.is_cut_short
    assert vars(model).keys() == {"decode_first_stage"}


def test_frames_that_a_program_decodes_in_one_call_are_decoded_one_by_one(parts):
    """As Forge and reForge do; otherwise the bar stands, and an interrupt waits for all frames."""
    model = SimpleNamespace(decode_first_stage=lambda z: -z)
    seen = []
    watch = parts.vae_watch.VaeWatch(model, 4, lambda: len(seen) == 3, lambda *given: seen.append(given))
    latents = double.noise([1, 2, 3, 4])
    images = model.decode_first_stage(latents)
    assert seen == [("decode", 1), ("decode", 2), ("decode", 3)]
    assert images.equal(-latents[[0, 1, 2, 2]])
    assert watch.is_cut_short
    assert watch.decoded == 3
