"""Settings that have no effect under others, with the reasons."""

from .rules import EFFECTS, Note, idle_settings, notes_of

__all__ = ["EFFECTS", "Note", "idle_settings", "notes_of"]
