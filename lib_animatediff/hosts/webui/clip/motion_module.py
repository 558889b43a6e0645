"""Motion modules in the WebUI."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from lib_animatediff.engine.components.base import Component
from lib_animatediff.engine.inject import Injection, inject
from lib_animatediff.hosts.webui.catalog.files import Caches
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.hosts.webui.compat.host_models import HostModel, host_model
from lib_animatediff.request.methods import ModuleMethod
from lib_animatediff.request.plan import ClipPlan
from motion_module import MotionModule

from .loras import ClipLoras
from .methods import UNetCalls, clip_method, make_room
from .noise import with_freeinit


class ModuleClip:
    """A motion module for one request, with the motion LoRAs of the plan and of the prompts."""

    shows_one_image = False

    def __init__(self, method: ModuleMethod, plan: ClipPlan, caches: Caches, loras: ClipLoras) -> None:
        self._method = method
        self._plan = plan
        self._caches = caches
        self._loras = loras
        self._motion: MotionModule | None = None
        self._last_alpha_cumprod = 0.0

    def load(self) -> None:
        """Load the motion module, or take it from the cache."""
        self._motion = self._caches.modules.load(self._method.modules[0].path)

    def enter(
        self,
        span: ExitStack,
        p: Processing,
        calls: UNetCalls,
        guides: Sequence[Component] = (),
        *,
        is_second_pass: bool,
    ) -> Injection:
        """Add the motion module to the UNet, and set its noise schedule on the checkpoint."""
        assert self._motion is not None
        model = host_model(p.sd_model)
        unet = model.unet
        _widen(self._motion, model)
        loaded = self._loras.load(self._caches.loras, self._motion, self._method.loras, is_second_pass=is_second_pass)
        span.enter_context(self._loras.applied(p, unet, loaded))
        injection = span.enter_context(inject(unet, loaded.motion, *guides, scale=self._method.scale, **calls))
        span.enter_context(model.use_schedule(self._motion.schedule))
        self._last_alpha_cumprod = float(model.alphas_cumprod[-1])
        return injection

    def before_sampling(self, p: Processing, noise: Tensor) -> None:
        """Make the sampler run once per FreeInit iteration."""
        make_room(p, self._plan, len(noise), self._motion)
        with_freeinit(p, self._plan, self._last_alpha_cumprod)


def _widen(motion: MotionModule, model: HostModel) -> None:
    """Make the cached module one of float32, if a processor computes in it: each clip would make a copy otherwise.

    No weight changes: float32 has all numbers of narrower types.
    """
    if a1111.device().type == "cpu" and model.dtype == torch.float32:
        motion.float()


@clip_method.register
def _(given: ModuleMethod, plan: ClipPlan, caches: Caches, loras: ClipLoras) -> ModuleClip:
    return ModuleClip(given, plan, caches, loras)
