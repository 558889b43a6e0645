"""Between a build and the files that are kept in the repository, in both directions.

Once the model is whole, the files move into the package, and `VILLAGE` into its table of built-in models.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lib_animatediff.builtin_model import BuiltInModel
from tools.pocket.export import UNET_PREFIX, VAE_PREFIX
from tools.pocket.loop import load, save
from tools.pocket.sampling import CFG
from tools.pocket.ship import ship as copy_files

from . import base, cameras, export, motion, probe, styles, vae

VILLAGE = BuiltInModel(
    name=export.VILLAGE.name,
    size=export.VILLAGE.size,
    cfg=CFG,
    prompt="a red car moving left in a town",
    knows="six small subjects in four sceneries",
    style_lora="",
    motion_loras=(),
)
FOLDER = Path(__file__).parent / "trained"
SOURCES = {
    VILLAGE.checkpoint: export.RESULT,
    VILLAGE.motion: motion.RESULT,
    f"{VILLAGE.name}-style-lora.safetensors": styles.LORA_RESULT,
    f"{VILLAGE.name}-judge.safetensors": probe.RESULT,
    **{f"{VILLAGE.name}-{cameras.result(move)}": cameras.result(move) for move in cameras.MOVES},
}


def ship(build: Path, folder: Path) -> list[Path]:
    """Copy what is kept from a build, as far as it is there; returns the files."""
    return copy_files(build, folder, VILLAGE, SOURCES)


def restore(folder: Path, build: Path) -> None:
    """Write the results of stages from the kept files, in whose place they are not made again."""
    tensors, about = load(folder / VILLAGE.checkpoint)
    for result, prefix in ((base.RESULT, UNET_PREFIX), (vae.RESULT, VAE_PREFIX)):
        part = {name.removeprefix(prefix): value.float() for name, value in tensors.items() if name.startswith(prefix)}
        save(build / result, part, about)
    for name, result in SOURCES.items():
        if name != VILLAGE.checkpoint and (folder / name).is_file():
            shutil.copyfile(folder / name, build / result)
