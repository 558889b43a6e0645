"""Turns the WebUI's finished images into clips: files on disk, the gallery, the player, the API's response."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.request.effects import Note
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.start.taken_over import ClipSource

from .clips import Clip, WrittenClips, is_api, is_sent, make_clips
from .facts import clip_facts, page_facts
from .following import Delivery
from .script_runs import ClipFacts, ScriptRun, clip_image

CLIPS_KEY = "AnimateDiff clips"  # in the response's parameters: data of each clip for the page's player and clients
ERROR = "AnimateDiff error"
NOTES = "AnimateDiff notes"  # a list of sentences about settings that have no effect
LORAS = "AnimateDiff motion LoRAs"  # reports how much of each fits
_IN_A_GALLERY = (".gif", ".webp", ".png", ".avif")


def deliver_clips(
    p: Processing,
    processed: Any,
    plan: ClipPlan,
    lora_reports: Sequence[str] = (),
    script_run: ScriptRun | None = None,
    delivery: Delivery | None = None,
    source: ClipSource | None = None,
    written: WrittenClips | None = None,
    known: Mapping[int, Sequence[Path]] | None = None,
) -> None:
    """Write each clip, and replace its frames in ``processed`` by it. Images from other scripts remain.

    If a clip cannot be written, its frames remain in the gallery, with the error.

    Args:
        script_run: the clips of earlier runs by the same selectable script.
        delivery: follows what is done.
        source: what the files take over from a source video.
        written: clips that are written.
        known: files of clips that an earlier request has written, by the clip's number.
    """
    delivery = delivery or Delivery()
    first, frames = processed.index_of_first_image, plan.frames
    rows = delivery.rows(len(p.all_seeds))
    rendered = min(len(processed.infotexts) - first, len(rows))  # other scripts may have added some of each
    per_frame = _images_per_frame(p)
    places = range(first, len(processed.images), per_frame)[:rendered]
    images = [processed.images[place] for place in places]
    if not images:
        return

    def stays(place: int) -> bool:
        frame = (place - first) // per_frame
        is_mask = 0 <= frame < rendered and place not in places
        # the clip keeps the masks of its first frame
        return rows[frame] % frames == 0 if is_mask else place not in places

    others = [image for place, image in enumerate(processed.images) if stays(place)]
    texts = processed.infotexts[first : first + rendered]
    other_texts = processed.infotexts[:first] + processed.infotexts[first + rendered :]
    made = make_clips(p, images, texts, rows, plan, delivery, source, written, known)
    clips = [clip for _, clip in made]
    shown, shown_texts = _shown(p, clips, plan.output.with_frames)
    processed.images, processed.infotexts = [*shown, *others], [*shown_texts, *other_texts]
    processed.info = processed.infotexts[0]
    processed.index_of_first_image = 0
    processed.batch_size = p.batch_size
    for name in ("all_seeds", "all_subseeds", "all_prompts", "all_negative_prompts"):
        # only those of a clip's first frame, which reproduce it
        setattr(processed, name, getattr(processed, name)[::frames])
    _report(p, processed, clips, plan, script_run or ScriptRun())
    if lora_reports:
        processed.extra_generation_params[LORAS] = " ".join(lora_reports)


def report_notes(processed: Any, notes: Sequence[Note]) -> None:
    """Report settings without effect on the page and in the response, and not in infotexts."""
    if notes:
        lines = [str(note) for note in notes]
        processed.comments += "".join(f"AnimateDiff: {line}\n" for line in lines)
        processed.extra_generation_params = {**processed.extra_generation_params, NOTES: lines}


def _shown(p: Processing, clips: Sequence[Clip], with_frames: bool) -> tuple[list[Any], list[str]]:
    """The replacement of the frames: each clip, then single frames if requested or if nothing else shows the clip."""
    shown: list[Any] = []
    shown_texts: list[str] = []
    each = [_images(p, clip) for clip in clips]
    for clip, images in zip(clips, each, strict=True):
        shown += images
        shown_texts += [clip.infotext] * len(images)
    for number, clip in enumerate(clips):
        if with_frames or not each[number]:
            shown += clip.rendered[: len(clip.texts)]
            shown_texts += clip.texts
    return shown, shown_texts


def _images(p: Processing, clip: Clip) -> list[Any]:
    """The images of a clip. An API client gets files, which a script that uses images gets in the form of images."""
    if not is_api(p):
        return _in_gallery(clip)
    sent = [path for path in clip.files if is_sent(path.suffix)]
    if a1111.selected_script(p) is not None:
        return [clip_image(clip.rendered[0], path) for path in sent]
    return [base64.b64encode(data).decode("ascii") for data in (*clip.sent, *(path.read_bytes() for path in sent))]


def shown_file(files: Sequence[Path]) -> Path | None:
    """The file of a clip that a gallery of images can show."""
    return next((path for path in files if path.suffix.lower() in _IN_A_GALLERY), None)


def _in_gallery(clip: Clip) -> list[Any]:
    """The first frame, which the WebUI shows and passes on as the file in ``already_saved_as``."""
    if not clip.files:
        return []
    shown = clip.rendered[0].copy()
    file = shown_file(clip.files)
    if file is not None:
        shown.already_saved_as = str(file)
    return [shown]


def _report(p: Processing, processed: Any, clips: Sequence[Clip], plan: ClipPlan, script_run: ScriptRun) -> None:
    """Report clips and errors on the page and in the response."""
    problems = [clip.problem for clip in clips if clip.problem]
    is_page = not is_api(p)
    facts = [_facts(clip, float(plan.output.shown_fps), for_page=is_page) for clip in clips]
    if a1111.selected_script(p) is not None:
        facts = script_run.add(a1111.state(), facts)
        p.extra_generation_params[CLIPS_KEY] = ClipFacts(facts)
    params: dict[str, Any] = {CLIPS_KEY: facts}
    if problems:
        processed.comments += "".join(f"{problem}\n" for problem in problems)
        params[ERROR] = " ".join(problems)
    # p's own dictionary would add it to the infotexts of later images
    processed.extra_generation_params = {**processed.extra_generation_params, **params}
    if is_page:
        for path in (path for clip in clips for path in clip.files if path.is_file()):
            a1111.allow_file_in_page(path)


def _facts(clip: Clip, fps: float, *, for_page: bool) -> dict[str, Any]:
    facts = clip_facts(clip.files, clip.rendered[0].size, len(clip.frames), fps, clip.motion)
    return {**facts, **page_facts(clip.infotext, clip.motion)} if for_page else facts


def _images_per_frame(p: Processing) -> int:
    """Images per frame: the WebUI adds the inpainting mask after each image if the user's settings enable it."""
    if getattr(p, "mask_for_overlay", None) is None:
        return 1
    return 1 + bool(a1111.opts().return_mask) + bool(a1111.opts().return_mask_composite)
