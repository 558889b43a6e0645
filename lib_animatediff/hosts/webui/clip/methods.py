"""How a plan's method renders a clip in the WebUI. Each method registers itself here from its own module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import singledispatch
from typing import Any, Protocol, TypedDict

from torch import Tensor, nn

from lib_animatediff.engine.batch import RowOrder
from lib_animatediff.engine.components.base import Component
from lib_animatediff.engine.context_windows import Chunks, ContextWindows
from lib_animatediff.engine.inject import Injection
from lib_animatediff.engine.reuse.schedule import FeatureReuse
from lib_animatediff.hosts.webui.catalog.files import Caches
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.hosts.webui.compat.host_models import host_model
from lib_animatediff.request.plan import ClipPlan

from .loras import ClipLoras


class UNetCalls(TypedDict):
    """Arguments of `inject` that control how the UNet is called."""

    frames: int
    windows: ContextWindows | Chunks | None
    one_clip_per_call: bool
    row_order: RowOrder | None
    between_windows: Callable[[int, int], None]
    reuse: FeatureReuse | None


class ClipMethod(Protocol):
    """The method of one request."""

    @property
    def shows_one_image(self) -> bool:
        """Whether the sampler currently works on a single image, so that the live preview has no frames to show."""

    def load(self) -> None:
        """Load the files, after the request's checkpoint has been loaded.

        Raises:
            AnimateDiffError: a file is damaged, or the prompts use networks that this method does not support.
        """

    def enter(
        self,
        span: ExitStack,
        p: Processing,
        calls: UNetCalls,
        guides: Sequence[Component] = (),
        *,
        is_second_pass: bool,
    ) -> Injection | None:
        """Add the components to the UNet for one pass; ``span`` removes them. None: the pass renders plain images.

        Args:
            guides: further components, which carry images to other frames.

        Raises:
            AnimateDiffError: a component does not fit the UNet.
        """

    def before_sampling(self, p: Processing, noise: Tensor) -> None:
        """Prepare the sampler before it begins from this noise, rows ``(b f) c h w``."""


def make_room(p: Processing, plan: ClipPlan, rows: int, motion: nn.Module | None = None) -> None:
    """Tell a host that makes room for its models how many of a pass's rows a call of the UNet has.

    Args:
        rows: of a stream, ``b f``.
        motion: what is added to the UNet, and unknown to the host.
    """
    frames, model = len(plan.rendered), host_model(p.sd_model)
    window = frames if plan.windows is None else min(plan.windows.length, frames)
    numbers = sum(weight.numel() for weight in motion.parameters()) if motion is not None else 0
    model.expect_rows(rows // frames * window, numbers * model.dtype.itemsize)


@singledispatch
def clip_method(method: Any, _plan: ClipPlan, _caches: Caches, _loras: ClipLoras) -> ClipMethod:
    """Create the `ClipMethod` for the method of a plan.

    Args:
        method: the method of the plan.
        loras: the motion LoRAs of the prompts.
    """
    raise TypeError(f"{type(method).__name__} is not registered")
