"""A second, larger pass over the finished clip: entries of the settings table."""

from __future__ import annotations

from .setting import OUTPUT, further

NOT_ENLARGED = 1.0
UPSCALE = further(
    NOT_ENLARGED,
    "Upscale",
    "Enlarges the finished clip by this factor and samples it again; try 1.5 to 2. 1 is off. In the WebUI, hires fix "
    "does this.",
    OUTPUT,
    minimum=NOT_ENLARGED,
    maximum=4,
    in_panel=False,
)
UPSCALE_DENOISE = further(
    0.4,
    "Upscale denoising strength",
    "How much of the enlarged clip is replaced, from 0 (nothing) to 1 (everything); try 0.3 to 0.5.",
    OUTPUT,
    minimum=0,
    maximum=1,
    in_panel=False,
)
