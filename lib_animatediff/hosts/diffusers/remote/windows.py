"""The context windows of a clip that is sampled by another process, on a pipeline of this one.

Each call of the UNet is a call on one window, with the rows, the frames and the place in the sampling that the sampling
process sends. Everything else follows from the plan here as there: components, conditions, images of control models.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.components.domain_adapter import apply_domain_adapters
from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.engine.inject import Injection
from lib_animatediff.engine.windowed_forward import WindowCall
from lib_animatediff.hosts.diffusers.control.units import load_controls
from lib_animatediff.hosts.diffusers.methods import LoadedMethod
from lib_animatediff.hosts.diffusers.motion_module import LoadedModules
from lib_animatediff.hosts.diffusers.prompts import prompt_kwargs
from lib_animatediff.hosts.diffusers.start.enlarged import plan_of_second_pass
from lib_animatediff.request.plan import ClipPlan
from motion_module import ClipError


def check_divisible(plan: ClipPlan, method: LoadedMethod) -> None:
    """Check that a clip has context windows that other processes can compute.

    Raises:
        ClipError: it has none, or they need what an earlier step has left.
    """
    if not isinstance(method, LoadedModules):
        raise ClipError(
            f"A clip of {method.name} has no context windows for other workers. Leave out --ray.", code="AD-D44"
        )
    windows = plan.windows
    if not isinstance(windows, ContextWindows) or windows.as_views or len(plan.rendered) <= windows.length:
        raise ClipError(
            f"This clip of {len(plan.rendered)} frames is one call of the UNet, which cannot be divided. Leave out "
            "--ray, or lower the context length.",
            code="AD-D45",
        )
    if plan.reuse is not None:
        raise ClipError(
            "Workers do not have the features of each other's steps. Set reuse to 1, or leave out --ray.", code="AD-D46"
        )


class ClipWindows:
    """Computes the context windows of one clip.

    Args:
        pipeline: as that which samples the clip.
        size: width and height of the first pass, in pixels.
    """

    def __init__(self, pipeline: Any, plan: ClipPlan, method: LoadedMethod, size: tuple[int, int]) -> None:
        check_divisible(plan, method)
        assert isinstance(method, LoadedModules)
        self._pipeline, self._plan, self._method, self._size = pipeline, plan, method, size
        self._open = ExitStack()
        self._injected: tuple[tuple[int, int], Injection] | None = None

    def compute(self, size: tuple[int, int], window: WindowCall) -> Any:
        """The output of the UNet for a window, in main memory.

        Args:
            size: of the pass, in pixels.

        Raises:
            AnimateDiffError: a file of the clip cannot be read here, or does not fit.
        """
        if self._injected is None or self._injected[0] != size:
            self.close()
            self._injected = size, self._enter(size)
        device = self._pipeline.device
        given = replace(window, args=moved(window.args, device), kwargs=moved(dict(window.kwargs), device))
        with torch.no_grad():
            return moved(given.run(self._pipeline.unet, self._injected[1].call), torch.device("cpu"))

    def close(self) -> None:
        """Leave the pipeline as it was."""
        self._injected = None
        self._open.close()

    def _enter(self, size: tuple[int, int]) -> Injection:
        pipeline, method = self._pipeline, self._method
        plan = self._plan if size == self._size else plan_of_second_pass(self._plan)
        self._open.enter_context(apply_domain_adapters(pipeline.unet, list(method.adapters)))
        controls = [unit.component(size) for unit in load_controls(pipeline, plan, lambda _line: None)]
        with torch.no_grad():
            kwargs = prompt_kwargs(pipeline, plan)
            injection, _ = self._open.enter_context(method.injected(pipeline, plan, controls, kwargs))
        return injection


def moved(tree: Any, device: torch.device) -> Any:
    """Nested tuples, lists and dicts whose tensors are on a device."""
    if isinstance(tree, Tensor):
        return tree.to(device)
    if isinstance(tree, dict):
        return {name: moved(value, device) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)) and type(tree) in (list, tuple):
        return type(tree)(moved(value, device) for value in tree)
    return tree


def device_of(windows: Sequence[WindowCall]) -> torch.device:
    """The device of the process that samples."""
    found = [
        one for window in windows[:1] for one in (*window.args, *window.kwargs.values()) if isinstance(one, Tensor)
    ]
    return found[0].device if found else torch.device("cpu")
