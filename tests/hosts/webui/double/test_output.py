"""From finished pictures to clips: the files, the gallery, the API's reply, and what others put beside the frames."""

from __future__ import annotations

import base64
import io
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from PIL import Image
from support.webui_double import double
from support.webui_double.double import CLIP, Script, shared

from lib_animatediff.request.plan import plan_clip
from lib_animatediff.request.settings import ClipSettings
from lib_animatediff.video import FORMATS, read_recipe


def picture(level):
    return Image.new("RGB", (8, 8), (level, 0, 0))


@pytest.fixture
def deliver(webui):
    """Hands over pictures as the WebUI has them after sampling; rows are numbered from 0, seeds from 10."""

    def run(images, *, rows=4, infotexts=None, first=0, frames=2, settings=None, **fields):
        lists = {"all_seeds": range(10, 10 + rows), "all_subseeds": range(20, 20 + rows)}
        lists |= {name: [f"{name} {row}" for row in range(rows)] for name in ("all_prompts", "all_negative_prompts")}
        lists = {name: list(values) for name, values in lists.items()}
        p = SimpleNamespace(
            outpath_samples=str(webui.outputs), batch_size=rows // frames, script_args=(0,), steps=20, cfg_scale=7.0,
            sampler_name="Euler", width=8, height=8, **lists,
        )  # fmt: skip
        vars(p).update(fields)
        infotexts = infotexts or [f"infotext {row}" for row in range(rows)]
        processed = SimpleNamespace(
            images=images, infotexts=infotexts, info=infotexts[0], comments="", index_of_first_image=first,
            batch_size=rows, extra_generation_params={}, **lists,
        )  # fmt: skip
        plan = plan_clip(settings or ClipSettings(frames=frames))
        webui.module("output.deliver").deliver_clips(p, processed, plan)
        return processed

    return run


def levels(source):
    """The red of each frame of a GIF, from a path, or from the text that the API sends."""
    is_text = not str(source).endswith(".gif")
    gif = Image.open(io.BytesIO(base64.b64decode(source)) if is_text else source)
    told = []
    for frame in range(gif.n_frames):
        gif.seek(frame)
        told.append(gif.convert("RGB").getpixel((0, 0))[0])
    return told


def saved(webui):
    return sorted(path.relative_to(webui.outputs).as_posix() for path in webui.outputs.rglob("*") if path.is_file())


def test_a_clip_is_saved_under_date_sequence_and_seed(webui, deliver):
    deliver([picture(0), picture(90)] * 2)
    folder = f"AnimateDiff/{datetime.now().strftime('%Y-%m-%d')}"
    assert saved(webui) == [f"{folder}/00000-10.gif", f"{folder}/00001-12.gif"]
    (webui.outputs / folder / "00041-5.gif").touch()
    deliver([picture(0), picture(90)], rows=2)
    assert saved(webui)[-1] == f"{folder}/00042-10.gif"


def test_the_file_plays_as_the_settings_say_and_carries_its_text_and_the_recipe(deliver):
    settings = ClipSettings(frames=2, fps=4, loop_count=3)
    (shown,) = deliver([picture(0), picture(90)], rows=2, settings=settings).images
    gif, recipe = Image.open(shown.already_saved_as), read_recipe(Path(shown.already_saved_as))
    assert (gif.info["duration"], gif.info["loop"], gif.info["comment"]) == (250, 2, b"infotext 0")
    assert (recipe.infotext, recipe.data["settings"]["frames"], recipe.data["seed"]) == ("infotext 0", 2, 10)
    shared.opts.enable_pnginfo = False
    (shown,) = deliver([picture(0), picture(90)], rows=2).images
    assert read_recipe(Path(shown.already_saved_as)).infotext == ""


def test_an_interpolated_clip_has_more_frames_and_plays_as_long(deliver):
    settings = ClipSettings(frames=2, fps=4, interpolate="x2", formats=("GIF", "Frame"))
    processed = deliver([picture(0), picture(90)], rows=2, settings=settings)
    shown, *frames = processed.images
    assert levels(shown.already_saved_as) == [0, 45, 90]  # a GIF shows the last frame for longer
    with Image.open(shown.already_saved_as) as gif:
        durations = [gif.seek(place) or gif.info["duration"] for place in range(gif.n_frames)]
    assert durations == [120, 130, 250]
    assert [frame.getpixel((0, 0))[0] for frame in frames] == [0, 90], "single frames are the rendered ones"
    (facts,) = processed.extra_generation_params["AnimateDiff clips"]
    assert (facts["frames"], facts["fps"], facts["size"]) == (4, 8.0, [8, 8])


def test_the_gallery_shows_each_clips_first_frame_with_its_seeds_and_texts(deliver):
    frames = [picture(level) for level in (0, 90, 120, 150)]
    processed = deliver(frames)
    assert [levels(clip.already_saved_as) for clip in processed.images] == [[0, 90], [120, 150]]
    assert [clip.tobytes() for clip in processed.images] == [frames[0].tobytes(), frames[2].tobytes()]
    assert not hasattr(frames[0], "already_saved_as")
    assert (processed.info, processed.infotexts) == ("infotext 0", ["infotext 0", "infotext 2"])
    assert (processed.all_seeds, processed.all_subseeds) == ([10, 12], [20, 22])
    assert processed.all_prompts == ["all_prompts 0", "all_prompts 2"]
    assert processed.all_negative_prompts == ["all_negative_prompts 0", "all_negative_prompts 2"]
    assert processed.batch_size == 2


@pytest.mark.parametrize("no_script", [0, "None", None])
def test_the_api_gets_the_file_itself(webui, deliver, no_script):
    (reply,) = deliver([picture(0), picture(90)], rows=2, is_api=True, script_args=(no_script,)).images
    assert base64.b64decode(reply) == next(webui.outputs.rglob("*.gif")).read_bytes()


@pytest.mark.parametrize(
    ("formats", "clips", "frames"),
    [("GIF", "1357", ""), (["GIF", "Frame"], "1357", "12345678"), ("Frame", "", "12345678")],
)
def test_a_whole_request_gives_one_clip_each_and_the_frames_behind_them_if_asked_for(webui, formats, clips, frames):
    """All frames of all clips, each with its own infotext; clips and frames are told by their seeds."""
    processed = webui.paint({**CLIP, "format": formats}, is_api=True, batch_size=2, n_iter=2)
    first = len(clips)
    assert [text[:6] for text in processed.images[:first]] == ["R0lGOD"] * first
    assert [image.size for image in processed.images[first:]] == [(8, 8)] * len(frames)
    assert [text.split("Seed: ")[1][0] for text in processed.infotexts] == [*clips, *frames]
    assert processed.all_seeds == [1, 3, 5, 7]
    assert processed.batch_size == 2
    assert len(saved(webui)) == first


def test_pictures_of_other_scripts_stay_behind_the_clips(deliver):
    maps = [picture(250), picture(240), picture(230)]
    processed = deliver([picture(0), picture(90), *maps], rows=2)
    assert levels(processed.images[0].already_saved_as) == [0, 90]
    assert processed.images[1:] == maps


@pytest.mark.parametrize("place", [0, 2], ids=["a grid before the frames", "behind the frames"])
def test_a_picture_of_another_script_keeps_its_infotext(deliver, place):
    theirs, images, infotexts = picture(250), [picture(0), picture(90)], ["a", "b"]
    images.insert(place, theirs)
    infotexts.insert(place, "theirs")
    processed = deliver(images, rows=2, first=int(place == 0), infotexts=infotexts)
    assert levels(processed.images[0].already_saved_as) == [0, 90]
    assert processed.images[1:] == [theirs]
    assert Image.open(processed.images[0].already_saved_as).info["comment"] == b"a"
    assert (processed.info, processed.infotexts) == ("a", ["a", "theirs"])
    assert processed.index_of_first_image == 0


@pytest.mark.parametrize(("mask", "composite"), [(False, False), (True, False), (False, True), (True, True)])
def test_inpainting_masks_between_the_frames_are_no_frames_and_one_of_each_is_enough(webui, mask, composite):
    shared.opts.return_mask, shared.opts.return_mask_composite = mask, composite
    masked = Image.new("L", (8, 8), 255)
    processed = webui.paint(CLIP, tab="img2img", init_images=[picture(0)], mask_for_overlay=masked)
    assert Image.open(processed.images[0].already_saved_as).n_frames == 2
    assert processed.images[1:] == [masked] * (mask + composite)


def test_without_inpainting_there_are_no_masks_to_pass_over(webui):
    shared.opts.return_mask = True
    (clip,) = webui.paint(CLIP).images
    assert Image.open(clip.already_saved_as).n_frames == 2


def test_interrupted_before_the_first_picture_there_is_no_clip(webui):
    p = webui.request(CLIP)
    p.init = lambda *_: setattr(shared.state, "interrupted", True)
    processed = double.process_images(p)
    assert (processed.images, processed.infotexts) == ([], ["nothing was painted"])
    assert not saved(webui)
    assert p.batch_size == 1


def test_interrupted_between_batches_the_finished_clip_is_delivered(webui):
    class Impatient(Script):
        def process_batch(self, p, *args):
            shared.state.interrupted = len(shared.samplings) == 1

    webui.load_script(Impatient)
    processed = webui.paint(CLIP, n_iter=3)
    assert len(processed.images) == len(processed.infotexts) == len(saved(webui)) == 2


def test_fewer_pictures_than_frames_make_a_shorter_clip(deliver):
    processed = deliver([picture(0), picture(90), picture(120)])
    assert [levels(clip.already_saved_as) for clip in processed.images] == [[0, 90], [120]]


def test_no_pictures_at_all_change_nothing(webui, deliver):
    processed = deliver([], infotexts=["only"])
    assert (processed.images, processed.infotexts, processed.all_seeds) == ([], ["only"], [10, 11, 12, 13])
    assert not saved(webui)


@pytest.mark.parametrize("is_api", [False, True])
def test_a_clip_that_cannot_be_written_leaves_its_frames_and_says_why(webui, deliver, is_api, tmp_path, monkeypatch):
    """In the gallery, and as PNG where there is room."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    webui.outputs.write_text("a file where the folder should be")
    frames = [picture(level) for level in (0, 90, 120, 150)]
    processed = deliver(list(frames), is_api=is_api)
    assert processed.images == frames
    assert processed.infotexts == [f"infotext {row}" for row in range(4)]
    assert processed.comments.startswith("AnimateDiff: ")
    assert "was not written" in processed.comments
    assert f"The frames were saved in {tmp_path}" in processed.comments
    assert processed.extra_generation_params["AnimateDiff error"].split(".")[0] in processed.comments
    assert len(list(tmp_path.rglob("*.png"))) == 4


@pytest.mark.parametrize("odd", [1, 3], ids=["in_the_first_clip", "in_the_second_clip"])
def test_when_one_clip_cannot_be_made_its_frames_are_left(deliver, odd):
    frames = [picture(level) for level in (0, 90, 120, 150)]
    frames[odd] = Image.new("RGB", (16, 8))
    processed = deliver(list(frames))
    whole, left = ([120, 150], frames[:2]) if odd == 1 else ([0, 90], frames[2:])
    assert levels(processed.images[0].already_saved_as) == whole
    assert processed.images[1:] == left
    assert len(processed.infotexts) == 3
    assert "must have the same size" in processed.comments


def test_every_format_is_written_and_only_pictures_are_shown(webui, deliver):
    settings = ClipSettings(frames=2, formats=("MP4", "WEBP", "PNG", "TXT"))
    processed = deliver([picture(0), picture(90)], rows=2, settings=settings)
    (shown,) = processed.images
    assert shown.already_saved_as.endswith(".webp")
    assert {path.rpartition(".")[2] for path in saved(webui)} == {"mp4", "webp", "png", "txt"}
    (told,) = processed.extra_generation_params["AnimateDiff clips"]
    assert [path.rpartition("-10")[2] for path in told["files"]] == [".mp4", ".webp", "", ".txt"]
    assert (told["frames"], told["fps"], told["seam"]) == (2, 8.0, None)
    assert (told["infotext"], told["size"], told["borders"]) == (processed.infotexts[0], [8, 8], [])
    assert told["changes"] == [1.0]  # of the median
    files = [Path(path) for path in told["files"]]
    sizes = [sum(f.stat().st_size for f in file.iterdir()) if file.is_dir() else file.stat().st_size for file in files]
    assert told["sizes"] == sizes
    assert told["files"][0] in shared.may_be_read


def test_the_reply_holds_the_files_but_no_folder_and_no_text(deliver):
    settings = ClipSettings(frames=2, formats=("MP4", "PNG", "TXT", "GIF"))
    processed = deliver([picture(0), picture(90)], rows=2, settings=settings, is_api=True)
    video, gif = map(base64.b64decode, processed.images)
    assert (video[4:8], gif[:4]) == (b"ftyp", b"GIF8")
    (told,) = processed.extra_generation_params["AnimateDiff clips"]
    assert list(told) == ["files", "sizes", "size", "frames", "fps", "seam", "loop_seam"]


@pytest.mark.parametrize("name", ["PNG", "TXT"])
def test_frames_stand_in_for_what_lies_on_the_disk_alone(webui, deliver, name):
    processed = deliver([picture(0)] * 4, settings=ClipSettings(frames=2, formats=(name,)), is_api=True)
    assert processed.images == [picture(0)] * 4
    assert processed.infotexts == [f"infotext {row}" for row in range(4)]
    assert processed.all_seeds == [10, 12]
    assert len(processed.extra_generation_params["AnimateDiff clips"]) == 2


def test_the_worst_seam_stands_in_the_text(deliver):
    """Windows of two, the second begins with a jump."""
    settings = ClipSettings(frames=4, context_length=2, overlap=0, context_kind="batched")
    frames = [picture(level) for level in (10, 12, 200, 202)]
    processed = deliver(frames, frames=4, settings=settings)
    seam = float(processed.infotexts[0].rpartition("AnimateDiff worst seam: ")[2])
    assert seam > 10
    assert processed.extra_generation_params["AnimateDiff clips"][0]["seam"] == seam


def test_the_users_pattern_names_the_file(webui, deliver):
    shared.opts.animatediff_filename_pattern = "[width]/[prompt]-[seed]"
    for _ in range(2):
        deliver([picture(0), picture(90)], rows=2)
    assert saved(webui) == ["AnimateDiff/8/all_prompts 0-10-2.gif", "AnimateDiff/8/all_prompts 0-10.gif"]


@pytest.mark.parametrize("hostile", ["../../../out", "/etc/passwd", "a/../../b", "C:\\windows", "x" * 500, "\u202egif"])
def test_no_name_leads_out_of_the_folder(webui, deliver, hostile):
    shared.opts.animatediff_filename_pattern = hostile
    settings = ClipSettings(frames=2, request_id=hostile)
    deliver([picture(0), picture(90)], rows=2, settings=settings)
    (file,) = saved(webui)
    assert file.startswith("AnimateDiff/")


def test_the_clients_word_ends_the_name(webui, deliver):
    deliver([picture(0), picture(90)], rows=2, settings=ClipSettings(frames=2, request_id="job 7"))
    assert saved(webui)[0].endswith("00000-10-job 7.gif")


def test_the_users_settings_reach_the_encoders(webui):
    shared.opts.animatediff_mp4_crf = 30
    shared.opts.animatediff_webp_lossless = True
    made = webui.module("output.files").encoding()
    assert (made.mp4_crf, made.lossless, made.webm_crf) == (30, True, 24)


def paint_unsaved(webui, clip, sent=("save_images",)):
    """As the WebUI's API does, whose function has the client's request in this variable."""
    txt2imgreq = SimpleNamespace(save_images=False, __fields_set__={*sent})
    return webui.paint(clip, is_api=True, do_not_save_samples=not txt2imgreq.save_images)


def test_a_client_that_says_nothing_of_saving_has_the_files_on_the_disk_too(webui):
    paint_unsaved(webui, CLIP, sent=())
    assert len(saved(webui)) == 1


@pytest.mark.parametrize(("formats", "kept"), [(["GIF"], []), (["PNG", "GIF", "TXT"], [".png", ".png", ".txt"])])
def test_a_client_that_saves_no_images_has_the_files_in_the_reply_alone(webui, formats, kept):
    """What the reply cannot have stays on the disk."""
    clip = {**CLIP, "format": formats}
    wanted = webui.paint(clip, is_api=True).images
    before = saved(webui)
    processed = paint_unsaved(webui, clip)
    assert processed.images == wanted
    assert sorted(Path(name).suffix for name in saved(webui) if name not in before) == kept


def test_a_format_that_fails_is_kept_whatever_a_client_saves(webui, monkeypatch):
    monkeypatch.setitem(FORMATS, "gif", replace(FORMATS["gif"], write=Mock(side_effect=OSError("no space"))))
    processed = paint_unsaved(webui, CLIP)
    assert "no space" in processed.comments
    assert [Path(name).suffix for name in saved(webui)] == [".png"] * CLIP["frames"]
    assert len(processed.images) == CLIP["frames"]
