"""What the command says about the memory of models that images or a camera steer a clip with."""

from __future__ import annotations

from torch import nn

from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.request.control.memory import CAMERA, Calls, Steering
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.video.fitting import Size

_STREAMS = 2  # cond and uncond


def about_memory(kind: str, name: str, model: nn.Module, plan: ClipPlan, size: Size) -> str:
    """A sentence about a model's memory.

    Args:
        kind: see `Steering`.
        name: of its file.
        model: on the device.
        plan: of the clip.
        size: width and height in pixels.
    """
    weights = list(model.parameters())
    steering = Steering(kind, sum(weight.numel() for weight in weights))
    return steering.sentence(name, _calls_of(kind, plan, size), weights[0].element_size())


def _calls_of(kind: str, plan: ClipPlan, size: Size) -> Calls:
    frames, windows = len(plan.rendered), plan.windows
    if not isinstance(windows, ContextWindows) or frames <= windows.length:
        return Calls(_STREAMS * frames, frames, 1, size)
    together = frames if windows.as_views else windows.length
    own = windows.length if kind == CAMERA else together
    return Calls(_STREAMS * together, own, len(windows.plan(frames, 0)), size)
