"""Numbered training examples: the clip of each number, and its replacement if it cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

from .clips import BrokenClipError, Clip, Cut, Source
from .rng import Draws, example_numbers, stream
from .settings import TrainingError, TrainingSettings

MOST_BROKEN_IN_A_ROW = 100  # more indicate a wrong folder
SHARE_HELD_OUT = 10  # at most one in so many clips


@dataclass(frozen=True)
class Example:
    """The clip for one position of a batch.

    Attributes:
        number: number of the example in the training.
        clip: the clip; None if none could be read.
        broken: name and error of each clip that was tried before.
    """

    number: int
    clip: Clip | None
    broken: tuple[tuple[str, str], ...] = ()


class Examples(Dataset[Example]):
    """Examples by number. Each epoch visits all clips in a random order.

    Args:
        source: the clips.
        items: indices of the training clips in the source.
        settings: how clips are cut.
    """

    def __init__(self, source: Source, items: Sequence[int], settings: TrainingSettings) -> None:
        self._source = source
        self._items = items
        self._settings = settings
        self._epoch = -1
        self._order = torch.empty(0)
        self._broken: dict[int, str] = {}

    def __getitem__(self, number: int) -> Example:
        draws = Draws(self._settings.seed, number)
        cut = training_cut(self._settings, draws)
        tried: list[tuple[str, str]] = []
        for index in self._candidates(number):
            if index not in self._broken:
                try:
                    return Example(number, self._source.read(index, cut), tuple(tried))
                except BrokenClipError as error:
                    self._broken[index] = error.message
            tried.append((self._source.name(index), self._broken[index]))
        return Example(number, None, tuple(tried))

    def _candidates(self, number: int) -> Iterator[int]:
        epoch, place = divmod(number, len(self._items))
        if epoch != self._epoch:
            order = stream(self._settings.seed, "epoch", epoch)
            self._epoch, self._order = epoch, torch.randperm(len(self._items), generator=order)
        first = self._items[int(self._order[place])]
        yield first
        others = torch.randperm(
            len(self._items), generator=stream(self._settings.seed, "replacement", number)
        )  # only consumed after a broken clip
        replacements = (self._items[int(other)] for other in others)
        yield from [
            index for index, _ in zip(replacements, range(MOST_BROKEN_IN_A_ROW), strict=False) if index != first
        ]


def training_cut(settings: TrainingSettings, draws: Draws) -> Cut:
    """The selection of frames for an example."""
    mirror = settings.mirror and draws.uniform("mirror") < 0.5
    return Cut(settings.clip_frames, settings.stride, draws.uniform("start"), mirror)


def split(source: Source, settings: TrainingSettings) -> tuple[list[int], list[int]]:
    """Indices of training clips, and of clips held out for validation."""
    held = min(settings.validation_clips, len(source) // SHARE_HELD_OUT)
    order = torch.randperm(len(source), generator=stream(settings.seed, "held out")).tolist()
    return sorted(order[held:]), sorted(order[:held])


def readable(example: Example) -> Clip:
    """The example's clip.

    Raises:
        TrainingError: no clip could be read.
    """
    if example.clip is None:
        shown = "; ".join(reason for _, reason in example.broken[:3])
        raise TrainingError(
            f"{len(example.broken)} clips in a row could not be read, starting with: {shown} "
            "Check the folder of the videos.",
            code="AD-T07",
        )
    return example.clip


def batches(
    examples: Examples, settings: TrainingSettings, steps: range, *, process: int, processes: int
) -> Iterator[list[Example]]:
    """Yield the batches of one device in training order, ``accumulation`` of them per step."""
    numbers = (
        batch
        for step in steps
        for batch in example_numbers(
            step,
            batch=settings.batch,
            accumulation=settings.accumulation,
            process=process,
            processes=processes,
        )
    )
    yield from DataLoader(examples, batch_sampler=numbers, num_workers=settings.workers, collate_fn=list)
