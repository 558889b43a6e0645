"""From settings to a written result."""

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
    """Train, and write the result with everything else into the output folder.

    Under ``accelerate launch`` every process calls this; the first one writes.

    Args:
        settings: what to train and how.
        base: the base model; by default the one that ``settings.checkpoint`` names. Its parts are moved to the
            device, and left frozen and in evaluation mode there.
        clips: a source, or pairs of images and captions; by default what ``settings.data`` names.

    Returns:
        The result, ``<output>/<target>.safetensors``.

    Raises:
        AnimateDiffError: the training cannot begin or go on; the message says why.
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
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise TrainingError(f"Training needs {', '.join(missing)}. Install it: pip install 'lib-animatediff[train]'")


def _source(settings: TrainingSettings, clips: Source | Iterable[tuple[Tensor, str]] | None) -> Source:
    if clips is None:
        from .sources import open_source

        return open_source(settings)
    return clips if isinstance(clips, Source) else MemorySource(clips)
