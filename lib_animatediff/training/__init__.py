"""Train a motion module, a motion LoRA or a domain adapter; everything else of the base model stays as it is."""

from .base import Base
from .clips import Clip, MemorySource, Source
from .run import train
from .settings import TrainingError, TrainingSettings

__all__ = ["Base", "Clip", "MemorySource", "Source", "TrainingError", "TrainingSettings", "train"]
