"""The command line. Frames are those of the files in the order of their names, decoded. The text is all it prints.

That includes what `info` prints of each file: the infotext and the JSON block.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from support.adapter_files import diffusers_layers, random_adapter, write_adapter
from support.motion_files import write_motion_file
from support.small_configs import write_config_folder
from support.webui_real import small_models

from lib_animatediff.builtin_model import POCKET

from . import cli_requests as names
from .cli_requests import COMMON, REQUESTS
from .decoding import decoded
from .prints import SECONDS, Fingerprint, files_below, folder_rule, normalised, of_files
from .workplace import workplace

NAMES = list(REQUESTS)
CLIP = "clip.png"  # an APNG, which loses nothing


def render(names: Sequence[str]) -> Iterator[tuple[str, Fingerprint]]:
    """The fingerprints of requests."""
    with workplace() as folder:
        _write_files()
        for name in names:
            made = folder / "made"
            made.mkdir()
            torch.manual_seed(0)
            yield name, _requested(shlex.split(f"{COMMON} {REQUESTS[name]}"), folder, made)
            shutil.rmtree(made)


def _requested(words: list[str], folder: Path, made: Path) -> Fingerprint:
    """The files of a request lie in ``made`` alone. The program is given relative paths, so that it says no others."""
    words = [f"{made.name}/{word}" if word == "sheet.png" else word for word in words]
    said = _run("animate", *words, "--output", f"{made.name}/{CLIP}", "--json")
    frames, texts = [], [said]
    for path in files_below(made):
        of_file, line = decoded(path)
        frames += of_file
        texts.append(line)
    for clip in json.loads(said.splitlines()[0])["clips"]:
        if not clip.endswith(".txt"):
            texts.append(_run("info", "--json", clip))
    return Fingerprint(frames, normalised("\n".join(texts), [folder_rule(folder), SECONDS]), of_files(made))


def _run(*words: str) -> str:
    """Run the program in this process. Returns what it prints, its messages last."""
    out, messages = io.StringIO(), io.StringIO()
    former, sys.argv = sys.argv, ["animatediff", *words]
    code: object = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(messages):
            runpy.run_module("lib_animatediff", run_name="__main__")
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = former
    if code:
        raise RuntimeError(f"{shlex.join(words)}: {messages.getvalue()}")
    return out.getvalue() + messages.getvalue()


def _write_files() -> None:
    """The files that requests name, into the current folder."""
    assets = POCKET.folder
    shutil.copyfile(assets / POCKET.motion_loras[0], names.PAN)
    shutil.copyfile(assets / POCKET.style_lora, names.LILAC)
    small_models.write_checkpoint(Path(), Path(names.SMALL).stem)
    write_config_folder(Path(names.CONFIG))
    for kind in names.KINDS:
        write_motion_file(Path(), kind)
    generator = torch.Generator().manual_seed(4)
    width = json.loads((assets / "config" / "text_encoder" / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    save_file({"emb_params": torch.randn(2, width, generator=generator)}, names.EMBEDDING)
    write_adapter(Path(names.ADAPTER), random_adapter(diffusers_layers(_pocket_unet(assets)), seed=1))
    mask = Image.linear_gradient("L").resize((64, 64))
    mask.paste(0, (0, 0, 20, 64))
    mask.save(names.MASK)


def _pocket_unet(assets: Path) -> torch.nn.Module:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(os.fspath(assets / "config" / "unet")))
