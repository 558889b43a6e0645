"""Train motion modules and what goes with them, see `settings.TARGETS`. All other weights stay frozen."""

from .base import Base
from .clips import Clip, MemorySource, Source
from .run import train
from .settings import TrainingError, TrainingSettings

__all__ = ["Base", "Clip", "MemorySource", "Source", "TrainingError", "TrainingSettings", "train"]
