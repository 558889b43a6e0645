"""How a plan's method makes a clip in the WebUI. Each method has a file of its own, which registers it here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import singledispatch
from typing import Any, Protocol, TypedDict

from torch import Tensor

from lib_animatediff.engine.batch import RowOrder
from lib_animatediff.engine.context_windows import Chunks, ContextWindows
from lib_animatediff.engine.inject import Injection
from lib_animatediff.hosts.webui.catalog.files import Caches
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.request.plan import ClipPlan

from .loras import ClipLoras


class UNetCalls(TypedDict):
    """The arguments of `inject` on how the UNet is called."""

    frames: int
    windows: ContextWindows | Chunks | None
    one_clip_per_call: bool
    row_order: RowOrder | None
    between_windows: Callable[[int, int], None]


class ClipMethod(Protocol):
    """A method at work for one request."""

    @property
    def shows_one_image(self) -> bool:
        """Whether the sampler is at work on one image, so that the live preview has no frames to show."""

    def load(self) -> None:
        """Load the files, once the checkpoint is the right one.

        Raises:
            AnimateDiffError: a file is broken, or the prompts name what this method cannot use.
        """

    def enter(self, span: ExitStack, p: Processing, calls: UNetCalls, *, is_second_pass: bool) -> Injection | None:
        """Put the components into the UNet for one pass; ``span`` takes them out. None: the pass makes plain images.

        Raises:
            AnimateDiffError: a component does not fit the UNet.
        """

    def before_sampling(self, p: Processing, noise: Tensor) -> None:
        """Prepare the sampler, which is about to begin from this noise, rows ``(b f) c h w``."""


@singledispatch
def clip_method(method: Any, _plan: ClipPlan, _caches: Caches, _loras: ClipLoras) -> ClipMethod:
    """The method of a plan at work.

    Args:
        method: of the plan.
        loras: of the prompts.
    """
    raise TypeError(f"no file registers {type(method).__name__}")
