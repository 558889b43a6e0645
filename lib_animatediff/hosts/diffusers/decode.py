"""Decodes latents to frames, some at a time: while they are written, the device decodes those that follow.

Frames leave the device as bytes, a quarter of float32. A processor decodes one frame at a time, which keeps it busy; a
graphics card as many as fit into its free memory, fewer if it runs out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_animatediff.engine.memory import empty_cache, is_out_of_memory
from lib_animatediff.request.control.colours import ColourMatch
from lib_animatediff.request.start.kept import Kept
from lib_animatediff.video.palette import raw_bytes
from lib_animatediff.video.spool import SpooledFrames
from motion_module import ClipError
from motion_module.files.load import read_checked
from motion_module.files.other_models import identify_other
from motion_module.files.safe_unpickler import TensorHeader
from motion_module.files.weights import read_header

from .networks import NetworkError
from .pipeline import PIXELS_PER_LATENT

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Decode = Callable[["Tensor"], "Tensor"]
"""Latents ``n c h w`` to images ``n 3 H W``, -1 to 1."""

_log = logging.getLogger(__name__)

_MOST_AT_ONCE = 16
_TENSORS_AT_ONCE = 4  # in a VAE's last block: input, norm, product and sum, at full size
_LATENT_CHANNELS = 4  # of Stable Diffusion 1.5
_CLAMP = 1  # the original files count a first layer without weights
_FIRST_LAYER, _IN_A_BLOCK = "0.weight", "2.conv.0.weight"
_IN_DIFFUSERS = "decoder.layers."


def decode_frames(
    pipeline: Any,
    latents: Tensor,
    decoder: Decode | None = None,
    kept: Kept | None = None,
    colours: ColourMatch | None = None,
) -> SpooledFrames:
    """The frames of latents ``f c h w``, each decoded when it is first read.

    Args:
        decoder: from `load_decoder`; None: the VAE of the pipeline.
        kept: puts parts of a source video back; None: nothing is.
        colours: matches the colours of the frames; None: they stay.

    Raises:
        ClipError: while frames are read: memory ran out with one frame at a time, or the source video was changed.
    """
    decode = decoder or _vae(pipeline)
    height, width = (PIXELS_PER_LATENT * side for side in latents.shape[2:])
    shown = _shown_by(pipeline)
    at_once = frames_at_once(pipeline, latents)
    frames = _in_slices(latents, lambda some: shown(decode(some)), at_once)
    if colours is not None:
        frames = _changed(frames, (width, height), colours.matched)
    if kept is not None:
        frames = _changed(frames, (width, height), kept.put_back)
    return SpooledFrames(frames, len(latents), (width, height))


def _changed(frames: Iterator[bytes], size: tuple[int, int], change: Callable[[Image, int], Image]) -> Iterator[bytes]:
    """The frames after a change that knows their numbers."""
    from PIL import Image as PillowImage

    for number, data in enumerate(frames):
        yield change(PillowImage.frombytes("RGB", size, data), number).tobytes()


def check_decoder(path: Path) -> None:
    """Check by its header that a file is a tiny decoder of Stable Diffusion 1.5.

    Raises:
        MotionFileError: it cannot be read.
        NetworkError: it is another model.
    """
    tensors = read_header(path).tensors
    if _width_of(tensors) is None:
        known = identify_other(tensors)
        what = known.what if known else "a file of another kind"
        raise NetworkError(
            f"{path.name} is {what}, not a tiny decoder. Choose a file such as taesd_decoder.safetensors.",
            code="AD-D41",
        )


def load_decoder(path: Path) -> Decode:
    """A tiny decoder from a file: ``taesd_decoder`` in the original format or in that of diffusers' `AutoencoderTiny`.

    It follows the dtype and the device of the latents.

    Raises:
        AnimateDiffError: the file is damaged or another model.
    """
    from diffusers import AutoencoderTiny

    check_decoder(path)
    header = read_header(path)
    names = _official(header.tensors)
    width = _width_of(header.tensors)
    assert width is not None
    weights = read_checked(path, header, names.values())
    model = AutoencoderTiny(
        encoder_block_out_channels=(width,) * 4, decoder_block_out_channels=(width,) * 4
    ).requires_grad_(False)
    try:
        model.decoder.load_state_dict({f"layers.{name}": weights[key] for name, key in names.items()})
    except RuntimeError as error:  # torch lists every name
        raise NetworkError(f"{path.name} is no complete tiny decoder. Download it again.", code="AD-D42") from error
    return lambda latents: model.decoder.to(device=latents.device, dtype=latents.dtype)(latents)


def _official(tensors: Mapping[str, Any]) -> dict[str, str]:
    """Keys of a file by their names in diffusers' decoder."""
    if any(key.startswith(_IN_DIFFUSERS) for key in tensors):
        return {key.removeprefix(_IN_DIFFUSERS): key for key in tensors if key.startswith(_IN_DIFFUSERS)}
    found = {}
    for key in tensors:
        number, _, rest = key.removeprefix("decoder.").partition(".")
        if number.isdecimal() and rest:
            found[f"{int(number) - _CLAMP}.{rest}"] = key
    return found


def _width_of(tensors: Mapping[str, TensorHeader]) -> int | None:
    """Channels of a tiny decoder; None: it is another model."""
    names = _official(tensors)
    shapes = [tensors[names[name]].shape if name in names else () for name in (_FIRST_LAYER, _IN_A_BLOCK)]
    width = shapes[0][0] if shapes[0] else 0
    return width if shapes == [(width, _LATENT_CHANNELS, 3, 3), (width, width, 3, 3)] else None


def _vae(pipeline: Any) -> Decode:
    vae = pipeline.vae

    def decode(latents: Tensor) -> Tensor:
        with _in_one_call(vae) if len(latents) > 1 else _as_it_is():
            return vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]  # type: ignore[no-any-return]

    return decode


@contextmanager
def _in_one_call(vae: Any) -> Iterator[None]:
    """Let the VAE decode its input at once, also if it is set to decode one image at a time."""
    former = vae.use_slicing
    vae.use_slicing = False
    try:
        yield
    finally:
        vae.use_slicing = former


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def _shown_by(pipeline: Any) -> Callable[[Tensor], Tensor]:
    """From images, -1 to 1, what the pipeline shows: uint8 ``n h w 3``, checked if it has a safety checker."""
    import torch

    def shown(images: Tensor) -> Tensor:
        images, unsafe = pipeline.run_safety_checker(images, images.device, images.dtype)
        marks = [True] * len(images) if unsafe is None else [not found for found in unsafe]
        given: Tensor = pipeline.image_processor.postprocess(images, output_type="pt", do_denormalize=marks)
        return (given.permute(0, 2, 3, 1).float() * 255).round().to(torch.uint8)

    return shown


def frames_at_once(pipeline: Any, latents: Tensor) -> int:
    """How many frames the VAE takes at a time: what fits into the free memory of the latents' device."""
    import torch

    device = latents.device
    if device.type != "cuda":
        return 1
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + cached
    pixels = latents.shape[2] * latents.shape[3] * PIXELS_PER_LATENT**2
    widest = max(pipeline.vae.config.block_out_channels[:2])
    of_a_frame: int = pixels * widest * latents.element_size() * _TENSORS_AT_ONCE
    return min(max(free // of_a_frame, 1), _MOST_AT_ONCE)


def _in_slices(latents: Tensor, decode: Decode, at_once: int) -> Iterator[bytes]:
    """Pixels of each frame. The next slice is started before the frames of this one are given away."""
    place = 0
    former: Callable[[], Iterator[bytes]] = lambda: iter(())  # noqa: E731
    while place < len(latents):
        started = _started(latents[place : place + at_once], decode)
        if started is None:
            # Outside the except block: the exception references the tensors that filled the memory.
            if at_once == 1:
                raise ClipError(
                    f"Memory ran out while frame {place} was decoded. Lower the width or the height, or choose a tiny "
                    "decoder.",
                    code="AD-D43",
                )
            at_once //= 2
            _log.warning("Memory ran out in the decoder. It continues with %d frames at a time.", at_once)
            empty_cache(latents.device)
            continue
        yield from former()
        place, former = place + at_once, started
    yield from former()


def _started(latents: Tensor, decode: Decode) -> Callable[[], Iterator[bytes]] | None:
    """Decode some latents; returns what waits for the frames, or None if memory ran out."""
    import torch

    try:
        with torch.no_grad():
            shown = decode(latents)
            return _leaving(shown)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None


def _leaving(shown: Tensor) -> Callable[[], Iterator[bytes]]:
    """Copy frames to main memory, and return what waits for them; on a graphics card nothing waits here."""
    import torch

    if shown.device.type != "cuda":
        host, arrived = shown.cpu(), None
    else:
        host = torch.empty(shown.shape, dtype=shown.dtype, pin_memory=True)
        host.copy_(shown, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(shown.device))

    def frames() -> Iterator[bytes]:
        if arrived is not None:
            arrived.synchronize()
        return map(raw_bytes, host)

    return frames
