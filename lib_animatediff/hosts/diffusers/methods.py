"""How a plan's method samples on a diffusers pipeline. Each method registers itself here from its own module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import TYPE_CHECKING, Any, Protocol

from lib_animatediff.engine.components.camera_ctrl import CameraCtrlComponent
from lib_animatediff.engine.components.control import ControlComponent
from lib_animatediff.engine.components.image_encoder import ImageEncoderComponent
from lib_animatediff.engine.components.image_prompt import ImagePromptComponent
from lib_animatediff.engine.components.pia import PiaComponent
from lib_animatediff.engine.components.sparse_ctrl import SparseCtrlComponent
from lib_animatediff.engine.windowed_forward import Evaluate, WindowCall
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.sampling.pinned_frames import PinnedLatents
from motion_module import DomainAdapter, IncompatibleModelError
from motion_module.schedules import BetaSchedule

from .start.inpainting import InpaintingCondition
from .start.resuming import ResumableSampling
from .start.video import StartLatents

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Adapters = Sequence[tuple[DomainAdapter, float]]
Controls = Sequence[
    ControlComponent
    | SparseCtrlComponent
    | PiaComponent
    | ImagePromptComponent
    | ImageEncoderComponent
    | CameraCtrlComponent
]
Elsewhere = Callable[[tuple[int, int], Sequence[WindowCall]], Iterable[Any]]
"""Computes context windows elsewhere, see `Evaluate`, of the pass that has this width and height in pixels."""


@dataclass(frozen=True)
class SamplingJob:
    """The inputs for sampling one clip.

    Attributes:
        pipeline: with the scheduler of this job.
        plan: the plan of the clip.
        kwargs: the pipeline's keyword arguments for prompts, size and CFG.
        generators: one for each rendered frame, at the frame's seed.
        like: an empty tensor with the shape, dtype and device of the latents, ``f c h w``.
        on_step: called after each sampling step.
        start: latents of a source video; None: the frames start from noise.
        pinned: frames that are given images; None: none are.
        controls: control networks, SparseCtrl encoders, IP-Adapters, an image's input, a camera, which steer the clip.
        inpainting: what an inpainting checkpoint sees; None: it is another one.
        resumable: keeps states after steps, and knows the one from which the sampling goes on.
        evaluate: computes context windows elsewhere; None: here.
    """

    pipeline: Any
    plan: ClipPlan
    kwargs: Mapping[str, Any]
    generators: list[torch.Generator]
    like: Tensor
    on_step: Callable[[], None]
    start: StartLatents | None = None
    pinned: PinnedLatents | None = None
    controls: Controls = ()
    inpainting: InpaintingCondition | None = None
    resumable: ResumableSampling = field(default_factory=ResumableSampling)
    evaluate: Evaluate | None = None


class LoadedMethod(Protocol):
    """A method with its files loaded."""

    @property
    def name(self) -> str:
        """The name in messages."""

    @property
    def schedule(self) -> BetaSchedule | None:
        """The noise schedule of the sampler; None: the checkpoint's own."""

    @property
    def adapters(self) -> Adapters:
        """Domain adapters with their strengths."""

    @property
    def reports(self) -> Sequence[str]:
        """One line about each motion LoRA."""

    def check(self, plan: ClipPlan) -> None:
        """Refuse a clip that this method cannot render.

        Raises:
            ClipError: the number of frames is out of range.
        """

    def sample(self, job: SamplingJob) -> Any:
        """The latents of the rendered frames, ``f c h w``."""


@singledispatch
def load_method(given: Any, _plan: ClipPlan) -> LoadedMethod:
    """The method for a plan's `Method`, or for a motion module that the caller has loaded.

    Raises:
        AnimateDiffError: a file is damaged or does not fit, or ``given`` has another type.
    """
    raise not_a_motion_module(given)


def not_a_motion_module(given: object) -> IncompatibleModelError:
    """The error about an object that makes no clip."""
    return IncompatibleModelError(
        f"{type(given).__name__} is not a motion module. Pass the result of load_motion_module, or a ClipPlan.",
        code="AD-D04",
    )
