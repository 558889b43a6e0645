"""The errors of many clips."""

from motion_module import AnimateDiffError


class ManifestError(AnimateDiffError):
    """A manifest, or one of its rows, cannot be used."""


class StoppedError(AnimateDiffError):
    """No clip can be rendered any more, for a reason that has nothing to do with a row."""
