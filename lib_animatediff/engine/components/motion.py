"""The motion module as a component: a temporal transformer at each site, directed by a `MotionScale`.

Each transformer runs in a forward hook on the layer before it, with the same result as an inserted layer. The UNet's
own layers stay in place: their names, weights and indices remain valid for other code, and a handle removes each hook.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lib_animatediff.engine.bases import sites_for
from lib_animatediff.engine.call import UNetCall, planning_step
from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.engine.host_tensor import HostTensor, Kept
from lib_animatediff.engine.memory import empty_cache, is_out_of_memory
from lib_animatediff.engine.motion_scale import MotionScale, PlacedScale
from lib_animatediff.engine.unet import UNetView
from motion_module import MotionModule
from motion_module.options import DEFAULT, Merge, TemporalOptions
from motion_module.temporal_transformer import TemporalTransformer

from .group_norms import fold_group_norms

_Module = TypeVar("_Module", bound=nn.Module)
_log = logging.getLogger(__name__)

Merging = Callable[[str, Tensor, "PlannedViews"], "Merge | None"]
"""Makes the `Merge` of a site in the call under way, given the site's name and activations; None: nothing changes."""

_CHUNKS = 8  # an eighth of a motion module's memory is small compared with that of the layer before it


class MotionComponent:
    """A motion module in a UNet.

    The transformers follow the device and dtype of the activations. If those of the module differ, the injection uses a
    copy, and the caller's module keeps its precision. A module with trainable weights is never copied.

    Args:
        motion: the motion module.
        scale: scale and effect of the motion over frames, steps, blocks and the image; None: as trained.
    """

    def __init__(self, motion: MotionModule, scale: MotionScale | None = None) -> None:
        self.name = motion.name
        self.kind = motion.kind
        self.frames_at_once: int | None = motion.trained_length
        self.best_frames = motion.best_length
        self.schedule = motion.schedule
        self._motion = motion
        self._scale = scale

    def with_scale(self, scale: MotionScale | None) -> MotionComponent:
        """A component for the same motion module with another scale."""
        return MotionComponent(self._motion, scale)

    def attach(self, unet: UNetView, call: UNetCall, undo: ExitStack) -> None:
        """Add the transformers, and fold the group norms if the module was trained so.

        Raises:
            IncompatibleModelError: the UNet is of another base.
        """
        sites = sites_for(self._motion, unet)
        runner = TemporalRunner(call, [site.name for site in sites], self._scale)
        if self._motion.shared_resnet_norms:
            fold_group_norms(unet, call, runner.has_motion, undo)
        unet.motion_runners.append(runner)
        placed = PlacedModules(self._motion)
        for site in sites:
            undo.callback(site.layer.register_forward_hook(SiteHook(placed, site.name, runner)).remove)


class PlacedModules:
    """The transformers on the device and in the dtype of the activations at their sites.

    Each site is placed separately, since autocast may change the dtype of activations from site to site. All weights of
    a transformer are checked: some files have matrices in half precision, and biases and norms in full precision.
    """

    def __init__(self, motion: MotionModule) -> None:
        self._originals = dict(motion.sites())
        self._in_training = any(weight.requires_grad for weight in motion.parameters())
        self._placed: dict[tuple[str, torch.device, torch.dtype], TemporalTransformer] = {}

    def transformer(self, site: str, x: Tensor) -> TemporalTransformer:
        """The transformer of a site, on the device and in the dtype of the activations ``x``."""
        original = self._originals[site]
        if self._in_training:
            return original
        key = (site, x.device, x.dtype)
        if key not in self._placed:
            self._placed[key] = placed_like(original, x)
        return self._placed[key]


def placed_like(module: _Module, x: Tensor) -> _Module:
    """A module on the device and in the dtype of a tensor: itself, or a copy.

    Each weight is copied once: `deepcopy` takes the converted ones for copies of the others.
    """
    if all((weight.device, weight.dtype) == (x.device, x.dtype) for weight in module.parameters()):
        return module
    copies: dict[int, Any] = {}
    for held in (module.parameters(), module.buffers()):
        copies |= {id(tensor): _converted(tensor, x) for tensor in held}
    return deepcopy(module, copies)


def _converted(tensor: Tensor, x: Tensor) -> Tensor:
    """A copy of a parameter or buffer on the device and, if it has floating-point numbers, in the dtype of ``x``."""
    made = tensor.detach().to(device=x.device, dtype=x.dtype if tensor.is_floating_point() else None, copy=True)
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


class SiteHook:
    """Forward hook of a site's layer: passes its output through the site's transformer."""

    def __init__(self, placed: PlacedModules, site: str, runner: TemporalRunner) -> None:
        self._placed = placed
        self._site = site
        self._runner = runner

    def __call__(self, layer: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> object:
        if self._runner.skips(layer):
            return output
        x = output[0] if isinstance(output, tuple) else output
        x = self._runner.run(self._site, self._placed.transformer(self._site, x), x)
        return (x, *output[1:]) if isinstance(output, tuple) else x


class TemporalRunner:
    """Runs a motion module's transformers with the scale, the views and the memory of the call under way.

    Args:
        call: the call under way.
        sites: names of all transformers.
        scale: scale and effect of the motion; None: as trained.

    Attributes:
        merging: what steers the motion module, such as a camera; None: nothing does.
    """

    def __init__(self, call: UNetCall, sites: Sequence[str], scale: MotionScale | None) -> None:
        self.merging: Merging | None = None
        self._call = call
        self._sites = sites
        self._follows_steps = scale is not None and scale.follows_steps
        self._scale = None if scale is None else PlacedScale(scale, call.clip_frames)
        self._views: Kept[PlannedViews] = Kept()
        self._chunks = 1
        self._motion: tuple[object, bool] = (None, True)

    def has_motion(self) -> bool:
        """Whether any site has motion in the call under way; otherwise the frames are separate images."""
        if self._scale is None:
            return True
        key = (self._progress(), tuple(self._call.frames))
        if self._motion[0] != key:
            self._motion = key, any(self._scale.has_effect(site, *key) for site in self._sites)
        return self._motion[1]

    def skips(self, layer: nn.Module) -> bool:
        """Whether the call under way leaves this layer out."""
        return layer in self._call.skipped

    def run(self, site: str, transformer: TemporalTransformer, x: Tensor) -> Tensor:
        """``(k b f) c h w`` through the transformer of a site; in chunks of positions if memory runs out.

        Raises:
            ClipError: the rows are not whole clips.
        """
        frames = self._call.frames_of(x.shape[0])
        options = self._options(site, x)
        if options.pieces == 1:
            try:
                return transformer(x, frames, options)  # type: ignore[no-any-return]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the except block: the exception references the tensors that filled the memory.
            _log.warning("Memory ran out in the motion module. It continues in %d chunks, more slowly.", _CHUNKS)
            empty_cache(x.device)
            self._chunks = _CHUNKS
            options = self._options(site, x)
        return transformer(x, frames, options)  # type: ignore[no-any-return]

    def _progress(self) -> float:
        # Only a scale that follows the steps reads the timesteps, which waits for the device.
        return self._call.progress if self._follows_steps else 0.0

    def _options(self, site: str, x: Tensor) -> TemporalOptions:
        planned = self.planned()
        views = [(index.on(x.device), weights.on(x.device)) for index, weights in planned.views]
        merge = None if self.merging is None else self.merging(site, x, planned)
        rest = {"views": views, "start": planned.start, "pieces": self._chunks, "merge": merge}
        if self._scale is None:
            is_default = not (views or planned.start or merge or self._chunks > 1)
            return DEFAULT if is_default else TemporalOptions(**rest)  # type: ignore[arg-type]
        place = self._progress(), self._call.frames, (x.shape[2], x.shape[3]), x.device
        scale, effect = self._scale.scale_at(site, *place), self._scale.effect_at(site, *place)
        return TemporalOptions(scale, effect, **rest)  # type: ignore[arg-type]

    def planned(self) -> PlannedViews:
        """The views of the step under way, or the frame that begins the only one, which needs no view."""
        windows, frames = self._call.views, self._call.clip_frames
        if windows is None:
            return PlannedViews([tuple(self._call.frames)])
        self._call.place.check_begun()
        step = planning_step(self._call) if windows.follows_steps else 0
        return self._views.get_or(step, lambda: _planned_views(windows, frames, step))


@dataclass(frozen=True)
class PlannedViews:
    """The frames of a call that attend to one another.

    Attributes:
        windows: frames of the clip, in the order of their positions.
        views: places in the call, with weights; empty: the only window has all frames of the call.
        start: the place in the call of the first frame of the only window.
    """

    windows: Sequence[tuple[int, ...]]
    views: Sequence[tuple[HostTensor, HostTensor]] = field(default=())
    start: int = 0


def _planned_views(windows: ContextWindows, frames: int, step: int) -> PlannedViews:
    plan = windows.plan(frames, step)
    if frames <= windows.length:
        return PlannedViews(plan, start=plan[0][0])
    return PlannedViews(plan, [(HostTensor(window), HostTensor(windows.weights(window, frames))) for window in plan])
