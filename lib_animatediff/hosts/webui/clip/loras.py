"""The motion LoRAs and domain adapters of one request, from its plan and its prompts."""

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
    """The motion LoRAs and domain adapters of one request, per batch.

    Attributes:
        reports: one line per file, which reports how much of it fits; for clients.
    """

    def __init__(self) -> None:
        self.reports: list[str] = []
        self._tagged: list[NamedLora] = []
        self._tagged_hires: list[NamedLora] = []
        self._hires_prompts: list[str] | None = None

    @property
    def names(self) -> list[str]:
        """The names of motion LoRAs and domain adapters in the prompts of the batch."""
        return list(dict.fromkeys(lora.name for lora in (*self._tagged, *self._tagged_hires)))

    def take_tags(self, p: Processing) -> None:
        """Remove the tags of motion LoRAs from a batch's prompts, before the WebUI looks for networks in them.

        The WebUI reads the prompts of the second pass later from the list of all prompts, which `put_back` restores.

        Raises:
            ClipError: a tag is invalid.
        """
        self._tagged = _take_tags(p.prompts)
        self._hires_prompts, self._tagged_hires = None, []
        if getattr(p, "enable_hr", False):
            everything = p.all_hr_prompts
            batch = slice(p.iteration * p.batch_size, (p.iteration + 1) * p.batch_size)
            rows = everything[batch]
            self._tagged_hires = _take_tags(rows)
            self._hires_prompts = everything
            p.all_hr_prompts = [*everything[: batch.start], *rows, *everything[batch.stop :]]

    def put_back(self, p: Processing) -> None:
        """Restore the prompts of the second pass in ``p``, for the infotext of the clip."""
        if self._hires_prompts is not None:
            p.all_hr_prompts, self._hires_prompts = self._hires_prompts, None

    def load(
        self, cache: LoraCache, motion: MotionModule, planned: Sequence[LoraFile], *, is_second_pass: bool
    ) -> LoadedLoras:
        """The motion module of a pass with its motion LoRAs.

        Raises:
            AnimateDiffError: a file is missing or damaged, or does not fit.
        """
        tagged = self._tagged_hires if is_second_pass else self._tagged
        return cache.load(motion, [*planned, *(LoraFile(find_lora(lora.name), lora.strength) for lora in tagged)])

    @contextmanager
    def applied(self, p: Processing, unet: nn.Module, loaded: LoadedLoras) -> Iterator[None]:
        """Apply the domain adapters inside the block, and report how much of each file fits.

        The comments of ``p`` show the reports on the page.
        """
        with apply_domain_adapters(unet, loaded.adapters) as matches:
            for line in (*loaded.reports, *map(str, matches)):
                p.comments[line] = 1
                if line not in self.reports:
                    self.reports.append(line)
            yield


def _take_tags(rows: list[str]) -> list[NamedLora]:
    """Remove the tags from all rows; returns those of the first row, as the WebUI does for its own networks."""
    taken = {prompt: take_tags(prompt) for prompt in rows}
    first = taken[rows[0]][1] if rows else []
    rows[:] = [taken[prompt][0] for prompt in rows]
    return first
