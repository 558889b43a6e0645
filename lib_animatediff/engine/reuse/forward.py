"""A UNet call that leaves out the deep layers, and takes their last features instead.

The host's own forward runs at every step, with its patches and the residuals of a ControlNet. At a step that reuses
features, the layers of `Branch.skipped` return zeros in the size of their last output. These reach nothing: the kept
features overwrite them where the first computed layer on the way up begins. Residuals for skipped layers then have no
effect, and those for the others act as always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from lib_animatediff.engine.call import UNetCall, count_clips, input_of
from lib_animatediff.engine.patching import patch_forward
from lib_animatediff.engine.unet import is_compiled
from motion_module import ClipError, IncompatibleModelError

from .cache import FeatureCache, Key, StreamOrder
from .layers import Branch, branch_of
from .schedule import FeatureReuse

Between = Callable[[int, int], None]


class ReusingForward:
    """Runs a UNet call whole, or only its computed branch.

    Attributes:
        is_reusing: whether the call under way leaves layers out.
        steps: of the run of the sampler; None: unknown.
    """

    def __init__(self, unet: nn.Module, call: UNetCall, reuse: FeatureReuse, branch: Branch) -> None:
        self.is_reusing = False
        self.steps: int | None = None
        self._unet = unet
        self._call = call
        self._reuse = reuse
        self._skipped = frozenset(branch.skipped)
        self._cache = FeatureCache(on_cpu=reuse.on_cpu)
        self._order = StreamOrder()
        self._place: tuple[int, int, object] = (-1, -1, None)  # step, interval, and what the input is like
        self._begun = 0
        self._first_clip = 0
        self._must_run = True
        self._keys: list[Key] = []

    def part_of(self, step: int) -> int:
        """The interval of a step, by which context windows are planned."""
        return self._reuse.part(step, self.steps)

    def begin_run(self, steps: int | None) -> None:
        """Prepare a run of the sampler."""
        self.steps = steps
        self.drop()

    def drop(self) -> None:
        """Drop all features, so that the next calls are whole."""
        self._cache.clear()

    def dropping_on_error(self, between: Between) -> Between:
        """``between``, which interrupts a call by an exception."""

        def dropping(done: int, count: int) -> None:
            try:
                between(done, count)
            except BaseException:
                self.drop()
                raise

        return dropping

    def __call__(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The output of ``forward`` for the rows of one window.

        Raises:
            IncompatibleModelError: a layer was compiled, and may ignore that it is skipped.
            ClipError: the features have gradients, or the rows are not whole clips.
        """
        given = input_of(args, kwargs)
        if self._call.begun != self._begun:
            self._begin(given)
        clips = self._call.clips
        if clips is None:
            clips = range(count_clips(self._call.rows, len(self._call.frames)))
        self._keys = [(self._first_clip + clip, tuple(self._call.frames)) for clip in clips]
        self.is_reusing = not self._must_run and self._cache.holds(self._keys)
        self._call.skipped = self._skipped if self.is_reusing else frozenset()
        try:
            return forward(*args, **kwargs)
        except BaseException:
            self.drop()
            raise
        finally:
            self.is_reusing, self._keys, self._call.skipped = False, [], frozenset()

    def exchange(self, x: Tensor, channels: int) -> None:
        """Keep the first channels of what enters the computed layers on the way up, or overwrite them.

        Args:
            x: ``(k b f) (c_below + c_skip) h w``.
            channels: ``c_below``.
        """
        if not self._keys or len(x) != self._call.rows:  # a call of other code inside the UNet's own
            return
        if self.is_reusing:
            self._cache.write(self._keys, x[:, :channels])
            return
        if x.requires_grad:
            raise ClipError(
                "Features that are reused carry no gradients. Sample inside torch.no_grad(), or set reuse to 1.",
                code="AD-G43",
            )
        self._cache.keep(self._keys, x[:, :channels])

    def _begin(self, given: Tensor) -> None:
        """Decide about a call on whole clips, of which the windows follow."""
        if is_compiled(self._unet):
            raise IncompatibleModelError(
                "Layers of this UNet were compiled, and would compute what is reused. Compile none, or set reuse to 1.",
                code="AD-G44",
            )
        call = self._call
        step, self._begun = call.step, call.begun
        like = (given.shape[1:], given.dtype, given.device)
        clips = count_clips(call.whole_rows, call.clip_frames)
        self._first_clip, is_known = self._order.next_call(step, clips)
        place = (step, self.part_of(step), like)
        if step < self._place[0] or place[1:] != self._place[1:]:
            self.drop()
        self._place = place
        self._must_run = self._reuse.is_full(step, self.steps) or not is_known
        if self._must_run and self._order.is_first:
            self.drop()


class SkippedForward:
    """Runs a layer, or returns zeros in the size of its last output."""

    def __init__(self, reusing: ReusingForward) -> None:
        self._reusing = reusing
        self._is_tuple = False
        self._size: Sequence[int] = ()
        self._dtype: torch.dtype | None = None

    @property
    def channels(self) -> int:
        """Channels of the last output."""
        return self._size[0]

    def __call__(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The output of ``forward``, or zeros."""
        if self._reusing.is_reusing:
            given = next(one for one in (*args, *kwargs.values()) if isinstance(one, Tensor))
            zeros = torch.zeros(len(given), *self._size, dtype=self._dtype, device=given.device)
            return (zeros,) if self._is_tuple else zeros
        output = forward(*args, **kwargs)
        self._is_tuple = isinstance(output, tuple)
        first = output[0] if self._is_tuple else output
        self._size, self._dtype = first.shape[1:], first.dtype
        return output


class EntryHook:
    """Forward pre-hook of the first computed layer on the way up."""

    def __init__(self, reusing: ReusingForward, below: SkippedForward) -> None:
        self._reusing = reusing
        self._below = below

    def __call__(self, _layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Exchange features in the layer's input."""
        self._reusing.exchange(inputs[0], self._below.channels)


def attach_reuse(unet: nn.Module, call: UNetCall, reuse: FeatureReuse, undo: ExitStack) -> ReusingForward:
    """Make calls of a UNet reuse features, until ``undo`` is closed.

    Raises:
        IncompatibleModelError: the UNet is of an unknown layout or too small, or a forward cannot be replaced.
    """
    branch = branch_of(unet, reuse)
    reusing = ReusingForward(unet, call, reuse, branch)
    undo.enter_context(patch_forward(unet, reusing))
    for layer in branch.skipped:
        skipping = SkippedForward(reusing)
        undo.enter_context(patch_forward(layer, skipping))
        if layer is branch.below:
            hook = EntryHook(reusing, skipping)
            undo.callback(branch.entry.register_forward_pre_hook(hook).remove)
    undo.callback(reusing.drop)
    call.hold = reusing.part_of
    return reusing
