"""Files that are whole or not there."""

from motion_module.writing import replacing

__all__ = ["replacing"]
