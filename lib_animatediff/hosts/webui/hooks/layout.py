"""The rows of a request: each image of the batch becomes a clip.

Rows are laid out in ``before_process``, since the WebUI fixes prompts and seeds right afterwards.
"""

from __future__ import annotations

import weakref
from typing import Any

from lib_animatediff.hosts.webui.clip.noise import arrange_seeds
from lib_animatediff.hosts.webui.clip.prompt_travel import check_prompts, styled
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.request.plan import ClipPlan

_PROMPTS = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt")


class RequestLayout:
    """Arranges the rows of ``p``, and restores ``p`` afterwards."""

    def __init__(self, p: Processing, plan: ClipPlan) -> None:
        self._p = weakref.ref(p)
        self._plan = plan
        self._frames = len(plan.rendered)
        self._former: dict[str, Any] = {}

    def lay_out_rows(self) -> None:
        """Make each image of the batch a clip: frame i of clip j uses seed s + j * frames + i.

        Raises:
            ClipError: a line of a prompt is invalid.
        """
        p: Any = self._p()
        check_prompts(p, self._plan.frames)
        for name, value in styled(p).items():
            self._set(name, value)
        for name in ("hr_prompt", "hr_negative_prompt"):  # the WebUI fills in empty ones
            if hasattr(p, name) and name not in self._former:
                self._set(name, getattr(p, name))
        self._set("batch_size", p.batch_size * self._frames)
        for name in (*_PROMPTS, "subseed"):
            if isinstance(value := getattr(p, name, None), list):
                self._set(name, self._repeated(value))
        if len(images := getattr(p, "init_images", None) or []) > 1:  # the WebUI itself repeats a single one
            self._set("init_images", self._repeated(images))
        if isinstance(p.seed, list):
            self._set("seed", [seed + frame for seed in p.seed for frame in self._plan.rendered])
        if self._plan.makes_clip:
            self._set("do_not_save_samples", True)  # frames are saved as clips
            self._set("do_not_save_grid", True)

    def arrange_seeds(self) -> None:
        """Set the seed of each row, after the WebUI has set all seeds."""
        p: Any = self._p()
        arrange_seeds(p, self._plan)

    def share_first_prompts(self) -> None:
        """Set the prompt of all frames of a clip to that of its first, since other extensions may write one per row."""
        p: Any = self._p()
        for name in ("prompts", "negative_prompts", "hr_prompts", "hr_negative_prompts"):
            rows = getattr(p, name, None)
            if rows and len(rows) % self._frames == 0:
                rows[:] = self._repeated(rows[:: self._frames])

    def undo(self) -> None:
        """Restore the values of ``p``."""
        p = self._p()
        while p is not None and self._former:
            name, value = self._former.popitem()
            setattr(p, name, value)

    def _repeated(self, rows: list[Any]) -> list[Any]:
        return [row for row in rows for _ in range(self._frames)]

    def _set(self, name: str, value: Any) -> None:
        p = self._p()
        self._former.setdefault(name, getattr(p, name))
        setattr(p, name, value)
