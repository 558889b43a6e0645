"""One process of a training on several: the output folder, then settings as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main(output: str, more: str) -> None:
    """Train on the same base model and clips as every other process."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import torch
    from training import parts

    from lib_animatediff.training import MemorySource, train

    torch.set_num_threads(1)
    clips = MemorySource(parts.latent_clips(), latents=True)
    base = parts.small_base(parts.small_ldm_unet())
    train(parts.settings(Path(output), **json.loads(more)), base=base, clips=clips)


if __name__ == "__main__":
    main(*sys.argv[1:])
