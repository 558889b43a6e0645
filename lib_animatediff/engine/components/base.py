"""What every component of a UNet has in common."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Protocol

from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.unet import UNetView


class Component(Protocol):
    """Something that a UNet carries while it makes clips, such as a motion module.

    A component that needs frame 0 of the clip in every UNet call sets ``needs_first_frame = True``; context windows
    become chunks with frame 0 in front then.

    Attributes:
        name: the name that messages use.
        frames_at_once: the most frames in one UNet call that the component can serve; None: any number.
    """

    name: str
    frames_at_once: int | None

    def attach(self, unet: UNetView, call: UNetCall, undo: ExitStack) -> None:
        """Add hooks to the UNet, and register on ``undo`` how each of them comes off.

        Args:
            unet: the UNet and its parts.
            call: the frames, timesteps and progress of the UNet call under way.
            undo: runs when the injection ends, also when attaching fails.

        Raises:
            IncompatibleModelError: the component does not fit this UNet.
        """
