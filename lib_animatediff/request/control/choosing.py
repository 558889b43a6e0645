"""From the settings of a request to what it says about its host's control models."""

from __future__ import annotations

from dataclasses import replace

from lib_animatediff.request.settings import ClipSettings
from lib_animatediff.request.start.images import Find

from .hosted import HostedControl, in_words, parse_unit_images, with_paths


def choose_hosted(settings: ClipSettings, find: Find) -> tuple[ClipSettings, HostedControl]:
    """What the settings say about units, and the settings with the paths as infotexts have them.

    Raises:
        ClipError: a path is not one that the WebUI may read.
    """
    images = parse_unit_images(settings.control_images)
    found = [find(image.path) for image in images]
    shown = in_words(with_paths(images, [text for _, text in found]))
    hosted = HostedControl(
        with_paths(images, [str(path) for path, _ in found]),
        settings.control_weight,
        settings.control_fill,
        settings.control_reach,
    )
    return replace(settings, control_images=shown), hosted
