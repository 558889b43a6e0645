"""The interface of a UNet's components."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Protocol

from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.unet import UNetView


class Component(Protocol):
    """An addition to a UNet while it renders clips, such as a motion module.

    A component that needs frame 0 of the clip in every UNet call sets ``needs_first_frame = True``; context windows
    then become chunks that begin with frame 0.

    A component that runs something around each UNet call, such as a control network, has a method ``around_call(call,
    forward, args, kwargs)`` that returns what ``forward(*args, **kwargs)`` returns. It runs inside the context windows:
    the arguments have the rows of one window, and ``call`` says of which frames.

    Attributes:
        name: the name in messages.
        frames_at_once: the maximum number of frames in one UNet call; None: any number.
    """

    name: str
    frames_at_once: int | None

    def attach(self, unet: UNetView, call: UNetCall, undo: ExitStack) -> None:
        """Add hooks to the UNet, and register on ``undo`` how each of them is removed.

        Args:
            unet: the UNet and its parts.
            call: the frames, timesteps and progress of the UNet call under way.
            undo: runs when the injection ends, also when attaching fails.

        Raises:
            IncompatibleModelError: the component does not fit this UNet.
        """
