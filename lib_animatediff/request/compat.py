"""Names and values of the existing AnimateDiff extension (sd-webui-animatediff) that its clients still send."""

from __future__ import annotations

from typing import Any

ALIASES: dict[str, tuple[str, ...]] = {  # by the canonical name of the setting
    "enable": ("enabled",),
    "frames": ("video_length",),
    "loop_count": ("loop_number", "loop"),
    "context_length": ("batch_size",),
    "formats": ("format",),
    "preview": ("poster",),  # our own earlier name
}

PLAIN_VALUES: dict[str, tuple[Any, ...] | None] = {
    # Arguments without a setting here, with the values that ask for nothing beyond a plain clip. None: any value is
    # accepted, because the argument only tunes a feature that is itself refused.
    "interp": ("Off",),
    "interp_x": None,
    "video_source": (None, ""),
    "video_path": (None, ""),
    "mask_path": (None, ""),
    "latent_power": None,
    "latent_scale": None,
    "last_frame": (None, ""),
    "latent_power_last": None,
    "latent_scale_last": None,
}
