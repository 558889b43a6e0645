"""Motion modules that make clips together with an image only: PIA's and that of AnimateLCM-I2V."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lib_animatediff.engine.components.image_encoder import ImageEncoderComponent
from lib_animatediff.engine.components.pia import PiaComponent
from motion_module import ClipError
from motion_module.kinds import I2V, OF_IMAGES, PIA

_WHAT = {PIA.name: ("A PIA model", PiaComponent), I2V.name: ("An AnimateLCM-I2V model", ImageEncoderComponent)}


def check_paired(modules: Sequence[Any], controls: Sequence[Any]) -> None:
    """Refuse the motion module of such a model without its image, and the image without the module.

    Args:
        modules: motion modules, the first of which sets the noise schedule.
        controls: components that steer the clip.

    Raises:
        ClipError: one of them is missing.
    """
    for kind in OF_IMAGES:
        what, component = _WHAT[kind]
        has_image = any(isinstance(each, component) for each in controls)
        if has_image != (modules[0].kind == kind) or any(each.kind == kind for each in modules[1:]):
            raise ClipError(
                f"{what} is the first motion module, loaded as kind {kind}, and the model of one control unit with an "
                "image. Give both.",
                code="AD-Q53",
            )
