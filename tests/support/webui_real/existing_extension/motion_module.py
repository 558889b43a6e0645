"""Stands for the existing extension's top-level module, whose name is our package's."""


class MotionWrapper:
    pass
