"""Turns the WebUI's finished images into clips: files on disk, the gallery, the player, the API's response."""

from __future__ import annotations

import base64
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.hosts.webui.compat import a1111, client
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.request.effects import Note
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.start.taken_over import ClipSource
from lib_animatediff.video import FORMATS, Motion, measure, write_clip
from lib_animatediff.video.encoding import StopWriting, check_frames
from motion_module.errors import ClipNotWrittenError

from .facts import clip_facts, page_facts
from .files import encoding, free_place, recipe
from .following import Delivery
from .script_runs import ClipFacts, ScriptRun, clip_image

CLIPS_KEY = "AnimateDiff clips"  # in the response's parameters: data of each clip for the page's player and clients
ERROR = "AnimateDiff error"
NOTES = "AnimateDiff notes"  # a list of sentences about settings that have no effect
LORAS = "AnimateDiff motion LoRAs"  # reports how much of each fits
SEAM = "AnimateDiff worst seam"
INTERRUPTED = "AnimateDiff interrupted"
_IN_A_GALLERY = (".gif", ".webp", ".png", ".avif")


@dataclass
class _Clip:
    """A clip's frames, files and measurements.

    Attributes:
        rendered: the images in the order of playback.
        frames: the images of the files: with interpolation more than are rendered, made when they are read.
        texts: infotext of each rendered image.
        sent: files that the reply alone has.
        source: what they take over from a source video.
    """

    rendered: Sequence[Any]
    frames: Sequence[Any]
    texts: list[str]
    infotext: str
    seed: int
    prompt: str
    motion: Motion | None = None
    files: list[Path] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    source: ClipSource | None = None
    problem: str = ""

    def note_motion(self, motion: Motion) -> None:
        """Store the measurements, and add the worst seam to the infotext."""
        self.motion = motion
        if motion.worst_seam is not None:
            self.infotext += f", {SEAM}: {motion.worst_seam:.2f}"

    def note_files(self, files: Sequence[Path], problem: str = "") -> None:
        """Store the files that were written, and the error of others."""
        self.files, self.problem = list(files), problem


def deliver_clips(
    p: Processing,
    processed: Any,
    plan: ClipPlan,
    lora_reports: Sequence[str] = (),
    script_run: ScriptRun | None = None,
    delivery: Delivery | None = None,
    source: ClipSource | None = None,
) -> None:
    """Write each clip, and replace its frames in ``processed`` by it. Images from other scripts remain.

    If a clip cannot be written, its frames remain in the gallery, with the error.

    Args:
        script_run: the clips of earlier runs by the same selectable script.
        delivery: follows what is done.
        source: what the files take over from a source video.
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
    clips = [
        _clip(p, images[group.start : group.stop], texts[group.start : group.stop], rows[group.start], plan, delivery)
        for group in _groups([row // frames for row in rows[: len(images)]])
    ]
    for clip in clips:
        clip.source = source
        _write(p, clip, plan, delivery)
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


def _groups(numbers: Sequence[int]) -> Iterator[range]:
    """The places of equal neighbours."""
    start = 0
    for _, group in groupby(numbers):
        stop = start + len(list(group))
        yield range(start, stop)
        start = stop


def _clip(p: Processing, frames: list[Any], texts: list[str], row: int, plan: ClipPlan, delivery: Delivery) -> _Clip:
    report = delivery.report(row)
    infotext = texts[0] if report is None else f"{texts[0]}, {INTERRUPTED}: {report}"
    played, shown = plan.output.played(frames), plan.output.shown(frames)
    return _Clip(played, shown, texts, infotext, p.all_seeds[row], p.all_prompts[row])


def _borders(p: Processing, plan: ClipPlan) -> list[int]:
    """Frames at which a context window begins in the last step, which renders the finest details."""
    if not isinstance(plan.windows, ContextWindows):  # chunks have no seams
        return []
    return [window[0] for window in plan.windows.plan(plan.frames, max(int(p.steps) - 1, 0))]


def _write(p: Processing, clip: _Clip, plan: ClipPlan, delivery: Delivery) -> None:
    formats = plan.output.formats
    sent = [name for name in formats if _is_sent(FORMATS[name].suffix)] if _is_sent_only(p) else []
    kept = formats
    try:
        check_frames(clip.rendered)
        clip.note_motion(measure(delivery.measured(clip.rendered), _borders(p, plan)))
        _send(p, clip, plan, sent, delivery)
        kept = tuple(name for name in formats if not clip.sent or name not in sent)
        if not kept:
            return
        place = free_place(p, clip.seed, clip.prompt, clip.rendered[0], plan.output.request_id)
        files = _files(p, clip, plan, kept, place, delivery)
    except StopWriting as stop:
        clip.note_files(stop.written)
        complete = {*sent[: len(clip.sent)], *kept[: len(stop.written)]}
        delivery.stopped([name for name in formats if name not in complete])
    except Exception as error:  # errors of encoders and disks have any type, and must not lose the frames
        clip.note_files(error.written if isinstance(error, ClipNotWrittenError) else [], f"AnimateDiff: {error}")
        logging.getLogger(__name__).error(clip.problem)
    else:
        clip.note_files(files)


def _is_sent_only(p: Processing) -> bool:
    """Whether an API client asks for files in the reply alone. Scripts that use images need the files for longer."""
    return _is_api(p) and client.client_saves_nothing() and a1111.selected_script(p) is None


def _send(p: Processing, clip: _Clip, plan: ClipPlan, formats: Sequence[str], delivery: Delivery) -> None:
    """Set the clip's files as bytes; none if one cannot be written, since that leaves files that must be kept."""
    if not formats:
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            files = _files(p, clip, plan, formats, Path(folder) / "clip", delivery)
        except ClipNotWrittenError:
            return
        except StopWriting as stop:
            clip.sent, stop.written = [path.read_bytes() for path in stop.written], []
            raise
        clip.sent = [path.read_bytes() for path in files]


def _files(
    p: Processing, clip: _Clip, plan: ClipPlan, formats: Sequence[str], place: Path, delivery: Delivery
) -> list[Path]:
    source = clip.source
    return write_clip(
        place,
        clip.frames,
        formats=formats,
        fps=plan.output.shown_fps,
        loop_count=plan.output.loop_count,
        recipe=recipe(p, clip.infotext, clip.seed, plan.settings, source.recipe if source else None),
        encoding=encoding(),
        progress=delivery.writing,
        sound=source.sound_of(len(clip.rendered), plan.output.fps) if source else None,
    )


def _shown(p: Processing, clips: Sequence[_Clip], with_frames: bool) -> tuple[list[Any], list[str]]:
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


def _images(p: Processing, clip: _Clip) -> list[Any]:
    """The images of a clip. An API client gets files, which a script that uses images gets in the form of images."""
    if not _is_api(p):
        return _in_gallery(clip)
    sent = [path for path in clip.files if _is_sent(path.suffix)]
    if a1111.selected_script(p) is not None:
        return [clip_image(clip.rendered[0], path) for path in sent]
    return [base64.b64encode(data).decode("ascii") for data in (*clip.sent, *(path.read_bytes() for path in sent))]


def _is_api(p: Processing) -> bool:
    """Whether a client of the HTTP API has sent the request."""
    return bool(getattr(p, "is_api", False))


def _is_sent(suffix: str) -> bool:
    """Whether the reply contains files of this suffix: no folder of frames, which Frame sends, and no infotext."""
    return suffix.lower() not in ("", ".txt")


def shown_file(files: Sequence[Path]) -> Path | None:
    """The file of a clip that a gallery of images can show."""
    return next((path for path in files if path.suffix.lower() in _IN_A_GALLERY), None)


def _in_gallery(clip: _Clip) -> list[Any]:
    """The first frame, which the WebUI shows and passes on as the file in ``already_saved_as``."""
    if not clip.files:
        return []
    shown = clip.rendered[0].copy()
    file = shown_file(clip.files)
    if file is not None:
        shown.already_saved_as = str(file)
    return [shown]


def _report(p: Processing, processed: Any, clips: Sequence[_Clip], plan: ClipPlan, script_run: ScriptRun) -> None:
    """Report clips and errors on the page and in the response."""
    problems = [clip.problem for clip in clips if clip.problem]
    is_page = not _is_api(p)
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


def _facts(clip: _Clip, fps: float, *, for_page: bool) -> dict[str, Any]:
    facts = clip_facts(clip.files, clip.rendered[0].size, len(clip.frames), fps, clip.motion)
    return {**facts, **page_facts(clip.infotext, clip.motion)} if for_page else facts


def _images_per_frame(p: Processing) -> int:
    """Images per frame: the WebUI adds the inpainting mask after each image if the user's settings enable it."""
    if getattr(p, "mask_for_overlay", None) is None:
        return 1
    return 1 + bool(a1111.opts().return_mask) + bool(a1111.opts().return_mask_composite)
