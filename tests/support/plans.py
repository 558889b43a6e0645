"""Plans of clips, as a host makes them of a request's settings."""

from __future__ import annotations

from lib_animatediff.request.plan import ClipPlan, plan_clip
from lib_animatediff.request.settings import parse_settings


def plan_of(**settings: object) -> ClipPlan:
    """The plan of these settings, by their names; the user has no files."""
    return plan_clip(parse_settings(settings))
