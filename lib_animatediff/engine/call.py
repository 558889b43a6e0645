"""The UNet call under way: the frames in its rows, and its position in the sampling.

Everything that guides a clip per frame (motion scale, hints, camera poses, masks) is a tensor with one entry per frame.
`UNetCall.for_frames` cuts it to the context window under way and repeats it over the streams of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from motion_module import ClipError
from motion_module.schedules import TRAINING_STEPS

from .context_windows import ContextWindows
from .host_tensor import HostTensor, Kept

_INPUT_NAMES = ("x", "sample")  # the first argument in LDM and in diffusers
_TIMESTEP_NAMES = ("timesteps", "timestep", "t")  # the second argument
_CONTEXT_NAMES = ("context", "encoder_hidden_states")  # the third argument


class UNetCall:
    """The UNet call under way. Components read it; only the engine writes it.

    The rows of a call are ``(k b f)``: streams (cond, uncond, ...), clips, and the frames of this call.

    Args:
        clip_frames: frames of the whole clip.
        windowed: the clip is longer than a call, so that frames are known inside `window` only.
        views: context windows inside the temporal attention, while each call has the whole clip; None: none.

    Attributes:
        clips: indices in ``k b`` of the clips in the rows; None: all.
        whole_rows: rows of the call on whole clips.
        begun: number of calls on whole clips so far.
        hold: from a step, the step by which context windows are planned; None: the same one.
        skipped: layers of the UNet that the call leaves out, so that their outputs mean nothing.
    """

    def __init__(self, clip_frames: int, *, windowed: bool = False, views: ContextWindows | None = None) -> None:
        self.clip_frames = clip_frames
        self.views = views
        self.in_window = False
        self._frames: Sequence[int] | None = None if windowed else range(clip_frames)
        self.place = SamplingPlace()
        self._rows = 0
        self._row_timesteps: Any = None  # as passed to the call under way
        self.whole_rows = 0
        self.clips: Sequence[int] | None = None
        self.begun = 0
        self.hold: Callable[[int], int] | None = None
        self.skipped: Set[nn.Module] = frozenset()
        self._indices: Kept[HostTensor] = Kept()

    @property
    def frames(self) -> Sequence[int]:
        """Frames of the clip in the rows, in their order: the whole clip, or one context window.

        Raises:
            ClipError: no context window is under way, although the clip needs them.
        """
        if self._frames is None:
            raise _outside_windows()
        return self._frames

    @property
    def rows(self) -> int:
        """Rows of the call under way, ``k b f``."""
        return self._rows

    @property
    def timesteps(self) -> Tensor:
        """``(k b f)``: the timestep of each row.

        Raises:
            ClipError: the UNet was called without a timestep.
        """
        given = _required(self._row_timesteps, _TIMESTEP_NAMES)
        values = given if isinstance(given, Tensor) else torch.tensor(float(given))
        return values.flatten().expand(self._rows) if values.numel() == 1 else values.flatten()

    @property
    def step(self) -> int:
        """The sampling step, from 0: set by the host, or timesteps numbered in the order of their first use.

        Raises:
            ClipError: the UNet was called without a timestep.
        """
        return self.place.step

    @property
    def progress(self) -> float:
        """The completed share of the sampling, 0 to 1: set by the host, or derived from the timestep.

        Raises:
            ClipError: the UNet was called without a timestep.
        """
        return self.place.progress

    def frames_of(self, rows: int) -> int:
        """Frames per clip in a tensor with this many rows.

        Raises:
            ClipError: the rows are not whole clips, or no context window is under way.
        """
        frames = len(self.frames)
        count_clips(rows, frames)
        return frames

    def for_frames(self, full: Tensor) -> Tensor:
        """A per-frame tensor, cut to the frames of this call and repeated over clips and streams.

        Args:
            full: ``f ...`` with all frames of the clip, or ``(b f) ...`` with those of each clip of the batch.

        Returns:
            ``(k b f) ...``, one entry per row of the call.

        Raises:
            ClipError: ``full`` does not have whole clips, or the rows of the call are not whole clips.
        """
        given = count_clips(len(full), self.clip_frames)
        held: Sequence[int] = range(count_clips(self._rows, len(self.frames)))
        clips = len(held)
        if self.clips is not None:
            held, clips = self.clips, count_clips(self.whole_rows, self.clip_frames)
        if clips % given:
            raise ClipError(
                f"A tensor for {given} clips cannot be distributed over the {clips} clips of this UNet call. "
                "Pass the frames of one clip, or of each clip of the batch.",
                code="AD-G07",
            )
        by_clip = full.reshape(given, self.clip_frames, *full.shape[1:])
        rows = by_clip.index_select(0, self._index([clip % given for clip in held], full.device))
        return rows.index_select(1, self._index(self.frames, full.device)).flatten(0, 1)

    # ---- written by the engine only

    def begin(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Record the arguments of a call on whole clips, with rows in the order ``(k b f)``."""
        self._row_timesteps = _argument(args, kwargs, 1, _TIMESTEP_NAMES)
        self._rows = self.whole_rows = _row_count(args, kwargs)
        self.begun += 1
        self.place.begin(self._row_timesteps)

    def end(self) -> None:
        """Record that no call is under way."""
        self.place.end()

    @contextmanager
    def window(
        self,
        frames: Sequence[int],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        clips: Sequence[int] | None = None,
    ) -> Iterator[None]:
        """Set the frames of each clip that are in the rows inside the block. Step and progress are those of the call.

        Args:
            clips: indices of the clips in the rows, among those of all streams (``k b``); None: all of them.
        """
        former = self._frames, self._rows, self._row_timesteps, self.in_window, self.clips
        self._frames, self.in_window, self.clips = frames, True, clips
        self._rows, self._row_timesteps = _row_count(args, kwargs), _argument(args, kwargs, 1, _TIMESTEP_NAMES)
        try:
            yield
        finally:
            self._frames, self._rows, self._row_timesteps, self.in_window, self.clips = former

    def _index(self, places: Sequence[int], device: torch.device) -> Tensor:
        key = tuple(places)
        return self._indices.get_or(key, lambda: HostTensor(key)).on(device)


class SamplingPlace:
    """The place of a UNet call in the sampling: from the host, or read from the timesteps.

    Reading waits for the device, so it happens on demand, and once for calls that share a timestep.
    """

    def __init__(self) -> None:
        self._is_begun = False
        self._timestep: Any = None  # as passed to the call on whole clips
        self._values: list[float] | None = None
        self._numbers: dict[tuple[float, ...], int] = {}
        self._shares_timestep = False
        self._host: tuple[int | None, float | None, float | None] = (None, None, None)

    @property
    def step(self) -> int:
        """See `UNetCall.step`."""
        step, _, _ = self._host
        if step is not None:
            return step
        # A call for cond and one for uncond share a timestep, and the number of rows differs between calls.
        return self._numbers.setdefault(tuple(sorted(set(self._read()))), len(self._numbers))

    @property
    def progress(self) -> float:
        """See `UNetCall.progress`."""
        _, progress, _ = self._host
        return 1 - min(max(self._read()) / (TRAINING_STEPS - 1), 1.0) if progress is None else progress

    @property
    def known_timestep(self) -> float | None:
        """The timestep of a call that has one for all rows, if nothing has to wait for the device to tell it."""
        given, timestep = self._timestep, self._host[2]
        if timestep is not None:
            return timestep
        if not isinstance(given, Tensor):
            return None if given is None else float(given)
        values = set(given.flatten().tolist()) if given.device.type == "cpu" else set()
        return values.pop() if len(values) == 1 else None

    @property
    def numbers(self) -> list[tuple[tuple[float, ...], int]]:
        """The timesteps met so far, with their numbers."""
        return list(self._numbers.items())

    @numbers.setter
    def numbers(self, numbers: Iterable[tuple[tuple[float, ...], int]]) -> None:
        """Replace them."""
        self._numbers = dict(numbers)

    def set_host(self, step: int | None, progress: float | None, timestep: float | None) -> None:
        """Set what the host knows of the calls that follow; None: read it."""
        self._host = step, progress, timestep

    def begin_run(self) -> None:
        """Number the steps anew, since a run of the sampler begins."""
        self._numbers.clear()

    def share_timestep(self) -> None:
        """Record that all calls until this is called again have one timestep."""
        self._shares_timestep, self._values = True, None

    def begin(self, timestep: Any) -> None:
        """Record the timesteps of a call, as the UNet was given them."""
        self._timestep, self._is_begun = timestep, True
        if not self._shares_timestep:
            self._values = None

    def end(self) -> None:
        """Record that no call is under way."""
        self._is_begun = False

    def check_begun(self) -> None:
        """Check that the call under way was recorded.

        Raises:
            ClipError: other code has replaced the forward that records it.
        """
        if not self._is_begun:
            raise _outside_windows()

    def _read(self) -> list[float]:
        self.check_begun()
        timestep = self._host[2]
        if timestep is not None:
            return [timestep]
        if self._values is None:
            given = _required(self._timestep, _TIMESTEP_NAMES)
            self._values = given.flatten().tolist() if isinstance(given, Tensor) else [float(given)]
        return self._values


def count_clips(rows: int, frames: int) -> int:
    """Streams times clips in a call of this many rows.

    Raises:
        ClipError: the rows are not whole clips.
    """
    if not rows or rows % frames:
        raise ClipError(
            f"The UNet was called with {rows} rows, which are not whole clips of {frames} frames. "
            "Pass all frames of a clip in one call.",
            code="AD-G08",
        )
    return rows // frames


def _outside_windows() -> ClipError:
    return ClipError(
        "The UNet ran past the context windows: other code has replaced the forward that runs them. "
        "Disable that code, or render a clip that fits into one window.",
        code="AD-G09",
    )


def planning_step(call: UNetCall) -> int:
    """The step by which the context windows of the call under way are planned.

    Raises:
        ClipError: the UNet was called without a timestep.
    """
    return call.step if call.hold is None else call.hold(call.step)


def input_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """The latents in the arguments of a UNet call, ``(k b f) c h w``.

    Raises:
        ClipError: the UNet was called without its input.
    """
    return _required(_argument(args, kwargs, 0, _INPUT_NAMES), _INPUT_NAMES)  # type: ignore[no-any-return]


def count_rows(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Rows of a UNet call with these arguments.

    Raises:
        ClipError: the UNet was called without its input.
    """
    return len(input_of(args, kwargs))


def context_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """The conditions in the arguments of a UNet call, ``(k b f) n c``.

    Raises:
        ClipError: the UNet was called without its conditions.
    """
    return _required(_argument(args, kwargs, 2, _CONTEXT_NAMES), _CONTEXT_NAMES)  # type: ignore[no-any-return]


def added_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What SDXL adds to the timesteps: a dict in diffusers, a tensor in sgm; None: nothing."""
    added = kwargs.get("added_cond_kwargs")
    return _argument(args, kwargs, 3, ("y",)) if added is None else added


def _row_count(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    given = _argument(args, kwargs, 0, _INPUT_NAMES)
    return len(given) if isinstance(given, Tensor) else 0


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, names: Sequence[str]) -> Any:
    if len(args) > place:
        return args[place]
    return next((kwargs[name] for name in names if name in kwargs), None)


def _required(given: Any, names: Sequence[str]) -> Any:
    if given is None:
        raise ClipError(
            f"The UNet was called without its argument {' or '.join(map(repr, names))}. Pass it.", code="AD-G10"
        )
    return given
