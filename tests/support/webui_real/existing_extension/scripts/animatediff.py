"""Stands for the existing extension: our title, a top-level `motion_module`, and names that others import."""

from modules import scripts

from motion_module import MotionWrapper  # noqa: F401 - as there: fails if the name is another's


class ExistingScript(scripts.Script):
    def title(self):
        return "AnimateDiff"

    def show(self, is_img2img):
        return scripts.AlwaysVisible
