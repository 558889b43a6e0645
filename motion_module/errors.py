"""Errors of both packages. Each message says what is wrong and what to do; nothing has changed when one is raised."""


class AnimateDiffError(Exception):
    """Base of every error that a user can cause and can mend."""


class MotionFileError(AnimateDiffError):
    """A file is missing, broken, or not a motion module that we run."""


class IncompatibleModelError(AnimateDiffError):
    """The motion module cannot go into this UNet."""


class ClipError(AnimateDiffError):
    """The clip asked for cannot be made: frames, rows or settings do not fit together."""
