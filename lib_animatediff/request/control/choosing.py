"""From the settings of a request to what it says about its host's control models."""

from __future__ import annotations

from dataclasses import replace

from lib_animatediff.request.settings import ClipSettings
from lib_animatediff.request.start.images import Find

from .hosted import HostedControl, in_words, parse_unit_images, parse_unit_masks, with_paths


def choose_hosted(settings: ClipSettings, find: Find) -> tuple[ClipSettings, HostedControl]:
    """What the settings say about units, and the settings with the paths as infotexts have them.

    Raises:
        ClipError: a path is not one that the WebUI may read.
    """
    images, masks = parse_unit_images(settings.control_images), parse_unit_masks(settings.control_masks)
    found, found_masks = ([find(image.path) for image in each] for each in (images, masks))
    hosted = HostedControl(
        with_paths(images, [str(path) for path, _ in found]),
        settings.control_weight,
        settings.control_fill,
        settings.control_reach,
        settings.control_start,
        settings.control_end,
        with_paths(masks, [str(path) for path, _ in found_masks]),
    )
    shown, shown_masks = (
        in_words(with_paths(each, [text for _, text in paths]))
        for each, paths in ((images, found), (masks, found_masks))
    )
    return replace(settings, control_images=shown, control_masks=shown_masks), hosted
