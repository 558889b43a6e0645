"""The prompts of a batch's clips: the text of each frame, and interpolated conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lib_animatediff.hosts.webui.compat.host_models import current_model
from lib_animatediff.prompts.travel import Blend
from lib_animatediff.request.plan import ClipPlan

from .batching import parts_of
from .prompt_travel import blended, frame_prompts, pad_conditionings

_FIRST_PASS = {"cond": "prompts", "uncond": "negative_prompts"}
_SECOND_PASS = {"cond": "hr_prompts", "uncond": "hr_negative_prompts"}
_NAMES = {
    "prompts": "prompt",
    "negative_prompts": "negative prompt",
    "hr_prompts": "hires prompt",
    "hr_negative_prompts": "hires negative prompt",
}

Blends = list[Sequence[Blend] | None]


class ClipPrompts:
    """The prompts of one request, per batch.

    Args:
        plan: its rendered frames are the rows of a clip.
    """

    def __init__(self, plan: ClipPlan) -> None:
        self._plan = plan
        self._frames = len(plan.rendered)
        self._blends: dict[str, Blends] = {}
        self._parts: dict[str, list[int]] = {}

    def write_frame_prompts(self, p: Any) -> None:
        """Write the frames' prompts into the rows of ``p``, after the WebUI has removed extra networks from them.

        Raises:
            ClipError: a line is invalid.
        """
        self._blends, self._parts = {}, {}
        for field, name in _NAMES.items():
            rows = getattr(p, field, None)
            if rows and len(rows) % self._frames == 0:
                self._blends[field] = self._written_into(rows, name)
                self._parts[field] = parts_of(rows)

    def pad_conditionings(self, conditioning: Any, stream: str, *, is_second_pass: bool) -> Any:
        """Conditions that can be interpolated, see `prompt_travel`; ``stream`` is ``"cond"`` or ``"uncond"``."""
        blends = self._blends.get((_SECOND_PASS if is_second_pass else _FIRST_PASS)[stream], [])
        clips = [
            range(clip * self._frames, (clip + 1) * self._frames)
            for clip, clip_blends in enumerate(blends)
            if clip_blends and len({blend.first for blend in clip_blends} | {blend.second for blend in clip_blends}) > 1
        ]
        if not clips:
            return conditioning
        return pad_conditionings(conditioning, current_model().empty_condition(), clips)

    def blend(self, params: Any, *, is_second_pass: bool) -> None:
        """Interpolate the conditions for a call of the WebUI's denoiser."""
        fields = _SECOND_PASS if is_second_pass else _FIRST_PASS
        params.text_cond = self._blended(params.text_cond, fields["cond"], with_parts=True)
        params.text_uncond = self._blended(params.text_uncond, fields["uncond"], with_parts=False)

    def blended_conditions(self, cond: Any) -> Any:
        """The conditions of all parts of the first pass's prompts, interpolated for their frames."""
        return self._blended(cond, _FIRST_PASS["cond"], with_parts=True)

    def _written_into(self, rows: list[str], name: str) -> Blends:
        whole = self._plan.frames  # the rows may contain the first frame only
        given = [row for row in rows for _ in range(whole)] if whole != self._frames else list(rows)
        prompts, travels = frame_prompts(given, whole, name)
        rows[:] = prompts[:: whole // self._frames]
        if whole != self._frames:
            return [None] * len(rows)
        options = self._plan.travel_options
        return [None if travel is None else options.blends(travel) for travel in travels]

    def _blended(self, cond: Any, field: str, *, with_parts: bool) -> Any:
        blends = self._blends.get(field)
        if not blends or not any(blends):
            return cond
        parts = self._parts[field] if with_parts else None
        return blended(cond, blends, self._frames, self._plan.travel_options.interpolation, parts)
