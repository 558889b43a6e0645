"""Between a build and the files that are part of the package, in both directions."""

from __future__ import annotations

import shutil
from pathlib import Path

from lib_animatediff.builtin_model import VILLAGE
from tools.pocket.export import UNET_PREFIX, VAE_PREFIX
from tools.pocket.loop import load, save
from tools.pocket.ship import ship as copy_files

from . import base, cameras, export, motion, styles, vae

FOLDER = Path("lib_animatediff/builtin_model") / VILLAGE.name
SOURCES = {
    VILLAGE.checkpoint: export.RESULT,
    VILLAGE.motion: motion.RESULT,
    VILLAGE.style_lora: styles.LORA_RESULT,
    **dict(zip(VILLAGE.motion_loras, map(cameras.result, cameras.MOVES), strict=False)),
}


def ship(build: Path, folder: Path) -> list[Path]:
    """Copy what the package needs from a build, as far as it is there; returns the files."""
    return copy_files(build, folder, VILLAGE, SOURCES)


def restore(folder: Path, build: Path) -> None:
    """Write the results of stages from the package's files, in whose place they are not made again."""
    tensors, about = load(folder / VILLAGE.checkpoint)
    for result, prefix in ((base.RESULT, UNET_PREFIX), (vae.RESULT, VAE_PREFIX)):
        part = {name.removeprefix(prefix): value.float() for name, value in tensors.items() if name.startswith(prefix)}
        save(build / result, part, about)
    for name, result in SOURCES.items():
        if name not in ("", VILLAGE.checkpoint) and (folder / name).is_file():
            shutil.copyfile(folder / name, build / result)
