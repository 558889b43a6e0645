"""What remains of a clip that was interrupted while its frames were decoded, encoded or written; all is restored."""

from __future__ import annotations

import pytest
import torch
from support.matrix import every_once
from support.webui_double import double
from support.webui_double.double import shared

CLIP = {"model": "mm.safetensors", "frames": 4, "format": ["GIF", "MP4"]}
HIRES = {"enable_hr": True}
PIXELS = {**HIRES, "latent_scale_mode": None}


def notes_of(processed):
    return processed.extra_generation_params.get("AnimateDiff notes", [])


def pressed(button, after):
    calls = []

    def press(*_):
        calls.append(1)
        if len(calls) == after:
            setattr(shared.state, button, True)

    return press


def untouched(webui):
    model = webui.checkpoint
    return not {"decode_first_stage", "encode_first_stage"} & vars(model).keys()


@pytest.mark.parametrize(("button", "fields"), every_once(["interrupted", "skipped"], [{}, HIRES, PIXELS]))
def test_interrupted_while_decoding_the_frames_so_far_are_the_clip(webui, button, fields):
    first = 4 if fields is PIXELS else 0  # frames that are decoded between the passes
    shared.during_decoding = pressed(button, first + 2)
    processed = webui.paint({**CLIP, "format": "Frame"}, **fields)
    assert len(processed.images) == 2
    assert notes_of(processed) == ["The clip was interrupted: 2 of 4 frames were decoded."]
    assert untouched(webui)
    shared.during_decoding = None
    assert len(webui.paint({**CLIP, "format": "Frame"}, **fields).images) == 4


def test_interrupted_between_the_passes_the_first_ones_frames_are_the_clip(webui):
    shared.during_decoding = pressed("interrupted", 3)
    processed = webui.paint({**CLIP, "format": "Frame"}, **PIXELS)
    assert [image.size for image in processed.images] == [(8, 8)] * 3
    assert len(shared.samplings) == 1
    assert untouched(webui)


@pytest.mark.parametrize("done", [3, 4])
def test_a_program_that_maps_the_first_ones_frames_to_0_to_1_makes_the_same_clip(webui, monkeypatch, done):
    def painted():
        shared.during_decoding = pressed("interrupted", done)
        webui.paint({**CLIP, "format": "Frame"}, **PIXELS)
        return shared.painted.pop()

    expected, decoded = painted(), double.Txt2Img.decoded_between_passes
    monkeypatch.setattr(double.Txt2Img, "decoded_between_passes", lambda p, x: ((decoded(p, x) + 1) / 2).clamp(0, 1))
    assert len(expected) == done
    assert expected.min() < -0.1
    torch.testing.assert_close(painted(), expected.clamp(-1, 1))


def test_interrupted_while_the_first_ones_frames_are_encoded_they_are_the_clip(webui, monkeypatch):
    monkeypatch.setattr(
        type(webui.checkpoint), "encode_first_stage", lambda _, x: setattr(shared.state, "interrupted", True) or x
    )
    processed = webui.paint({**CLIP, "format": "Frame"}, **PIXELS)
    assert [image.size for image in processed.images] == [(8, 8)] * 4
    assert notes_of(processed) == ["The clip was interrupted before the hires pass."]
    assert untouched(webui)


def test_of_several_clips_each_keeps_its_own_frames(webui):
    shared.during_decoding = pressed("skipped", 6)
    processed = webui.paint({**CLIP, "format": ["GIF"]}, batch_size=2, n_iter=2, is_api=True)
    facts = processed.extra_generation_params["AnimateDiff clips"]
    assert [fact["frames"] for fact in facts] == [4, 2, 4, 4]
    assert [text.split("Seed: ")[1].split(",")[0] for text in processed.infotexts] == ["1", "5", "9", "13"]
    assert ["AnimateDiff interrupted: 6 of 8 frames" in text for text in processed.infotexts] == [1, 1, 0, 0]


def test_an_interrupted_sampling_is_decoded_and_written_as_a_whole(webui):
    shared.during_sampling = pressed("interrupted", 1)
    processed = webui.paint(CLIP, is_api=True)
    assert len(processed.images) == 2
    assert processed.extra_generation_params["AnimateDiff clips"][0]["frames"] == 4
    assert "was interrupted at step" in notes_of(processed)[0]
    assert shared.state.interrupted


@pytest.mark.parametrize(("when", "written"), [("Measuring", 0), ("Writing GIF 1", 0), ("Writing MP4 2", 1)])
def test_interrupted_while_writing_the_finished_files_stay(webui, watched, monkeypatch, when, written):
    bar = webui.module("hooks.progress.bar").ProgressBar
    say = bar.say

    def press(self, text=""):
        say(self, text)
        if text.startswith(when):
            shared.state.interrupted = True

    monkeypatch.setattr(bar, "say", press)
    processed = webui.paint(CLIP, batch_size=2)
    files = [path.suffix for path in webui.outputs.rglob("*") if path.is_file()]
    assert files == [".gif"] * written
    assert len(processed.images) == (1 + 4 if written else 8)  # the frames of a clip without a file
    assert "was interrupted while it was written. Missing: " in notes_of(processed)[0]


@pytest.mark.parametrize(("error", "fields"), every_once([RuntimeError, KeyboardInterrupt], [{}, HIRES, PIXELS]))
def test_a_failure_while_decoding_leaves_nothing_behind(webui, error, fields):
    def fail(_):
        raise error

    kind = type(shared.state)
    shared.during_decoding = fail
    p = webui.request(CLIP, **fields)
    with pytest.raises(error):
        double.process_images(p)
    p.close()  # the WebUI always does
    assert p.is_closed
    assert untouched(webui)
    assert type(shared.state) is kind
    assert shared.state.textinfo is None


def test_another_extensions_method_on_the_checkpoint_stays(webui):
    theirs = webui.checkpoint.decode_first_stage = lambda z: z
    try:
        webui.paint(CLIP)
        assert vars(webui.checkpoint)["decode_first_stage"] is theirs
    finally:
        del webui.checkpoint.decode_first_stage
