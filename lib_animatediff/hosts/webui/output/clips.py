"""The clips of a request: made of the WebUI's finished images, measured, and written."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.hosts.webui.compat import a1111, client
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.start.taken_over import ClipSource
from lib_animatediff.video import FORMATS, Motion, measure, write_clip
from lib_animatediff.video.encoding import StopWriting, check_frames
from motion_module.errors import ClipNotWrittenError

from .files import encoding, free_place, recipe
from .following import Delivery

SEAM = "AnimateDiff worst seam"
INTERRUPTED = "AnimateDiff interrupted"


@dataclass
class Clip:
    """A clip's frames, files and measurements.

    Attributes:
        images: the WebUI's own, which its reply has as well.
        rendered: the images in the order of playback.
        frames: the images of the files: with interpolation more than are rendered, made when they are read.
        texts: infotext of each image.
        additions: what the clip's infotext has beside the first image's.
        sent: files that the reply alone has.
        source: what they take over from a source video.
    """

    images: Sequence[Any]
    rendered: Sequence[Any]
    frames: Sequence[Any]
    texts: Sequence[str]
    additions: str
    seed: int
    prompt: str
    motion: Motion | None = None
    files: list[Path] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    source: ClipSource | None = None
    problem: str = ""

    @property
    def infotext(self) -> str:
        """The first image's, and what is known of the clip."""
        return f"{self.texts[0]}{self.additions}"

    def note_motion(self, motion: Motion) -> None:
        """Store the measurements, and add the worst seam to the infotext."""
        self.motion = motion
        if motion.worst_seam is not None:
            self.additions += f", {SEAM}: {motion.worst_seam:.2f}"

    def note_files(self, files: Sequence[Path], problem: str = "") -> None:
        """Store the files that were written, and the error of others."""
        self.files, self.problem = list(files), problem


class WrittenClips:
    """The clips of a request that are written before its end, by their number in the request."""

    def __init__(self) -> None:
        self._clips: dict[int, Clip] = {}

    @property
    def files(self) -> list[Path]:
        """Their files."""
        return [path for _, clip in sorted(self._clips.items()) for path in clip.files]

    def add(self, number: int, clip: Clip) -> None:
        """A clip is written."""
        self._clips[number] = clip

    def take(self, number: int, images: Sequence[Any], texts: Sequence[str]) -> Clip | None:
        """A clip of these images; None: it is not written.

        If another extension has replaced images since then, the clip's files are removed.
        """
        clip = self._clips.pop(number, None)
        if clip is None:
            return None
        if len(images) == len(clip.images) and all(map(_is_same, images, clip.images)):
            clip.texts = texts
            return clip
        for path in clip.files:
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return None


def make_clips(
    p: Processing,
    images: Sequence[Any],
    texts: Sequence[str],
    rows: Sequence[int],
    plan: ClipPlan,
    delivery: Delivery,
    source: ClipSource | None = None,
    written: WrittenClips | None = None,
    known: Mapping[int, Sequence[Path]] | None = None,
) -> Iterator[tuple[int, Clip]]:
    """Write each clip, unless it is written. If that fails, the clip has no files, and a problem.

    Args:
        images: finished frames, one after the other.
        texts: their infotexts.
        rows: their rows in the request.
        written: clips that are written.
        known: files of clips that an earlier request has written, by the clip's number.

    Yields:
        The clip's number in the request, and the clip.
    """
    for group in _groups([row // plan.frames for row in rows[: len(images)]]):
        own, own_texts = list(images[group.start : group.stop]), list(texts[group.start : group.stop])
        row = rows[group.start]
        number = row // plan.frames
        clip = written.take(number, own, own_texts) if written else None
        if clip is None:
            clip = _clip(p, own, own_texts, row, plan, delivery)
            clip.source = source
            _write(p, clip, plan, delivery, (known or {}).get(number))
        yield number, clip


def _is_same(one: Any, other: Any) -> bool:
    return one is other


def _groups(numbers: Sequence[int]) -> Iterator[range]:
    """The places of equal neighbours."""
    start = 0
    for _, group in groupby(numbers):
        stop = start + len(list(group))
        yield range(start, stop)
        start = stop


def _clip(
    p: Processing, images: Sequence[Any], texts: Sequence[str], row: int, plan: ClipPlan, delivery: Delivery
) -> Clip:
    report = delivery.report(row)
    additions = "" if report is None else f", {INTERRUPTED}: {report}"
    played, shown = plan.output.played(images), plan.output.shown(images)
    return Clip(images, played, shown, texts, additions, p.all_seeds[row], p.all_prompts[row])


def _borders(p: Processing, plan: ClipPlan) -> list[int]:
    """Frames at which a context window begins in the last step, which renders the finest details."""
    if not isinstance(plan.windows, ContextWindows):  # chunks have no seams
        return []
    return [window[0] for window in plan.windows.plan(plan.frames, max(int(p.steps) - 1, 0))]


def _write(p: Processing, clip: Clip, plan: ClipPlan, delivery: Delivery, known: Sequence[Path] | None = None) -> None:
    formats = plan.output.formats
    sent = [name for name in formats if is_sent(FORMATS[name].suffix)] if is_sent_only(p) else []
    kept = formats
    try:
        check_frames(clip.rendered)
        clip.note_motion(measure(delivery.measured(clip.rendered), _borders(p, plan)))
        if known:
            clip.note_files(known)
            return
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


def is_sent_only(p: Processing) -> bool:
    """Whether an API client asks for files in the reply alone. Scripts that use images need the files for longer."""
    return is_api(p) and client.client_saves_nothing() and a1111.selected_script(p) is None


def _send(p: Processing, clip: Clip, plan: ClipPlan, formats: Sequence[str], delivery: Delivery) -> None:
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
    p: Processing, clip: Clip, plan: ClipPlan, formats: Sequence[str], place: Path, delivery: Delivery
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


def is_api(p: Processing) -> bool:
    """Whether a client of the HTTP API has sent the request."""
    return bool(getattr(p, "is_api", False))


def is_sent(suffix: str) -> bool:
    """Whether the reply contains files of this suffix: no folder of frames, which Frame sends, and no infotext."""
    return suffix.lower() not in ("", ".txt")
