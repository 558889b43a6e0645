"""Train motion modules, motion LoRAs and domain adapters. All other weights of the base model stay frozen."""

from .base import Base
from .clips import Clip, MemorySource, Source
from .run import train
from .settings import TrainingError, TrainingSettings

__all__ = ["Base", "Clip", "MemorySource", "Source", "TrainingError", "TrainingSettings", "train"]
