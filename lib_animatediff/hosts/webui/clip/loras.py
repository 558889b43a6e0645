"""The motion LoRAs and domain adapters of one request: those of the panel, and those that its prompts name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from lib_animatediff.engine.components.domain_adapter import apply_domain_adapters
from lib_animatediff.hosts.webui.catalog.loras import LoadedLoras, LoraCache, find_lora, parse_loras, take_tags
from lib_animatediff.sampling.text2video_zero import NAME
from motion_module import ClipError, MotionModule

Named = list[tuple[str, float]]


class ClipLoras:
    """Serves one request, batch by batch."""

    def __init__(self, of_the_panel: str, cache: LoraCache) -> None:
        self._of_the_panel = of_the_panel
        self._cache = cache
        self._tagged: Named = []
        self._tagged_hires: Named = []
        self._hires_prompts: list[str] | None = None

    def take_tags(self, p: Any) -> None:
        """Take our tags out of a batch's prompts, before the WebUI looks for networks in them.

        The WebUI reads the second pass's prompts later, out of a list of all: `put_back` gives that its texts again.

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

    def put_back(self, p: Any) -> None:
        """Give ``p`` the texts of the second pass as they were, for the clip's own text."""
        if self._hires_prompts is not None:
            p.all_hr_prompts, self._hires_prompts = self._hires_prompts, None

    def refuse_all(self) -> None:
        """Say that what the prompts name finds no motion module.

        Raises:
            ClipError: they name motion LoRAs or domain adapters.
        """
        if named := dict([*self._tagged, *self._tagged_hires]):
            raise ClipError(
                f"{NAME} has no motion module that {', '.join(named)} could change. Take the tag out of the prompt, or "
                "choose a motion module."
            )

    def load(self, motion: MotionModule, *, is_second_pass: bool) -> LoadedLoras:
        """The motion module of a pass, with what belongs to it.

        Raises:
            AnimateDiffError: a file is missing, broken, or fits nowhere.
        """
        named = [*parse_loras(self._of_the_panel), *(self._tagged_hires if is_second_pass else self._tagged)]
        return self._cache.load(motion, [(find_lora(name), strength) for name, strength in named])


@contextmanager
def with_adapters(p: Any, unet: nn.Module, loaded: LoadedLoras, told: list[str]) -> Iterator[None]:
    """Let the domain adapters act on the UNet, and say what of all files found a place.

    Args:
        told: collects it for clients; the page shows what stands in the comments of ``p``.
    """
    with apply_domain_adapters(unet, loaded.adapters) as matches:
        for line in (*loaded.reports, *map(str, matches)):
            p.comments[line] = 1
            if line not in told:
                told.append(line)
        yield


def _taken(rows: list[str]) -> Named:
    """Our networks of the first row, as the WebUI does with its own; the tags go from all rows."""
    taken = {prompt: take_tags(prompt) for prompt in rows}
    first = taken[rows[0]][1] if rows else []
    rows[:] = [taken[prompt][0] for prompt in rows]
    return first
