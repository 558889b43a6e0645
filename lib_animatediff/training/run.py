"""Entry point of the training."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from .base import Base
from .clips import MemorySource, Source
from .settings import TrainingError, TrainingSettings


def train(
    settings: TrainingSettings,
    *,
    base: Base | None = None,
    clips: Source | Iterable[tuple[Tensor, str]] | None = None,
) -> Path:
    """Train, and write the result, states, samples and logs into the output folder.

    Under ``accelerate launch`` every process calls this; the main process writes.

    Args:
        settings: what to train and how.
        base: the base model; by default ``settings.checkpoint`` is loaded. It is moved to the training device and
            stays frozen and in evaluation mode.
        clips: a source, or pairs of images and captions; by default ``settings.data`` is opened.

    Returns:
        The result, ``<output>/<target>.safetensors``.

    Raises:
        AnimateDiffError: the training cannot start or continue.
    """
    _check_packages(settings)
    from .loop import run

    source = _source(settings, clips)
    return run(settings, base or Base.load(settings), source)


def _check_packages(settings: TrainingSettings) -> None:
    needed = ["accelerate", "tqdm"]
    needed += ["diffusers", "transformers"] if settings.checkpoint else []
    needed += ["av"] if settings.data else []
    needed += ["peft"] if settings.lora_rank else []
    missing = ", ".join(name for name in needed if find_spec(name) is None)
    if missing:
        raise TrainingError(
            f'Training needs {missing}. Install it: pip install "lib-animatediff[train]"', code="AD-T12"
        )


def _source(settings: TrainingSettings, clips: Source | Iterable[tuple[Tensor, str]] | None) -> Source:
    if clips is None:
        from .sources import open_source

        return open_source(settings)
    return clips if isinstance(clips, Source) else MemorySource(clips)
