"""The motion LoRAs and domain adapters of one request: those of the plan, and those that its prompts name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from lib_animatediff.engine.components.domain_adapter import apply_domain_adapters
from lib_animatediff.hosts.webui.catalog.loras import LoadedLoras, LoraCache, find_lora, take_tags
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.request.loras import LoraFile, NamedLora
from motion_module import MotionModule


class ClipLoras:
    """Serves one request, batch by batch.

    Attributes:
        reports: one line about each file, on how much of it fits; for clients.
    """

    def __init__(self) -> None:
        self.reports: list[str] = []
        self._tagged: list[NamedLora] = []
        self._tagged_hires: list[NamedLora] = []
        self._hires_prompts: list[str] | None = None

    @property
    def names(self) -> list[str]:
        """The names that the prompts of the batch hold."""
        return list(dict.fromkeys(lora.name for lora in (*self._tagged, *self._tagged_hires)))

    def take_tags(self, p: Processing) -> None:
        """Take our tags out of a batch's prompts, before the WebUI looks for networks in them.

        The WebUI reads the second pass's prompts later, out of a list of all: `put_back` restores that list.

        Raises:
            ClipError: a tag is not understood.
        """
        self._tagged = _taken(p.prompts)
        self._hires_prompts, self._tagged_hires = None, []
        if getattr(p, "enable_hr", False):
            everything = p.all_hr_prompts
            batch = slice(p.iteration * p.batch_size, (p.iteration + 1) * p.batch_size)
            rows = everything[batch]
            self._tagged_hires = _taken(rows)
            self._hires_prompts = everything
            p.all_hr_prompts = [*everything[: batch.start], *rows, *everything[batch.stop :]]

    def put_back(self, p: Processing) -> None:
        """Give ``p`` the texts of the second pass as they were, for the clip's own text."""
        if self._hires_prompts is not None:
            p.all_hr_prompts, self._hires_prompts = self._hires_prompts, None

    def load(
        self, cache: LoraCache, motion: MotionModule, of_the_plan: Sequence[LoraFile], *, is_second_pass: bool
    ) -> LoadedLoras:
        """The motion module of a pass with its motion LoRAs.

        Raises:
            AnimateDiffError: a file is missing, broken, or does not fit.
        """
        tagged = self._tagged_hires if is_second_pass else self._tagged
        return cache.load(motion, [*of_the_plan, *(LoraFile(find_lora(lora.name), lora.strength) for lora in tagged)])

    @contextmanager
    def applied(self, p: Processing, unet: nn.Module, loaded: LoadedLoras) -> Iterator[None]:
        """Apply the domain adapters inside the block, and report how much of each file fits.

        The page shows the comments of ``p``.
        """
        with apply_domain_adapters(unet, loaded.adapters) as matches:
            for line in (*loaded.reports, *map(str, matches)):
                p.comments[line] = 1
                if line not in self.reports:
                    self.reports.append(line)
            yield


def _taken(rows: list[str]) -> list[NamedLora]:
    """The networks of the first row, as the WebUI does with its own; the tags leave all rows."""
    taken = {prompt: take_tags(prompt) for prompt in rows}
    first = taken[rows[0]][1] if rows else []
    rows[:] = [taken[prompt][0] for prompt in rows]
    return first
