"""The rows of a request: each image of the batch becomes a clip.

Rows are laid out in ``before_process``, since the WebUI fixes prompts and seeds right afterwards. Other scripts then
change these in ``process``, in any order. The last word is before ``p.init``, which follows.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lib_animatediff.engine.patching import restore
from lib_animatediff.hosts.webui.clip.control.units import ControlOfClip
from lib_animatediff.hosts.webui.clip.noise import arrange_seeds
from lib_animatediff.hosts.webui.clip.prompt_travel import check_prompts, styled
from lib_animatediff.hosts.webui.clip.start.video import FirstFrames, one_image
from lib_animatediff.hosts.webui.compat import controlnet
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.sampling.frame_noise import SEED_LIMIT
from lib_animatediff.video.fitting import Size
from motion_module import ClipError

from .problems import Problems
from .prompt_scripts import repeated, run_on_clips, scripts_that_count, share_first_rows, spread_parameters

_PROMPTS = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt")


class RequestLayout:
    """Arranges the rows of ``p``, and restores ``p`` afterwards."""

    def __init__(
        self,
        p: Processing,
        plan: ClipPlan,
        problems: Problems,
        first_frames: FirstFrames,
        size: Size | None = None,
        control: ControlOfClip | None = None,
    ) -> None:
        self._p = weakref.ref(p)
        self._plan = plan
        self._problems = problems
        self._first_frames = first_frames
        self._size = size
        self._control = control or ControlOfClip()
        self._frames = len(plan.rendered)
        self._former: dict[str, Any] = {}
        self._wrappers: list[tuple[Any, str, Any]] = []  # weak owner and wrapper: they would keep p alive

    def reach_refusal(self) -> None:
        """Leave img2img one init image, and turn ControlNet off, so that the WebUI reaches the refusal."""
        p: Any = self._p()
        self._set("script_args", controlnet.arguments_without(p))
        if hasattr(p, "init_images"):
            self._set("init_images", one_image(p))

    def lay_out_rows(self) -> None:
        """Make each image of the batch a clip: frame i of clip j uses seed s + j * frames + i.

        Raises:
            ClipError: a line of a prompt is invalid.
        """
        p: Any = self._p()
        check_prompts(p, self._plan.frames)
        for name, side in zip(("width", "height"), self._size or (), strict=False):
            self._set(name, side)
        for name, value in styled(p).items():
            self._set(name, value)
        for name in ("hr_prompt", "hr_negative_prompt"):  # the WebUI fills in empty ones
            if hasattr(p, name) and name not in self._former:
                self._set(name, getattr(p, name))
        clips = p.batch_size
        self._set("batch_size", clips * self._frames)
        for name in (*_PROMPTS, "subseed"):
            if isinstance(value := getattr(p, name, None), list):
                self._set(name, repeated(value, self._frames))
        images = getattr(p, "init_images", None) or []
        if (frames_of_video := self._first_frames.init_images(p)) is not None:
            self._set("init_images", frames_of_video * clips)
        elif len(images) > 1:  # the WebUI itself repeats a single one
            self._set("init_images", self._image_of_each_row(images, clips))
        if (strength := self._first_frames.strength_of_frames(p)) is not None:
            self._set("denoising_strength", strength)
        if isinstance(p.seed, list):
            self._set("seed", [seed + frame for seed in p.seed for frame in self._plan.rendered])
        if self._plan.makes_clip:
            self._set("do_not_save_samples", True)  # frames are saved as clips
            self._set("do_not_save_grid", True)
        for script in scripts_that_count(p):
            self._wrap(script, "process", self._process_on_clips)
        self._lay_out_control(p)
        self._wrap(p, "init", self._init)

    def call_on_close(self, callback: Callable[[], None]) -> None:
        """Call this when the WebUI closes ``p``, which it does after any failure."""
        p = self._p()

        def close(original: Callable[[], None]) -> None:
            callback()
            original()

        if hasattr(p, "close"):
            self._wrap(p, "close", close)

    def share_first_prompts(self) -> None:
        """Set the prompt of all frames of a clip to that of its first, since other extensions may write one per row."""
        p: Any = self._p()
        for name in ("prompts", "negative_prompts", "hr_prompts", "hr_negative_prompts"):
            rows = getattr(p, name, None)
            if rows and len(rows) % self._frames == 0:
                rows[:] = repeated(rows[:: self._frames], self._frames)

    @contextmanager
    def users_values(self) -> Iterator[None]:
        """Inside, ``p`` has the values that it has after `undo`."""
        p = self._p()
        ours = {name: getattr(p, name) for name in self._former}
        _set_all(p, self._former)
        try:
            yield
        finally:
            _set_all(p, ours)

    def undo(self) -> None:
        """Restore the values of ``p``."""
        for owner_reference, name, wrapper_reference in self._wrappers:
            owner, wrapper = owner_reference(), wrapper_reference()
            if owner is not None and wrapper is not None:
                restore(owner, name, wrapper, wrapper.__wrapped__)
        self._wrappers.clear()
        p = self._p()
        while p is not None and self._former:
            name, value = self._former.popitem()
            setattr(p, name, value)

    def _lay_out_control(self, p: Processing) -> None:
        hooks = list(self._control.hooks(p))
        if not hooks:
            return
        self._set("script_args", self._control.arguments(p))
        for script, name, ours in hooks:
            self._wrap(script, name, ours)

    def _image_of_each_row(self, images: list[Any], clips: int) -> list[Any]:
        if len(images) <= clips:
            return repeated(images, self._frames)
        if len(images) == clips * self._frames:
            return images
        if len(images) == self._frames:
            return images * clips
        self._set("init_images", images[:1])  # the WebUI's own error would come before the refusal
        raise ClipError(
            f"{len(images)} init images were sent. Send one, one for each of the {self._frames} frames, or one for "
            f"each clip of the batch.",
            code="AD-W25",
        )

    def _init(self, init: Callable[..., Any], *_lists: Any) -> Any:
        """Set the prompt and seed of each row, after all scripts have set theirs. The WebUI passes the former lists."""
        p: Any = self._p()
        with self._problems.refusing_later():
            self._problems.raise_refusal()  # the rows may not be laid out
            share_first_rows(p, self._frames, self._plan.frames)
            spread_parameters(p, self._frames)
            arrange_seeds(p, self._plan)
            if any(seed >= SEED_LIMIT for seed in p.all_seeds):
                p.all_seeds = [seed % SEED_LIMIT for seed in p.all_seeds]
        with self._first_frames.encoded_alike():
            return init(p.all_prompts, p.all_seeds, p.all_subseeds)

    def _process_on_clips(self, process: Callable[..., Any], p: Processing, *args: Any, **kwargs: Any) -> Any:
        if p is not self._p():
            return process(p, *args, **kwargs)
        return run_on_clips(p, self._frames, self._plan.frames, lambda: process(p, *args, **kwargs))

    def _wrap(self, owner: Any, name: str, ours: Callable[..., Any]) -> None:
        """Call ``ours`` with an object's method and its arguments, until `undo`."""
        original = getattr(owner, name)
        wrapper = functools.wraps(original)(lambda *args, **kwargs: ours(original, *args, **kwargs))
        setattr(owner, name, wrapper)
        self._wrappers.append((weakref.ref(owner), name, weakref.ref(wrapper)))

    def _set(self, name: str, value: Any) -> None:
        p = self._p()
        self._former.setdefault(name, getattr(p, name))
        setattr(p, name, value)


def _set_all(p: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(p, name, value)
