"""At which steps the whole UNet is computed, and which layers are computed at the others."""

from __future__ import annotations

from dataclasses import dataclass

from motion_module import ClipError

MOST_INTERVAL = 5  # DeepCache, table 3: the quality falls beyond it
MOST_BRANCH = 5  # half of the skip connections of SDXL, which has 9
FEWEST_STEPS = 8  # fewer steps are too far apart: what they would share has changed too much


@dataclass(frozen=True)
class FeatureReuse:
    """Features of the deep layers are kept at a full step, and reused at the steps that follow.

    The first step of a run is full, then every ``interval``-th one. The last step is full, too, and takes the place of
    the full step just before it, so that a run has ``ceil(steps / interval)`` full steps.

    Attributes:
        interval: steps for which features serve, the full one included: 2 to `MOST_INTERVAL`.
        branch: the skip connection, counted from the input, up to which layers are computed at every step: 0 to
            `MOST_BRANCH`. More is slower and closer to a clip without reuse.
        on_cpu: keep the features in main memory.

    Raises:
        ClipError: a value is out of range.
    """

    interval: int = 2
    branch: int = 0
    on_cpu: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.interval <= MOST_INTERVAL or not 0 <= self.branch <= MOST_BRANCH:
            raise ClipError(
                f"Features can be reused in intervals of 2 to {MOST_INTERVAL} steps and at the branches 0 to "
                f"{MOST_BRANCH}, not {self.interval} and {self.branch}.",
                code="AD-G41",
            )

    def is_full(self, step: int, steps: int | None) -> bool:
        """Whether the whole UNet is computed at a step, from 0.

        Args:
            steps: of the run. With fewer than `FEWEST_STEPS`, all of them are full. None: unknown, so that the last one
                is not treated differently.
        """
        if step == 0 or (steps is not None and (steps < FEWEST_STEPS or step == steps - 1)):
            return True
        is_near_end = steps is not None and step < steps - 1 < step + self.interval
        return step % self.interval == 0 and not is_near_end

    def part(self, step: int, steps: int | None) -> int:
        """The number, from 0, of the interval that contains a step: ``step // interval`` until the last one."""
        return sum(self.is_full(each, steps) for each in range(1, step + 1))
