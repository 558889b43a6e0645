"""Several batches: the clips of a batch are written before the next one begins, and stay when a later one fails."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image
from support.matrix import every_once
from support.webui_double.double import CLIP, SIDE, Script, shared
from support.webui_double.images_in import IMG2IMG

from lib_animatediff.video import read_clip, read_recipe
from motion_module import ClipError

BATCHES = 3
SMALL = {**CLIP, "format": ["APNG"]}
WHOLE = b"IEND\xaeB`\x82"  # the end of a PNG


class TroubleError(Exception):
    """Of any kind."""


def render(webui, clip=SMALL, **fields):
    """A request that ends as the WebUI's do."""
    with closing(webui.request(clip, **{"n_iter": BATCHES, **fields})) as p:
        return webui.double.process_images(p)


def files(webui):
    return sorted(path for path in webui.outputs.rglob("*") if path.is_file())


def contents(webui):
    return {path.name: path.read_bytes() for path in files(webui)}


def failing(call, error):
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == call:
            raise error

    return fail


def fail_in_the_third_batch(webui, monkeypatch, phase, error):
    former = webui.double.reload_model_weights
    if phase == "sampling":
        shared.during_sampling = failing(3, error)
    elif phase == "decoding":
        shared.during_decoding = failing(2 * 2 + 2, error)  # its second frame
    else:
        fail = failing(1 + 3, error)  # once before all batches
        monkeypatch.setattr(webui.double, "reload_model_weights", lambda info=None: fail() or former(info))


ERRORS = [TroubleError("trouble"), ClipError("trouble", code="AD-W16"), OSError(5, "trouble"), MemoryError()]


@pytest.mark.parametrize(
    ("phase", "error"), every_once(["sampling", "decoding", "before"], ERRORS, more=lambda places: places == (0, 0))
)
def test_a_failure_in_the_third_batch_keeps_the_clips_of_two_and_names_them(webui, monkeypatch, phase, error):
    fail_in_the_third_batch(webui, monkeypatch, phase, error)
    with pytest.raises((type(error), ClipError)) as raised:  # the latter if memory runs out
        render(webui)
    kept = files(webui)
    assert [read_recipe(path).data["seed"] for path in kept] == [1, 3]
    for path in kept:
        assert path.read_bytes().endswith(WHOLE)
        assert len(list(read_clip(path))) == 2
        assert str(path) in str(raised.value), "the page shows the error's text"
        assert str(path) in raised.value.detail, "the API sends it, too"
    assert "trouble" in str(raised.value) or isinstance(error, MemoryError)


def test_a_failure_in_the_first_batch_is_as_before(webui, monkeypatch):
    shared.during_sampling = failing(1, TroubleError("trouble"))
    with pytest.raises(TroubleError, match=r"^trouble$") as raised:
        render(webui)
    assert not hasattr(raised.value, "detail")
    assert files(webui) == []


SUCCESSES = [
    ({}, {}),
    ({}, {"batch_size": 2}),
    ({"format": ["APNG", "TXT", "Frame"]}, {"enable_hr": True}),
    ({"interpolate": "x2"}, {"is_api": True}),
    ({"reverse": True, "request_id": "mine"}, IMG2IMG),
    ({}, {"mask_for_overlay": Image.new("L", (SIDE, SIDE))}),
    ({"format": ["PNG"]}, {}),
]


@pytest.mark.parametrize(
    ("settings", "fields"),
    [SUCCESSES[1], *(pytest.param(*each, marks=pytest.mark.matrix) for each in (SUCCESSES[0], *SUCCESSES[2:]))],
)
def test_without_a_failure_files_and_reply_are_those_of_one_delivery_at_the_end(
    webui, monkeypatch, tmp_path, settings, fields
):
    shared.opts.return_mask = True
    module = webui.module("hooks.deliveries")

    def outcome(folder):
        webui.outputs = tmp_path / folder
        reply = render(webui, {**SMALL, **settings}, **fields)
        facts = str(reply.extra_generation_params).replace(str(webui.outputs), "")
        shown = [image if isinstance(image, str) else image.tobytes() for image in reply.images]
        return contents(webui), shown, reply.infotexts, facts, reply.comments, reply.all_seeds

    early = outcome("early")
    monkeypatch.setattr(module, "is_sent_only", lambda _: True)
    assert early == outcome("late")


@pytest.mark.matrix
def test_without_metadata_the_reply_has_the_infotexts(webui):
    shared.opts.enable_pnginfo = False
    reply = render(webui)
    assert [text.partition("Seed: ")[2][0] for text in reply.infotexts] == ["1", "3", "5"]
    assert read_recipe(files(webui)[0]).infotext == ""


def test_with_save_images_false_nothing_is_kept(webui, monkeypatch):
    monkeypatch.setattr(webui.module("output.clips").client, "client_saves_nothing", lambda: True)
    shared.during_sampling = failing(3, TroubleError("trouble"))
    with pytest.raises(TroubleError, match=r"^trouble$"):
        render(webui, is_api=True)
    assert files(webui) == []


class Painter(Script):
    """An extension whose hooks come after ours."""

    def __init__(self, hook):
        setattr(self, hook, getattr(self, f"paint_{hook}"))

    def title(self):
        return "painter"

    def paint_postprocess_image_after_composite(self, _p, finished, *_):
        finished.image = Image.new("RGB", finished.image.size, (200, 0, 0))

    def paint_postprocess(self, _p, processed, *_):
        processed.images = [Image.new("RGB", image.size, (200, 0, 0)) for image in processed.images]


@pytest.mark.parametrize("hook", ["postprocess_image_after_composite", "postprocess"])
def test_files_have_the_frames_that_other_extensions_leave(webui, hook):
    runner = webui.tabs["txt2img"]
    runner.add(Painter(hook), is_img2img=False)
    if hook == "postprocess":
        runner.alwayson_scripts.reverse()  # ours comes last, as the WebUI's images are ours by then
    render(webui)
    assert len(files(webui)) == BATCHES
    for path in files(webui):
        assert {frame.image.convert("RGB").getpixel((0, 0)) for frame in read_clip(path)} == {(200, 0, 0)}


def test_an_interrupt_while_files_are_written_ends_the_request(webui, monkeypatch):
    bar = webui.module("hooks.progress.bar").ProgressBar
    say = bar.say

    def press(self, text=""):
        say(self, text)
        shared.state.interrupted = shared.state.interrupted or text.startswith("Measuring")

    monkeypatch.setattr(bar, "say", press)
    reply = render(webui)
    assert len(shared.samplings) == 1
    assert len(reply.images) == 2, "the frames of a clip without a file"
    (note,) = reply.extra_generation_params["AnimateDiff notes"]
    assert "was interrupted while it was written" in note


def test_frames_of_a_format_that_fails_stay_and_the_reply_says_so_once(webui, monkeypatch):
    monkeypatch.setattr(webui.module("output.clips"), "write_clip", Mock(side_effect=TroubleError("no encoder")))
    reply = render(webui)
    assert len(reply.images) == 2 * BATCHES
    assert reply.comments.count("no encoder") == BATCHES


# ---- going on


@pytest.fixture
def kept(webui, monkeypatch):
    """The third of three batches has failed, and the outputs of all calls so far are kept."""
    monkeypatch.setattr(webui.module("clip.unfinished.request"), "MOST_TIME", 1e9)
    shared.during_decoding = failing(2 * 2 + 2, TroubleError("trouble"))
    with suppress(TroubleError):
        render(webui)
    shared.during_decoding = None
    return webui.module("catalog.unfinished")


def test_a_request_that_goes_on_keeps_the_files_that_are_written(webui, kept):
    before = {path: path.stat().st_mtime_ns for path in files(webui)}
    assert [recording.header.infotext.partition("Seed: ")[2][0] for recording in kept.unfinished_clips()] == ["5"]
    reply = render(webui, {**SMALL, "resume": True})
    named = [Path(name) for clip in reply.extra_generation_params["AnimateDiff clips"] for name in clip["files"]]
    assert sorted(named) == files(webui)
    assert len(named) == BATCHES
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "AnimateDiff notes" not in reply.extra_generation_params
    assert not list(kept.folder_of_unfinished_clips().iterdir())


@pytest.mark.matrix
def test_a_file_that_was_deleted_is_written_again(webui, kept):
    former = contents(webui)
    files(webui)[0].unlink()
    render(webui, {**SMALL, "resume": True})
    assert len(files(webui)) == BATCHES
    assert set(former.values()) <= set(contents(webui).values())


@pytest.mark.matrix
def test_files_outside_the_output_folder_are_not_sent(webui, kept, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    for note in kept.folder_of_unfinished_clips().glob(f"*{kept.WRITTEN_SUFFIX}"):
        note.write_text(f'[["{tmp_path / "secret.txt"}"]]')
    reply = render(webui, {**SMALL, "resume": True})
    assert "secret" not in str(reply.extra_generation_params)


@pytest.mark.matrix
def test_the_same_request_without_resume_begins_again(webui, kept):
    render(webui)
    assert len(files(webui)) == 2 + BATCHES
    assert not list(kept.folder_of_unfinished_clips().iterdir())
