"""Convert motion modules of any format to official safetensors or to a diffusers MotionAdapter; others to official."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from motion_module.errors import MotionFileError
from motion_module.guide_files import check_official, find_guide
from motion_module.limits import exists, is_folder
from motion_module.network import Layout, MotionModule
from motion_module.temporal_transformer import positional_table

from .atomic import atomic_write
from .detect import KIND_KEY, LENGTH_KEY, DetectedModule, detect_motion_module
from .diffusers_format import CONFIG, WEIGHTS, config_of, find_source
from .key_formats import TABLE, motion_adapter_name
from .load import read_checked
from .weights import FileHeader, read_header

Target = Literal["official", "adapter"]
_SAFETENSORS = ".safetensors"


def convert_motion_file(
    source: str | Path, target: str | Path, *, to: Target = "official", kind: str | None = None, force: bool = False
) -> list[str]:
    """Write a motion module's unchanged tensors in another key format, with kind and trained length as metadata.

    A SparseCtrl encoder, a PIA, AnimateLCM-I2V or CameraCtrl model is written with the names of its official file.
    Positional tables are copied, or computed if the source has none, because other programs need them.

    Args:
        source: a file that `load_motion_module` accepts, or one of those.
        target: a safetensors file for ``official``, a folder for ``adapter``. It appears complete or not at all.
        to: ``official`` for the key format of AnimateDiff's own files, ``adapter`` for a diffusers MotionAdapter.
        kind: see `load_motion_module`.
        force: replace an existing target.

    Returns:
        What the new file cannot record about the training, as sentences.

    Raises:
        MotionFileError: `load_motion_module` would refuse the source, or the target cannot be written.
    """
    source, target = Path(source), Path(target)
    _check_target(target, to, force)
    found_at = find_source(source)
    header = read_header(found_at.weights)
    guide, found = find_guide(source), None
    if guide is not None:
        check_official(guide, to, kind)
        tensors = guide.official_tensors()
        metadata = {**header.metadata, "format": "pt", KIND_KEY: guide.kind, LENGTH_KEY: str(guide.trained_length)}
    else:
        found = detect_motion_module(found_at, header, kind)
        tensors = _official_tensors(found_at.weights, header, found)
        metadata = _metadata(header, found)
    try:
        if to == "adapter" and found is not None:
            _write_motion_adapter(target, tensors, metadata, found.layout)
        else:
            with atomic_write(target) as part:
                save_file(tensors, part, metadata)
    except (OSError, SafetensorError) as error:  # safetensors wraps errors of the operating system
        reason = getattr(error, "strerror", None) or str(error)
        raise MotionFileError(
            f"{target} cannot be written ({reason}). Choose another location or free some space.", code="AD-F01"
        ) from error
    return _lost_in_motion_adapter(found) if to == "adapter" and found is not None else []


def _check_target(target: Path, to: Target, force: bool) -> None:
    if to == "official" and target.suffix != _SAFETENSORS:
        raise MotionFileError(
            f"{target} must be a safetensors file. Choose a name that ends in {_SAFETENSORS}.", code="AD-F02"
        )
    if to == "adapter" and target.suffix == _SAFETENSORS:
        raise MotionFileError(
            f"{target} must be a folder, because a MotionAdapter is one. Choose a name without {_SAFETENSORS}.",
            code="AD-F03",
        )
    if to == "official" and is_folder(target):
        raise MotionFileError(f"{target} is a folder. Choose another name.", code="AD-F04")
    if to == "adapter" and exists(target) and not is_folder(target):
        raise MotionFileError(
            f"{target} is a file, but a MotionAdapter needs a folder. Choose another name.", code="AD-F05"
        )
    if exists(target) and not force:
        raise MotionFileError(f"{target} already exists. Choose another name, or force its replacement.", code="AD-F06")


def _official_tensors(path: Path, header: FileHeader, found: DetectedModule) -> dict[str, Tensor]:
    """Copies of the file's tensors under official names, with all positional tables."""
    names = {**found.weights, **found.tables}
    tensors = read_checked(path, header, set(names.values()))
    official = {name: tensors[key].clone(memory_format=torch.contiguous_format) for name, key in names.items()}
    if not found.tables:
        for name, shape in MotionModule.expected_shapes(found.layout, found.kind).items():
            if name.endswith(".to_q.weight"):
                table = positional_table(found.layout.trained_length, shape[0])
                official[f"{name.removesuffix('.to_q.weight')}{TABLE}"] = table
    return official


def _metadata(header: FileHeader, found: DetectedModule) -> dict[str, str]:
    ours = {"format": "pt", KIND_KEY: found.kind.name, LENGTH_KEY: str(found.layout.trained_length)}
    return {**header.metadata, **ours}


def _write_motion_adapter(
    folder: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str], layout: Layout
) -> None:
    """Create the folder in one step; in an existing folder replace only the adapter's two files."""
    renamed = {motion_adapter_name(name): tensor for name, tensor in tensors.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as made:
        part = Path(made) / "adapter"
        _write_motion_adapter_files(part, renamed, metadata, config_of(layout))
        if not exists(folder):
            part.rename(folder)
            return
        for name in (f"{WEIGHTS}{_SAFETENSORS}", CONFIG):
            (part / name).replace(folder / name)


def _write_motion_adapter_files(
    folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str], config: Mapping[str, Any]
) -> None:
    with atomic_write(folder / f"{WEIGHTS}{_SAFETENSORS}") as part:
        save_file(tensors, part, metadata)
    with atomic_write(folder / CONFIG) as part:
        part.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _lost_in_motion_adapter(found: DetectedModule) -> list[str]:
    kind, schedule = found.kind, found.kind.schedule
    lost = [
        "A MotionAdapter does not record its noise schedule. Configure diffusers' scheduler with "
        f'beta_schedule="{schedule.name}", beta_start={schedule.beta_start}, beta_end={schedule.beta_end}.'
    ]
    if kind.shared_resnet_norms:
        lost.append(
            f"In the training of {kind.name}, the UNet's group norms took their statistics over all frames of a clip; "
            "diffusers normalises each frame separately, so its clips will differ."
        )
    if not kind.shared_own_norm:
        lost.append(
            f"In the training of {kind.name}, the motion module's group norms took their statistics per frame; "
            "diffusers takes them over all frames of a clip, so its clips will differ slightly."
        )
    return lost
