"""From the WebUI's finished pictures to clips: files on disk, the gallery, the API's reply."""

from __future__ import annotations

import base64
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

from modules import shared
from modules.images import get_next_sequence_number

from lib_animatediff.settings import FRAME, ClipSettings
from lib_animatediff.video import there_and_back, write_gif


def deliver_clips(p: Any, processed: Any, settings: ClipSettings, frames: int) -> None:
    """Write each clip and put it where its frames were in ``processed``. Pictures that others added stay.

    A clip that cannot be written leaves its frames in the gallery, with the reason beside them.
    """
    first = processed.index_of_first_image
    made = min(len(processed.infotexts) - first, len(p.all_seeds))  # other scripts may have added some of each
    per_frame = _pictures_per_frame(p)
    places = range(first, len(processed.images), per_frame)[:made]
    pictures = [processed.images[place] for place in places]

    def stays(place: int) -> bool:
        frame = (place - first) // per_frame
        is_mask = 0 <= frame < made and place not in places
        return frame % frames == 0 if is_mask else place not in places  # the first frame's stand for the clip's

    others = [picture for place, picture in enumerate(processed.images) if stays(place)]
    clips: list[Any] = []
    for start in range(0, len(pictures), frames) if _has_files(settings) else ():
        clip, infotext = pictures[start : start + frames], processed.infotexts[first + start]
        try:
            path = _next_path(Path(p.outpath_samples), p.all_seeds[start])
            shown = there_and_back(clip) if settings.reverse else clip
            write_gif(path, shown, fps=settings.fps, loop_count=settings.loop_count, comment=infotext)
        except Exception as error:  # whatever an encoder raises, the frames are not lost
            message = f"AnimateDiff: the clip was not saved, here are its frames. {error}"
            logging.getLogger(__name__).error(message)
            processed.comments += f"{message}\n"
            processed.extra_generation_params["AnimateDiff error"] = message  # all that the API's reply shows of it
            return
        clips.append(_as_reply(path) if _replies_with_files(p) else _in_gallery(path, clip[0]))
    if pictures:
        stills = pictures if FRAME in settings.formats else []
        texts = processed.infotexts[first : first + made]
        told = [*texts[::frames][: len(clips)], *texts[: len(stills)]]
        processed.infotexts = told + processed.infotexts[:first] + processed.infotexts[first + made :]
        processed.info = processed.infotexts[0]
        processed.index_of_first_image = 0
        processed.batch_size = p.batch_size
        processed.images = [*clips, *stills, *others]
        _keep_one_of_each(processed, frames)


def _has_files(settings: ClipSettings) -> bool:
    return settings.formats != (FRAME,)


def _pictures_per_frame(p: Any) -> int:
    """The WebUI puts the inpainting mask behind each picture where the user's settings ask for it."""
    if getattr(p, "mask_for_overlay", None) is None:
        return 1
    return 1 + bool(shared.opts.return_mask) + bool(shared.opts.return_mask_composite)


def _next_path(samples: Path, seed: int) -> Path:
    folder = samples / "AnimateDiff" / datetime.now().strftime("%Y-%m-%d")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{get_next_sequence_number(str(folder), ''):05}-{seed}.gif"


def _replies_with_files(p: Any) -> bool:
    """By the API; but a script that runs the request, such as the X/Y/Z plot, works with pictures."""
    chosen = p.script_args[0] if p.script_args else 0  # a number from 1; pasted parameters leave the word None
    return getattr(p, "is_api", False) and not (isinstance(chosen, int) and chosen)


def _as_reply(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")


def _in_gallery(path: Path, picture: Any) -> Any:
    """The first frame, which the WebUI shows and hands on as the file that it says it was saved to."""
    shown = picture.copy()
    shown.already_saved_as = str(path)
    return shown


def _keep_one_of_each(processed: Any, frames: int) -> None:
    """One seed and prompt per clip: those of its first frame, which alone reproduce it."""
    for name in ("all_seeds", "all_subseeds", "all_prompts", "all_negative_prompts"):
        setattr(processed, name, getattr(processed, name)[::frames])
