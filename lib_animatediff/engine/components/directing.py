"""Each site's transformer, directed: with the amount of motion, the views and the memory of the call under way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.call import Clip
from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.engine.memory import empty_cache, is_out_of_memory
from lib_animatediff.engine.motion_scale import MotionScale
from lib_animatediff.engine.steps import Steps
from lib_animatediff.engine.windowed_forward import timestep_of
from motion_module.options import DEFAULT, TemporalOptions, View
from motion_module.temporal_transformer import TemporalTransformer

_log = logging.getLogger(__name__)

_PIECES = 8  # an eighth of a motion module's memory is little beside that of the layer before it


class TemporalRunner:
    """Runs the transformers of an injection.

    Args:
        clip: frames of the call under way; with views it is told of them here.
        frames: of the whole clip.
        sites: names of all transformers.
        steps: of the sampling.
        amount: of motion; None is as trained.
        views: windows inside the temporal attention.
    """

    def __init__(
        self,
        clip: Clip,
        frames: int,
        sites: Sequence[str],
        steps: Steps,
        amount: MotionScale | None,
        views: ContextWindows | None,
    ) -> None:
        self._clip = clip
        self._frames = frames
        self._sites = sites
        self._steps = steps
        self._amount = amount
        self._windows = views
        self._views: tuple[View, ...] = ()
        self._progress = 0.0
        self._pieces = 1
        self._moving: tuple[object, bool] = (None, True)

    @property
    def follows_steps(self) -> bool:
        """Whether `at_timestep` must stand around the UNet's calls."""
        return self._windows is not None or (self._amount is not None and self._amount.follows_steps)

    def has_motion(self) -> bool:
        """Whether there is motion anywhere in the call under way: else it is one of the picture model alone."""
        if self._amount is None:
            return True
        window = tuple(self._clip.window)
        key = (self._progress, window)
        if self._moving[0] != key:
            effects = (self._amount.effect_at(site, self._progress, window, (1, 1)) for site in self._sites)
            self._moving = key, any(torch.as_tensor(effect).any().item() for effect in effects)
        return self._moving[1]

    def at_timestep(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute a call of the UNet with what belongs to its sampling step."""
        timestep = timestep_of(args, kwargs)
        self._progress = self._steps.progress_at(timestep)
        if self._windows is None:
            return forward(*args, **kwargs)
        plan = self._windows.plan(self._frames, self._steps.of(timestep))
        self._views = tuple((window, self._windows.weights(window, self._frames)) for window in plan)
        with self._clip.of(range(self._frames)):
            return forward(*args, **kwargs)

    def run(self, site: str, transformer: TemporalTransformer, x: Tensor) -> Tensor:
        """``(b f) c h w`` through the transformer of a site; once more, piece by piece, if memory runs out.

        Raises:
            ClipError: the rows are not whole clips.
        """
        frames = self._clip.frames_of(x.shape[0])
        direction = self._direction(site, x)
        if direction.pieces == 1:
            try:
                return transformer(x, frames, direction)  # type: ignore[no-any-return]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the block: the exception holds what filled the memory.
            _log.warning("Memory ran out in the motion module; it goes on in %d pieces, more slowly.", _PIECES)
            empty_cache(x.device)
            self._pieces = _PIECES
            direction = self._direction(site, x)
        return transformer(x, frames, direction)  # type: ignore[no-any-return]

    def _direction(self, site: str, x: Tensor) -> TemporalOptions:
        if self._amount is None and not self._views and self._pieces == 1:
            return DEFAULT
        amount, window, size = self._amount or MotionScale(), self._clip.window, (x.shape[2], x.shape[3])
        return TemporalOptions(
            scale=amount.scale_at(site, self._progress, window, size),
            effect=amount.effect_at(site, self._progress, window, size),
            views=self._views,
            pieces=self._pieces,
        )
