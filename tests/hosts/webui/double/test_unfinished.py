"""Clips that are interrupted: recorded outputs of the denoiser are repeated, and the clip is the same to the bit."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest
from support.webui_double.double import CLIP, shared
from support.webui_double.images_in import IMG2IMG

from lib_animatediff.video import read_clip

SMALL = {**CLIP, "format": ["APNG"]}
WINDOWS = {"frames": 4, "context_length": 2, "overlap": 1}
STEPS = 3


class Crash(BaseException):
    """Nothing in the program expects it."""


@pytest.fixture
def unfinished(webui, monkeypatch):
    """The module, which writes after each call, and what tests do with it."""
    module = webui.module("clip.unfinished.request")
    monkeypatch.setattr(module, "MOST_TIME", 1e9)
    shared.steps = STEPS
    store = webui.module("catalog.unfinished")

    def crash_at(call):
        """Let the UNet's part of the denoiser's n-th call crash; None: not any more."""
        count = []

        def wrapped(p, ours):
            def forward(denoiser, original, x, sigma, *args, **kwargs):
                def counted(*given, **named):
                    count.append(1)
                    if len(count) == call:
                        raise Crash
                    return original(*given, **named)

                return ours(denoiser, counted, x, sigma, *args, **kwargs)

            wrap(p, forward)

        monkeypatch.setattr(module, "wrap_denoiser", wrapped)
        return count

    wrap = module.wrap_denoiser
    return SimpleNamespace(
        module=module, store=store, crash_at=crash_at, files=lambda: list(store.folder_of_unfinished_clips().glob("*"))
    )


def pixels(webui):
    """Of the newest file."""
    newest = max(webui.outputs.rglob("*.png"), key=lambda path: path.stat().st_mtime_ns)
    found = [frame.image.convert("RGB").tobytes() for frame in read_clip(newest)]
    newest.unlink()
    return found


def uninterrupted(webui, clip, **fields):
    webui.paint(clip, **fields)
    return pixels(webui)


KINDS = [
    pytest.param({}, {}, 3, id="plain"),
    pytest.param(WINDOWS, {}, 3, id="windows", marks=pytest.mark.matrix),
    pytest.param({"freeinit_enable": True, "freeinit_iters": 2}, {}, 5, id="FreeInit", marks=pytest.mark.matrix),
    pytest.param({}, {"enable_hr": True}, 5, id="hires", marks=pytest.mark.matrix),
    pytest.param({}, IMG2IMG, 2, id="img2img", marks=pytest.mark.matrix),
    pytest.param({"reuse": 2}, {"steps": 8}, 4, id="reuse", marks=pytest.mark.matrix),
]


@pytest.mark.parametrize(("settings", "fields", "call"), KINDS)
def test_a_clip_goes_on_from_the_call_at_which_it_crashed(webui, unfinished, settings, fields, call):
    shared.steps = fields.get("steps", STEPS)
    clip = {**SMALL, **settings}
    whole = uninterrupted(webui, clip, **fields)
    unfinished.crash_at(call)
    with pytest.raises(Crash):
        webui.paint(clip, **fields)
    assert len(unfinished.files()) == 1
    asked = unfinished.crash_at(None)
    processed = webui.paint({**clip, "resume": True}, **fields)
    assert pixels(webui) == whole
    runs = 2 if "enable_hr" in fields or "freeinit_enable" in settings else 1
    repeated = call - 1 if "reuse" not in settings else 2  # calls 0 and 2 compute everything
    assert len(asked) == runs * shared.steps - repeated
    assert unfinished.files() == []
    assert "resume" not in processed.infotexts[0]
    assert "resume" not in processed.comments


def test_calls_that_give_a_sampler_more_than_their_result_are_not_kept(webui, unfinished, monkeypatch):
    """As those of the samplers with CFG++ of reForge and Forge Neo, which repeating would leave without uncond."""
    whole = uninterrupted(webui, SMALL)
    asked, wrap = unfinished.crash_at(2), unfinished.module.wrap_denoiser
    options = {"model_options": {"sampler_post_cfg_function": [print]}}

    def wrapped(p, ours):
        def forward(denoiser, original, x, sigma, *args, **kwargs):
            return ours(denoiser, lambda x, sigma, **_options: original(x, sigma, *args, **kwargs), x, sigma, **options)

        wrap(p, forward)

    monkeypatch.setattr(unfinished.module, "wrap_denoiser", wrapped)
    with pytest.raises(Crash):
        webui.paint(SMALL)
    assert unfinished.files() == []
    unfinished.crash_at(None)
    assert uninterrupted(webui, {**SMALL, "resume": True}) == whole
    assert asked == [1, 1]


@pytest.mark.matrix
def test_without_resume_nothing_is_repeated_and_the_recording_goes(webui, unfinished):
    unfinished.crash_at(3)
    with pytest.raises(Crash):
        webui.paint(SMALL)
    asked = unfinished.crash_at(None)
    webui.paint(SMALL)
    assert len(asked) == STEPS
    assert unfinished.files() == []


@pytest.mark.matrix
def test_an_interrupted_clip_stays_and_goes_on(webui, unfinished):
    clip = SMALL | WINDOWS  # between which an interrupt is noticed
    whole = uninterrupted(webui, clip)
    count = unfinished.crash_at(None)

    def interrupt(p):
        p.sampler.model_wrap_cfg.register_forward_pre_hook(
            lambda *_: setattr(shared.state, "interrupted", len(count) >= 2)
        )

    shared.during_sampling = interrupt
    webui.paint(clip)
    shared.during_sampling = None
    assert len(unfinished.files()) == 1
    pixels(webui)
    asked = unfinished.crash_at(None)
    webui.paint({**clip, "resume": True})
    assert len(asked) == STEPS - 2
    assert pixels(webui) == whole


@pytest.mark.matrix
@pytest.mark.parametrize("left", [0.99, 0.6], ids=["in the last record", "more than a record"])
def test_a_cut_file_costs_calls_and_no_bit(webui, unfinished, left):
    whole = uninterrupted(webui, SMALL)
    unfinished.crash_at(3)
    with pytest.raises(Crash):
        webui.paint(SMALL)
    (path,) = unfinished.files()
    os.truncate(path, int(path.stat().st_size * left))
    asked = unfinished.crash_at(None)
    webui.paint({**SMALL, "resume": True})
    assert STEPS - 2 < len(asked) <= STEPS
    assert pixels(webui) == whole


@pytest.mark.matrix
def test_a_damaged_record_ends_what_is_repeated(webui, unfinished):
    whole = uninterrupted(webui, SMALL)
    unfinished.crash_at(3)
    with pytest.raises(Crash):
        webui.paint(SMALL)
    (path,) = unfinished.files()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # in the first of two calls
    path.write_bytes(data)
    asked = unfinished.crash_at(None)
    webui.paint({**SMALL, "resume": True})
    assert 1 < len(asked) <= STEPS
    assert pixels(webui) == whole


def test_another_clip_is_not_gone_on_with_and_what_differs_is_named(webui, unfinished):
    unfinished.crash_at(3)
    with pytest.raises(Crash):
        webui.paint(SMALL)
    asked = unfinished.crash_at(None)
    processed = webui.paint({**SMALL, "resume": True}, seed=5)
    assert len(asked) == STEPS
    (note,) = processed.extra_generation_params["AnimateDiff notes"]
    assert note.endswith("this is another clip than the unfinished one: infotext, prompts and seeds differ.")
    assert len(unfinished.files()) == 1  # that of the other clip
    for path in unfinished.files():
        path.unlink()
    processed = webui.paint({**SMALL, "resume": True})
    assert "no clip is unfinished" in processed.comments


@pytest.mark.parametrize("number", [errno.ENOSPC, pytest.param(errno.EROFS, marks=pytest.mark.matrix)])
def test_what_cannot_be_written_costs_a_sentence_and_nothing_of_the_clip(webui, unfinished, monkeypatch, number):
    whole = uninterrupted(webui, SMALL)
    recording, calls = webui.module("catalog.recording"), []

    def fail(_file):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(recording.os, "fsync", fail)
    processed = webui.paint(SMALL)
    assert pixels(webui) == whole
    (note,) = [line for line in processed.extra_generation_params["AnimateDiff notes"] if "resume" in line]
    reason = {errno.ENOSPC: "the disk is full", errno.EROFS: "the folder is read-only"}[number]
    assert note == f"resume cannot go on from here if this clip is interrupted: {reason}."


@pytest.mark.matrix
def test_a_full_disk_leaves_the_recording_before_it(webui, unfinished, monkeypatch):
    recording = webui.module("catalog.recording")
    unfinished.crash_at(3)
    sync, calls = os.fsync, []

    def fail(file):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "full")
        sync(file)

    monkeypatch.setattr(recording.os, "fsync", fail)
    with pytest.raises(Crash):
        webui.paint(SMALL)
    assert [each.count for each in unfinished.store.unfinished_clips()] == [1]


def test_old_and_large_ones_make_room_whatever_the_clock_says(webui, unfinished, monkeypatch):
    for seed in (1, 2, 3):
        unfinished.crash_at(3)
        with pytest.raises(Crash):
            webui.paint(SMALL, seed=seed)
    by_seed = unfinished.files()
    assert len(by_seed) == 3
    now = unfinished.store.time.time()
    monkeypatch.setattr(unfinished.store.time, "time", lambda: now - 10**8)  # the clock goes backwards
    unfinished.store.make_room(by_seed[0])
    assert len(unfinished.files()) == 3
    monkeypatch.setattr(unfinished.store.time, "time", lambda: now + unfinished.store.OLDEST + 1)
    unfinished.store.make_room(by_seed[0])
    assert unfinished.files() == [by_seed[0]]


def test_the_panel_reads_a_recording_once_until_it_changes(webui, unfinished, monkeypatch):
    unfinished.crash_at(3)
    with pytest.raises(Crash):
        webui.paint(SMALL)
    reads = []
    read = unfinished.store.Recording
    monkeypatch.setattr(unfinished.store, "Recording", lambda path: reads.append(path) or read(path))
    counts = [[each.count for each in unfinished.store.unfinished_clips()] for _ in range(3)]
    assert counts == [[2]] * 3
    (path,) = unfinished.files()
    assert reads == [path]
    path.write_bytes(path.read_bytes()[:-1])  # its last call is cut
    assert [each.count for each in unfinished.store.unfinished_clips()] == [1]


def test_none_is_kept_without_room_and_previews_keep_none(webui, unfinished, monkeypatch):
    written = []
    monkeypatch.setattr(unfinished.module.Recorder, "append", lambda *_: written.append(1))
    monkeypatch.setitem(shared.opts.data, "animatediff_unfinished_gb", 0)
    webui.paint(SMALL)
    monkeypatch.setitem(shared.opts.data, "animatediff_unfinished_gb", 4)
    webui.paint({**SMALL, "preview": True})
    assert not written
    webui.paint(SMALL)
    assert len(written) == STEPS


@pytest.mark.matrix
def test_each_batch_has_its_own(webui, unfinished):
    fields = {"n_iter": 2}
    webui.paint(SMALL, **fields)
    whole = [pixels(webui), pixels(webui)]
    unfinished.crash_at(STEPS + 3)  # the third call of the second batch
    with pytest.raises(Crash):
        webui.paint(SMALL, **fields)
    assert [each.count for each in unfinished.store.unfinished_clips()] == [2]  # the first one's file is kept
    asked = unfinished.crash_at(None)
    webui.paint({**SMALL, "resume": True}, **fields)
    assert len(asked) == STEPS - 2
    assert sorted([pixels(webui), pixels(webui)]) == sorted(whole)
    assert unfinished.files() == []


def test_clients_learn_what_is_unfinished(webui, unfinished):
    unfinished.crash_at(3)
    with pytest.raises(Crash):
        webui.paint(SMALL)
    (found,) = webui.module("output.api").unfinished()
    assert (found["tab"], found["calls"]) == ("txt2img", 2)
    assert 'AnimateDiff: "resume: True, enable: True' in found["infotext"]
