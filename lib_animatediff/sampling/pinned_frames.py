"""Frames of a clip that are given images: the UNet sees them without noise, at a timestep of 0.

The rows of pinned frames are replaced before each UNet call, and what the sampler gets for them leads to their images.
So every sampler works, and the temporal attention sees what the other frames have to join. These start from a share of
the images' inverted noise, see `sampling.inversion`. Those behind the frames of an earlier clip are led at first, see
`sampling.onward`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lib_animatediff.engine.batch import RowOrder
from lib_animatediff.engine.call import count_clips, input_of
from lib_animatediff.engine.host_tensor import HostTensor, Kept

from .hold import NoiseLevels, prediction_of
from .inversion import share_inverted_noise
from .onward import guessed_frames, stacked

V_PREDICTION = "v_prediction"
_ROUNDING = 1e-6  # of a completed share
_INPUT, _TIMESTEP = ("x", "sample"), ("timesteps", "timestep", "t")  # arguments in LDM and in diffusers


class Pins(Protocol):
    """Which frames are held, and how; see `request.start.pins.PinnedFrames`."""

    @property
    def frames(self) -> list[int]:
        """The numbers of the pinned frames, ascending."""

    @property
    def strength(self) -> float:
        """Share of the steps for which they are held."""

    @property
    def inversion(self) -> float:
        """Share of the inverted noise in the frames beside them."""


class FramesInRows:
    """Some frames of a clip among the rows of a UNet call.

    Args:
        frames: their numbers, ascending.
        clip_frames: frames of the clip.
        order: of the rows of a call, where it is not ``(k b f)``.
    """

    def __init__(self, frames: Sequence[int], clip_frames: int, order: RowOrder | None = None) -> None:
        self._frames = frames
        self._clip_frames = clip_frames
        self._order = order
        self._places: Kept[HostTensor] = Kept()

    def put(self, rows: Tensor, values: Tensor) -> Tensor:
        """The rows with the values of the frames, ``p ...`` or ``(k b) p ...``."""
        index = self._index(len(rows))
        clips = len(index) // len(self._frames)
        values = values.to(rows.dtype).expand(clips, len(self._frames), *rows.shape[1:]).flatten(0, 1)
        return rows.index_copy(0, index.on(rows.device), values)

    def take(self, rows: Tensor) -> Tensor:
        """The frames among the rows: ``(k b) p ...``."""
        found = rows.index_select(0, self._index(len(rows)).on(rows.device))
        return found.reshape(-1, len(self._frames), *rows.shape[1:])

    def _index(self, rows: int) -> HostTensor:
        """The rows of the frames, ``(k b) p``."""
        host = None if self._order is None else self._order(rows)
        key = (rows, None if host is None else tuple(host))
        return self._places.get_or(key, lambda: HostTensor(self._rows(rows, host)))

    def _rows(self, rows: int, host: Sequence[int] | None) -> list[int]:
        starts = range(0, count_clips(rows, self._clip_frames) * self._clip_frames, self._clip_frames)
        places = [start + frame for start in starts for frame in self._frames]
        return places if host is None else [host[place] for place in places]


class LedFrames:
    """The guesses behind pinned frames, to which the sampler is led for a part of the steps.

    Args:
        latents: of the pinned frames, ``p c h w``.
        pinned: their numbers, ``p``, ascending.
        frames: of the clip.
        order: of the rows of a UNet call, where it is not ``(k b f)``.
    """

    def __init__(self, latents: Tensor, pinned: Sequence[int], frames: int, order: RowOrder | None = None) -> None:
        self._guesses = guessed_frames(latents, pinned, frames)
        self._frames = frames
        self._order = order
        self._led: dict[int, tuple[FramesInRows, Tensor]] = {}  # by how many of the guesses

    def led_at(self, progress: float) -> tuple[FramesInRows, Tensor] | None:
        """The frames that are led at a completed share of the sampling, and their latents; None: none are."""
        acting = [guess for guess in self._guesses if progress < guess.until - _ROUNDING]
        if not acting:
            return None
        if len(acting) not in self._led:
            rows = FramesInRows([guess.frame for guess in acting], self._frames, self._order)
            self._led[len(acting)] = rows, stacked(acting)
        return self._led[len(acting)]


class PinnedLatents:
    """The pinned frames of a clip that is sampled.

    Args:
        pins: the pinned frames that are rendered.
        latents: of their images, ``p c h w``.
        frames: of the clip.
        inverted: the inverted noise of the images, ``p c h w``, or ``b p c h w`` for each clip of a batch; None: all
            frames have their own noise.
        places: the frames that ``inverted`` is of; None: all pinned ones.
        is_loop: the clip's end leads to its beginning.
        order: of the rows of a UNet call, where it is not ``(k b f)``.
        leads_on: the movement of the first pinned frames goes on behind them, see `sampling.onward`.

    Attributes:
        led: the frames behind them that are led; None: none are.
    """

    def __init__(
        self,
        pins: Pins,
        latents: Tensor,
        frames: int,
        inverted: Tensor | None,
        *,
        places: list[int] | None = None,
        is_loop: bool = False,
        order: RowOrder | None = None,
        leads_on: bool = False,
    ) -> None:
        self.pins = pins
        self.frames = frames
        self.latents = latents
        self.led = LedFrames(latents, pins.frames, frames, order) if leads_on else None
        self._inverted = inverted
        self._inverted_places = pins.frames if places is None else places
        self._is_loop = is_loop
        self._in_result = FramesInRows(pins.frames, frames)
        self._in_call = FramesInRows(pins.frames, frames, order)

    def in_noise(self, noise: Tensor) -> Tensor:
        """Unit noise ``(b f) c h w``, with the share of the images' inverted noise."""
        if self._inverted is None:
            return noise
        clips = torch.split(noise, self.frames)
        inverted = self._inverted if self._inverted.dim() == 5 else self._inverted.expand(len(clips), -1, -1, -1, -1)
        places, share = self._inverted_places, self.pins.inversion
        return torch.cat(
            [
                share_inverted_noise(clip, own, places, share, is_loop=self._is_loop)
                for clip, own in zip(clips, inverted, strict=True)
            ]
        )

    def in_result(self, latents: Tensor) -> Tensor:
        """Sampled latents ``(b f) c h w``; those of exactly pinned frames are their images', bit for bit."""
        if self.pins.strength < 1:
            return latents
        return self._in_result.put(latents, self.latents)

    def put(self, rows: Tensor, values: Tensor) -> Tensor:
        """Rows of a UNet call with the values of the pinned frames, ``p ...`` or ``(k b) p ...``."""
        return self._in_call.put(rows, values)

    def take(self, rows: Tensor) -> Tensor:
        """The pinned frames among the rows of a UNet call: ``(k b) p ...``."""
        return self._in_call.take(rows)


class HeldFrames:
    """The hooks of a UNet that hold pinned frames, from `begin` on.

    Attributes:
        progress: completed share of the sampling. Frames are held while it is below the strength of the pins.
    """

    def __init__(self) -> None:
        self.progress = 0.0
        self._pinned: PinnedLatents | None = None
        self._predicts_velocity = False
        self._levels: NoiseLevels | None = None
        self._given: tuple[Tensor, Tensor] | None = None  # latents and timesteps of the call under way

    def begin(self, pinned: PinnedLatents, levels: NoiseLevels, *, predicts_velocity: bool) -> None:
        """Hold these frames from the next call on.

        Args:
            levels: of the sampling.
            predicts_velocity: what the UNet predicts; otherwise it is noise.
        """
        self._levels = levels
        self._predicts_velocity = predicts_velocity
        self._pinned, self.progress = pinned, 0.0

    def acts_at(self, progress: float) -> bool:
        """Whether the frames are held at a completed share of the sampling."""
        return self._pinned is not None and progress < self._pinned.pins.strength

    def before(self, _unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        """Replace the rows of pinned frames by their images, and their timesteps by 0."""
        pinned = self._pinned
        if pinned is None or not self.acts_at(self.progress):
            return None
        x = input_of(args, kwargs)
        name = None if len(args) > 1 else next(name for name in _TIMESTEP if name in kwargs)
        given = args[1] if name is None else kwargs[name]
        timesteps = torch.as_tensor(given, device=x.device).expand(len(x))
        channels = pinned.latents.shape[1]
        self._given = x[:, :channels], timesteps
        rows = pinned.put(x[:, :channels], pinned.latents)
        if x.shape[1] > channels:  # an inpainting checkpoint also sees mask and image
            rows = torch.cat([rows, x[:, channels:]], dim=1)
        args, kwargs = _replaced(args, kwargs, 0, next((each for each in _INPUT if each in kwargs), None), rows)
        return _replaced(args, kwargs, 1, name, pinned.put(timesteps, torch.zeros_like(timesteps[:1])))

    def after(self, _unet: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        """Replace what the UNet predicts for pinned frames, so that the sampler goes to their images."""
        given, self._given = self._given, None
        pinned, levels = self._pinned, self._levels
        if given is None or pinned is None or levels is None:
            return None
        latents, timesteps = given
        predicted = output if isinstance(output, Tensor) else output[0]
        predicted = self._leading_to(pinned.latents, pinned, predicted, latents, timesteps, levels)
        if pinned.led is not None and (led := pinned.led.led_at(self.progress)) is not None:
            rows, guesses = led
            predicted = self._leading_to(guesses, rows, predicted, latents, timesteps, levels)
        return predicted if isinstance(output, Tensor) else (predicted, *output[1:])

    def _leading_to(
        self,
        images: Tensor,
        frames: PinnedLatents | FramesInRows,
        predicted: Tensor,
        latents: Tensor,
        timesteps: Tensor,
        levels: NoiseLevels,
    ) -> Tensor:
        """The prediction for all rows, with one that leads the sampler to the images of some frames, ``p c h w``."""
        wanted = prediction_of(
            images.float(),
            frames.take(latents).float(),
            levels.signal_at(frames.take(timesteps))[..., None, None, None],
            predicts_velocity=self._predicts_velocity,
        )
        return frames.put(predicted, wanted)


@contextmanager
def hold(unet: nn.Module, hooks: HeldFrames) -> Iterator[None]:
    """Hold the pinned frames in all calls of the UNet inside the block.

    Enter it before anything that replaces the UNet's forward, so that this records the timesteps of the rows.
    """
    handles = [
        unet.register_forward_pre_hook(hooks.before, with_kwargs=True),
        unet.register_forward_hook(hooks.after),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _replaced(
    args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str | None, value: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with another value at a place, or under a name."""
    if name is not None:
        return args, {**kwargs, name: value}
    return (*args[:place], value, *args[place + 1 :]), kwargs
