"""A clip that is interrupted after any step goes on to the same bits; what keeps its state, and what removes it."""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from support.clip_files import write_film
from support.control_files import write_pocket_controlnet
from support.matrix import in_matrix
from support.pocket_clips import RED, pixels
from support.source_files import shades

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers.pipeline import SAMPLERS
from lib_animatediff.hosts.diffusers.start.inverted import InvertedVideo
from lib_animatediff.jobs import unfinished
from lib_animatediff.jobs.recipe import Request, prepare, recipe_of
from lib_animatediff.jobs.unfinished import UnfinishedClip, found_state, identity_of, read_state
from lib_animatediff.request.control.unit import ControlUnit
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.pins import Pin, PinnedFrames
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.video.source import Source
from motion_module import ClipError

STEPS = 3
LONG = {"frames": 6, "context_length": 4, "overlap": 1, "stride": 2}
FREEINIT = {"freeinit_enable": True, "freeinit_iters": 2}
LARGER = {"upscale": 1.5, "upscale_denoise": 0.7}


class Crash(BaseException):
    """Nothing in the program expects it."""


@pytest.fixture(autouse=True)
def at_every_step(monkeypatch):
    monkeypatch.setattr(unfinished, "MOST_TIME", 1e9)


def request_of(sampler="ddim", steps=STEPS, motion=None, prompt=RED, cfg=3.0, **settings):
    checked = parse_settings({"frames": 4, **settings})
    motion = motion or POCKET.folder / POCKET.motion
    return Request(
        POCKET.folder / POCKET.checkpoint,
        motion,
        prompt,
        checked,
        seed=3,
        size=(32, 32),
        steps=steps,
        cfg=cfg,
        sampler=sampler,
    )


@lru_cache(maxsize=1)
def ready(request):
    return prepare(request)


def identity(request):
    return identity_of(recipe_of(request, {}), request.device)


def keeper(request, output, **more):
    mine = identity(request)
    return UnfinishedClip(output, mine, ["--steps", "3"], Path.cwd(), found=found_state(output, mine), **more)


def frames_of(pipeline, request, states=None, on_step=lambda: None):
    return pixels(list(ready(request).render(pipeline, on_step, states=states)))


def interrupted(pipeline, request, output, after):
    """Render until some steps are done."""
    done = []

    def step():
        done.append(1)
        if len(done) == after:
            raise Crash

    with pytest.raises(Crash):
        frames_of(pipeline, request, keeper(request, output), step)


def goes_on(pipeline, request, output, after):
    """The frames of a clip that was interrupted after some steps; no step is rendered twice."""
    interrupted(pipeline, request, output, after)
    states, seen = keeper(request, output), []
    assert states.found.sampled == after
    with pipeline.unet.register_forward_pre_hook(lambda *_: seen.append(states.found)):
        frames = frames_of(pipeline, request, states, lambda: seen.append("step"))
    assert seen[:after] == ["step"] * after  # of the progress bar
    return frames


EVERY = None  # steps
INTERRUPTED = [
    ({"sampler": "dpm++2m-sde"}, EVERY),
    ({"sampler": "euler-a", "steps": 2, **LONG}, (1,)),
    ({"sampler": "ddim", "steps": 2, **FREEINIT}, (2, 3)),  # between the rounds, and inside the second one
    ({"sampler": "ddim", "steps": 2, **LARGER}, (2, 3)),  # likewise the passes
]


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        *INTERRUPTED,
        *(in_matrix(settings, EVERY) for settings, _ in INTERRUPTED[1:]),
        in_matrix({"sampler": "euler-a", **FREEINIT, "freeinit_coarse": True, **LONG, **LARGER}, EVERY),
        in_matrix({"sampler": "euler-a", "noise": "shared", "guidance_end": 0.6}, EVERY),
        in_matrix({"steps": 9, "reuse": 3}, EVERY),
        in_matrix({"motion": Path("text2video-zero"), "sampler": "euler-a", "steps": 5}, EVERY),
        in_matrix({"prompt": f"0: {RED}\n3: a blue square", **LONG}, EVERY),
        *(in_matrix({"sampler": sampler, "steps": 4}, EVERY) for sampler in SAMPLERS),
    ],
    ids=str,
)
def test_a_clip_that_is_interrupted_after_any_step_is_the_same(pipeline, tmp_path, settings, places):
    request = request_of(**settings)
    whole = frames_of(pipeline, request)
    steps = ready(request).steps
    kept = set()
    for after in places or range(1, steps + 1):
        output = tmp_path / f"{after}.gif"
        if "reuse" in settings or "motion" in settings:  # not after each step
            interrupted(pipeline, request, output, after)
            states = keeper(request, output)
            kept.add(states.found and states.found.sampled)
            frames = frames_of(pipeline, request, states)
        else:
            frames = goes_on(pipeline, request, output, after)
        assert torch.equal(frames, whole), after
    assert len(kept) != 1


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A film, an image and a ControlNet."""
    folder = tmp_path_factory.mktemp("images")
    pictures = shades(4, (32, 32))
    write_film(folder / "a.mkv", pictures, codec="ffv1", pix_fmt="bgr0")
    pictures[1].save(folder / "1.png")
    write_pocket_controlnet(folder / "net.safetensors")
    return folder


STARTS = {
    "inverted video": ["video"],
    "pins": ["pins"],
    "pins in the second pass": ["pins", "larger"],
    "control in the second pass": ["control", "larger"],
    "all in windows": ["video", "pins", "control", "long"],
}


@pytest.mark.parametrize(
    ("parts", "places"),
    [(STARTS["all in windows"], (2,)), *(in_matrix(parts, EVERY) for parts in STARTS.values())],
    ids=lambda value: " ".join(map(str, value or ())),
)
def test_a_clip_with_images_goes_on_and_its_video_is_not_inverted_again(
    pipeline, tmp_path, images, parts, places, monkeypatch
):
    source = Source(images / "a.mkv")
    given = {
        "video": {"video": VideoStart(source, (0.5, 1.0), inversion=0.5)},
        "pins": {"pins": PinnedFrames((Pin(1, images / "1.png"),))},
        "control": {"controls": (ControlUnit(images / "net.safetensors", Source(images / "1.png"), end=0.5),)},
    }
    settings = {"larger": LARGER, "long": {"context_length": 3, "overlap": 1}}
    request = request_of("euler-a", **{name: each for part in parts for name, each in settings.get(part, {}).items()})
    for part in parts:
        request = replace(request, **given.get(part, {}))
    whole = frames_of(pipeline, request)
    inverted, invert = [], InvertedVideo._inverted
    monkeypatch.setattr(InvertedVideo, "_inverted", lambda self, steps: inverted.append(1) or invert(self, steps))
    for after in places or range(1, ready(request).steps + 1):
        inverted.clear()
        assert torch.equal(goes_on(pipeline, request, tmp_path / f"{after}.gif", after), whole), after
        assert len(inverted) == ("video" in parts)


def test_it_may_be_interrupted_again(pipeline, tmp_path):
    request, output = request_of("euler-a"), tmp_path / "a.gif"
    whole = frames_of(pipeline, request)
    interrupted(pipeline, request, output, 1)
    interrupted(pipeline, request, output, 2)
    assert torch.equal(frames_of(pipeline, request, keeper(request, output)), whole)


def test_the_pipeline_is_as_before(pipeline, tmp_path):
    before = dict(vars(pipeline))
    goes_on(pipeline, request_of(), tmp_path / "a.gif", 2)
    assert vars(pipeline).keys() == before.keys()
    assert pipeline.scheduler is before["scheduler"]


@pytest.fixture(scope="module")
def kept_state(pipeline, tmp_path_factory):
    """The file of a state after one step."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unfinished, "MOST_TIME", 1e9)
        interrupted(pipeline, request_of(), folder / "a.gif", 1)
    return folder / "a.gif.animatediff-state"


@pytest.fixture
def state(kept_state, tmp_path):
    """A copy of it."""
    return shutil.copy(kept_state, tmp_path / kept_state.name)


def test_a_state_of_another_clip_version_or_device_is_refused(state):
    stored, now = read_state(state), identity(request_of())
    stored.identity.check(state, now)
    for other, code in (
        (identity(request_of(steps=4)), "AD-J04"),
        (identity(request_of(prompt="a blue cross")), "AD-J04"),
        (replace(now, versions={**now.versions, "torch": "1.0"}), "AD-J05"),
        (replace(now, device="cuda"), "AD-J05"),
    ):
        with pytest.raises(ClipError, match=code):
            stored.identity.check(state, other)
        assert found_state(state.with_name("a.gif"), other) is None


def compressed(path):
    """The file with its members compressed, of which a small file may hold any number of bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


DAMAGED = {
    "format": {"format": 2},
    "words": {"words": [7]},
    "folder": {"folder": 7},
    "versions": {"identity": {"job": "a", "versions": 7, "device": "cpu"}},
    "latents": {"state": {"latents": torch.zeros(4, 4)}},
    "latents without numbers": {"state": {"latents": torch.full((4, 4, 4, 4), torch.nan)}},
    "generators": {"state": {"generators": torch.zeros(4, 1, dtype=torch.uint8)}},
    "steps": {"state": {"sampled": -1}},
    "lists in lists": {"state": {"scheduler": {"history": [[[]]]}}},
    "numbers": {"state": {"numbers": [(((),), 0)]}},
    "latents of any size": {"state": {"latents": torch.zeros(1).expand(4, 10**12, 1, 1)}},
    "a tensor of any size": {"state": {"scheduler": {"history": [torch.zeros(1).expand(10**12)]}}},
}


@pytest.mark.parametrize("damage", ["cut", "text", "compressed", *DAMAGED])
def test_a_damaged_state_is_refused_in_one_sentence(state, damage):
    content = torch.load(state, weights_only=True)
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:-100])
    elif damage == "text":
        state.write_text("no state")
    elif damage == "compressed":
        compressed(state)
    else:
        for name, value in DAMAGED[damage].items():
            content[name] = {**content[name], **value} if isinstance(value, dict) else value
        torch.save(content, state)
    with pytest.raises(ClipError, match="AD-J06"):
        read_state(state)


@pytest.mark.parametrize(
    "wrong", [{"sampled": 10**9}, {"latents": torch.zeros(4, 4, 64, 64)}, {"first": torch.zeros(4, 4, 64, 64)}], ids=str
)
def test_a_state_that_is_not_of_the_clips_sampling_is_refused(pipeline, state, wrong):
    """Such as one with a billion steps, each of which the progress bar would count."""
    content = torch.load(state, weights_only=True)
    content["state"] |= wrong
    torch.save(content, state)
    request = request_of()
    with pytest.raises(ClipError, match="AD-J09"):
        frames_of(pipeline, request, keeper(request, state.with_name("a.gif")), lambda: pytest.fail("a step"))


def test_a_state_that_does_not_exist_is_said(tmp_path):
    with pytest.raises(ClipError, match="AD-J03"):
        read_state(tmp_path / "a.gif.animatediff-state")


def test_states_take_two_percent_of_the_time(monkeypatch, tmp_path):
    """Of a clip whose steps take a second each, and whose states take longer than expected."""
    monkeypatch.setattr(unfinished, "MOST_TIME", 0.02)
    clock, written = [0.0], []

    def save(*_):
        clock[0] += 0.07
        written.append(clock[0])

    monkeypatch.setattr(unfinished.torch, "save", save)
    states = keeper(request_of(), tmp_path / "a.gif", now=lambda: clock[0])
    monkeypatch.setattr(states, "_content", lambda _: {})
    for _ in range(200):
        clock[0] += 1
        if states.is_due():
            states.keep(None)
    assert sum(0.07 for _ in written) <= 0.02 * clock[0]
    assert len(written) >= 40  # that is after every fourth step, and as often as allowed
    assert written[0] < 2.1


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        pytest.param(errno.EROFS, "the folder is read-only", marks=pytest.mark.matrix),
    ],
)
def test_what_cannot_be_written_costs_the_state_and_not_the_clip(pipeline, tmp_path, monkeypatch, number, reason):
    def save(*_):
        raise OSError(number, os.strerror(number))

    request, said = request_of(), []
    monkeypatch.setattr(unfinished.torch, "save", save)
    frames = frames_of(pipeline, request, keeper(request, tmp_path / "a.gif", say=said.append))
    assert torch.equal(frames, frames_of(pipeline, request))
    assert len(said) == 1
    assert "cannot be resumed" in said[0]
    assert reason in said[0]
    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_goes_backwards_costs_no_state(pipeline, tmp_path, monkeypatch):
    other = tmp_path / f"other{unfinished.SUFFIX}"
    other.write_bytes(bytes(10))
    now = unfinished.time.time()
    monkeypatch.setattr(unfinished.time, "time", lambda: now - 10**8)
    interrupted(pipeline, request_of(), tmp_path / "a.gif", 2)
    assert other.exists()
    assert read_state(tmp_path / f"a.gif{unfinished.SUFFIX}").state.sampled == 2


def test_old_states_and_more_than_the_limit_are_removed(pipeline, tmp_path, monkeypatch, state):
    monkeypatch.setattr(unfinished, "MOST_BYTES", 25)
    now = state.stat().st_mtime
    others = {"new": 0, "second": 60, "third": 120, "old": unfinished.OLDEST + 60}
    for name, age in others.items():
        path = tmp_path / f"{name}{unfinished.SUFFIX}"
        path.write_bytes(bytes(10))
        os.utime(path, (now - age, now - age))
    (tmp_path / "clip.gif").write_bytes(bytes(1000))
    interrupted(pipeline, request_of(), tmp_path / "a.gif", 2)
    left = {path.name.removesuffix(unfinished.SUFFIX) for path in tmp_path.iterdir()}
    assert left == {"a.gif", "clip.gif", "new", "second"}
