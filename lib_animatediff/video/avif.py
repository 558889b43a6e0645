"""AVIF, written by Pillow."""

from __future__ import annotations

from pathlib import Path

from motion_module import AnimateDiffError

from .encoding import EncoderInput
from .exif import exif_of
from .observed import observed
from .timing import frame_durations

_TICKS = 1000  # per second
_SPEED = 8  # of 10; Pillow's default, 6, takes eight times as long, for 1.1 dB at the same quality
_ADVICE = "Install Pillow 11.3 or later, or the plugin for older versions: pip install pillow-avif-plugin"


def write_avif(part: Path, clip: EncoderInput) -> None:
    """Write an animated AVIF. It loops forever, because libavif does not accept a loop count."""
    need_avif()
    first, *others = observed(clip, clip.with_alpha())
    first.save(
        part,
        format="AVIF",
        save_all=True,
        append_images=others,
        duration=frame_durations(len(clip.frames), clip.fps, _TICKS),
        quality=clip.encoding.quality,
        speed=_SPEED,
        **({"exif": exif_of(clip.infotext, clip.block)} if clip.recipe else {}),
    )


def need_avif() -> None:
    """Check that Pillow reads and writes AVIF, natively or with its plugin.

    Raises:
        AnimateDiffError: it does not.
    """
    from PIL import Image

    Image.init()
    if "AVIF" not in Image.SAVE:
        try:
            import pillow_avif  # noqa: F401
        except ImportError:
            raise AnimateDiffError(f"AVIF is not supported by this Pillow. {_ADVICE}", code="AD-V01") from None
