"""Additions to a checkpoint and a motion module: LoRAs, embeddings, motion LoRAs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lib_animatediff.request.loras import LoraFile as LoraFile  # noqa: PLC0414 - part of this module's surface
from motion_module import (
    AnimateDiffError,
    DomainAdapter,
    MotionModule,
    apply_motion_loras,
    is_domain_adapter,
    load_domain_adapter,
    load_motion_lora,
    match_report,
)
from motion_module.files.other_models import identify_other
from motion_module.files.weights import read_header
from motion_module.limits import is_file
from motion_module.lora.low_rank import count_layers, reject_unsupported_lora_types
from motion_module.lora.motion_lora import holds_motion_lora

_MOST_EMBEDDINGS = 10  # tensors in a file of one embedding


class NetworkError(AnimateDiffError):
    """A LoRA or an embedding cannot be used."""


class PathCatalog:
    """Finds files by path, as in settings from Python and the command line."""

    def find_motion(self, name: str) -> Path:
        """The path itself; loading it fails if the file does not exist."""
        return Path(name)

    def find_lora(self, name: str) -> Path:
        """The path of an existing file.

        Raises:
            NetworkError: it does not exist.
        """
        return _existing(Path(name))

    def find_rife(self, name: str) -> Path:
        """The path itself; checking it fails if the file does not exist."""
        return Path(name)


def parse_added(text: str) -> LoraFile:
    """Parse ``FILE`` or ``FILE:STRENGTH``.

    Raises:
        NetworkError: the file does not exist, or the strength is not finite.
    """
    name, colon, strength = text.rpartition(":")
    try:
        added = LoraFile(Path(name), _finite(strength)) if colon else LoraFile(Path(text))
    except ValueError:
        added = LoraFile(Path(text))  # the colon is part of the path, such as after a drive letter
    _existing(added.path)
    return added


def _existing(path: Path) -> Path:
    if not is_file(path):
        raise NetworkError(f"There is no file {path}. Check the path.", code="AD-D07")
    return path


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise NetworkError(f"A strength must be a finite number, not {text}. Write FILE:0.8.", code="AD-D08")
    return number


def add_loras(pipeline: Any, loras: Sequence[LoraFile]) -> None:
    """Load LoRAs for the checkpoint (kohya's, diffusers' or PEFT's files) into a diffusers pipeline.

    Raises:
        NetworkError: a file is not such a LoRA or does not fit, or peft is not installed.
    """
    if not loras:
        return
    if find_spec("peft") is None:
        raise NetworkError("LoRAs need peft. Install it: pip install peft", code="AD-D09")
    names = [f"lora_{number}" for number in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        _check_lora(lora.path)
        with _one_line_errors(lora.path, "a LoRA for this checkpoint"):
            pipeline.load_lora_weights(str(lora.path.parent), weight_name=lora.path.name, adapter_name=name)
        models = (pipeline.unet, pipeline.text_encoder)
        if all(name not in getattr(model, "peft_config", {}) for model in models):
            raise NetworkError(
                f"{lora.path.name} contains no LoRA for this checkpoint. Choose another file.", code="AD-D10"
            )
    pipeline.set_adapters(names, [lora.strength for lora in loras])


def add_embeddings(pipeline: Any, embeddings: Sequence[Path]) -> None:
    """Load embeddings into a diffusers pipeline. The word of an embedding is the name of its file, as in the WebUI.

    Raises:
        NetworkError: a file is not such an embedding.
    """
    for path in embeddings:
        _existing(path)
        _check_embedding(path, pipeline.text_encoder.config.hidden_size)
        with _one_line_errors(path, "an embedding for this checkpoint"):
            pipeline.load_textual_inversion(str(path.parent), weight_name=path.name, token=path.stem)


@dataclass(frozen=True)
class MergedLoras:
    """A motion module with motion LoRAs merged into it, and the domain adapters.

    Attributes:
        motion: the caller's module if there are no motion LoRAs.
        adapters: domain adapters with their strengths.
        reports: one line per motion LoRA, which reports how much of it fits.
    """

    motion: MotionModule
    adapters: tuple[tuple[DomainAdapter, float], ...]
    reports: tuple[str, ...]


def with_motion_loras(motion: MotionModule, added: Sequence[LoraFile]) -> MergedLoras:
    """Load motion LoRAs and domain adapters. The given motion module does not change.

    Raises:
        AnimateDiffError: a file is neither, or does not fit.
    """
    found = [(one, is_domain_adapter(one.path)) for one in added]
    adapters = [(load_domain_adapter(one.path), one.strength) for one, is_adapter in found if is_adapter]
    loras = [(load_motion_lora(one.path), one.strength) for one, is_adapter in found if not is_adapter]
    reports = tuple(str(match_report(motion, lora)) for lora, _ in loras)
    return MergedLoras(apply_motion_loras(motion, loras) if loras else motion, tuple(adapters), reports)


def _check_lora(path: Path) -> None:
    """Check by its header that a file is a plain LoRA: diffusers' errors do not say what else it is."""
    names = read_header(path).tensors
    if holds_motion_lora(names):
        raise NetworkError(f"{path.name} is a motion LoRA. Give it with --motion-lora.", code="AD-D27")
    reject_unsupported_lora_types(path.name, names)
    known = identify_other(names)
    if not count_layers(names):
        what = known.what if known else "a file of another kind"
        raise NetworkError(f"{path.name} is {what}, not a LoRA. Choose another file.", code="AD-D21")


def _check_embedding(path: Path, width: int) -> None:
    headers = read_header(path).tensors
    widths = {header.shape[-1] for header in headers.values() if header.shape and len(header.shape) <= 2}
    if len(headers) > _MOST_EMBEDDINGS or (widths and width not in widths):
        known = identify_other(headers)
        what = known.what if known else "no embedding"
        raise NetworkError(
            f"{path.name} is {what} that does not fit: this checkpoint's embeddings have {width} numbers. Choose one "
            "made for Stable Diffusion 1.5.",
            code="AD-D22",
        )


@contextmanager
def _one_line_errors(path: Path, what: str) -> Iterator[None]:
    """Raise diffusers' errors about a file as a `NetworkError` of one line."""
    try:
        yield
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).split(". ")[0]
        raise NetworkError(
            f"{path.name} could not be used as {what}: {reason}. Check that it is made for this checkpoint.",
            code="AD-D11",
        ) from error
