"""Writes the clips of one request: those of each batch before the next one begins, and the last ones at the end.

The WebUI returns all images of a request at once, so that an error in its last batch loses those of all batches. No
hook comes after the last image of a batch, which other extensions may still change. The next hook is that before the
next batch, or the end of the request, which the WebUI closes after a failure as well.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib_animatediff.hosts.webui.clip.unfinished.request import UnfinishedClips
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.hosts.webui.compat.errors import add_sentence
from lib_animatediff.hosts.webui.output.clips import WrittenClips, is_sent_only, make_clips
from lib_animatediff.hosts.webui.output.deliver import ERROR, deliver_clips
from lib_animatediff.hosts.webui.output.script_runs import ScriptRun
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.start.taken_over import ClipSource

from .layout import RequestLayout
from .progress.delivery import FollowedDelivery
from .progress.request import RequestProgress

_TEXT = "parameters"  # of an image with its infotext
_log = logging.getLogger(__name__)


class Deliveries:
    """The deliveries of one request.

    Args:
        source: what the clips' files take over from a source video.
        unfinished: what is recorded of the clips.
    """

    def __init__(
        self,
        plan: ClipPlan,
        layout: RequestLayout,
        progress: RequestProgress,
        unfinished: UnfinishedClips,
        source: ClipSource | None,
    ) -> None:
        self._plan, self._layout, self._source, self._unfinished = plan, layout, source, unfinished
        self._progress = progress
        self._delivery = FollowedDelivery(plan, progress)
        self._written = WrittenClips()
        self._images: list[Any] = []  # of the batch under way, as the WebUI passes them to scripts
        self._batch = 0

    def add_image(self, p: Processing, finished: Any) -> None:
        """An image is finished, but for scripts that follow, which may replace it in ``finished``."""
        if self._plan.makes_clip:
            self._batch = p.iteration
            self._images.append(finished)

    def end_batch(self, p: Processing) -> None:
        """Another batch begins: write the clips of the one before. An interrupt meanwhile ends the request."""
        if not self._images:
            return
        self._write(p)
        if self._progress.interrupts.is_whole:
            p.prompts = []  # the WebUI asks for an interrupt before this hook only; a batch without prompts ends it

    def fail(self, p: Processing, error: BaseException | None) -> None:
        """The request has failed: write the clips that are whole, and let the error name all that are written."""
        frames = self._plan.frames
        del self._images[len(self._images) // frames * frames :]
        self._write(p)
        files = self._written.files
        self._written = WrittenClips()
        if error is not None and files:
            names = ", ".join(str(path.absolute()) for path in files)
            sentence = f"The clips that were finished before are kept: {names}"
            add_sentence(error, sentence)
            _log.error("AnimateDiff: %s", sentence)

    def deliver(self, p: Processing, processed: Any, lora_reports: Sequence[str], script_run: ScriptRun) -> bool:
        """Replace the frames of the reply by clips; returns whether these are whole and written."""
        self._images = []
        interrupts = self._progress.interrupts
        try:
            self._delivery.begin(p)
            deliver_clips(
                p,
                processed,
                self._plan,
                lora_reports,
                script_run,
                self._delivery,
                self._source,
                self._written,
                self._known(p),
            )
        except Exception as error:  # the WebUI would only print it; the frames remain
            _log.exception("AnimateDiff could not make clips of the frames.")
            processed.comments += f"AnimateDiff: the frames are no clip, because of an error. {error}\n"
            return False
        else:
            return ERROR not in processed.extra_generation_params and not interrupts.notes
        finally:
            interrupts.end_delivery()

    def forget(self) -> None:
        """Discard all images."""
        self._images, self._written = [], WrittenClips()

    def _write(self, p: Processing) -> None:
        """Write the clips of the batch under way, with the user's own values in ``p``, as at the end of a request.

        What fails here is tried again at the end.
        """
        images, self._images = [finished.image for finished in self._images], []
        if not images or is_sent_only(p):  # whose client wants no files here
            return
        batch, interrupts = self._batch, self._progress.interrupts
        former_notes, clips = len(interrupts.notes), []
        try:
            with self._layout.users_values():
                self._delivery.begin(p, batch)
                rows = self._delivery.rows_of(batch)
                if len(images) > len(rows):  # of other scripts, which are known at the end only
                    return
                texts = [str(image.info.get(_TEXT, "")) for image in images]  # others need none in their files
                for number, clip in make_clips(
                    p, images, texts, rows, self._plan, self._delivery, self._source, known=self._known(p)
                ):
                    self._written.add(number, clip)
                    clips.append(clip)
        except Exception:
            _log.exception("AnimateDiff could not write the clips of a batch yet.")
            return
        finally:
            interrupts.end_delivery()
        is_cut_short = interrupts.report_of(batch) is not None or len(interrupts.notes) > former_notes
        if not is_cut_short and not any(clip.problem for clip in clips):
            self._unfinished.recordings.note_written(batch, [clip.files for clip in clips])

    def _known(self, p: Processing) -> dict[int, list[Path]]:
        """Files that the request which is resumed has written, by the number of the clip."""
        clips = len(self._delivery.rows_of(0)) // self._plan.frames
        known = self._unfinished.recordings.known_files(Path(p.outpath_samples))
        return {batch * clips + clip: files for batch, each in known.items() for clip, files in enumerate(each)}
