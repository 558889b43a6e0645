"""The clips that a manifest asks for, checked before any model is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from lib_animatediff.cli.animate import animate
from lib_animatediff.cli.asked import AskedClip
from lib_animatediff.cli.last_resort import explained
from lib_animatediff.cli.one_clip.render import Report
from lib_animatediff.jobs.many.errors import ManifestError, StoppedError
from lib_animatediff.jobs.many.finished import check_formats, job_id
from lib_animatediff.jobs.many.grid import Field, clips_of
from lib_animatediff.jobs.many.manifest import Entry, Manifest
from lib_animatediff.jobs.many.models import Models, models_key
from lib_animatediff.jobs.many.random_seeds import RandomSeeds, key_of
from lib_animatediff.jobs.recipe import Request
from lib_animatediff.request.plan import ClipPlan
from motion_module import AnimateDiffError, ClipError
from motion_module.limits import MANIFEST_CLIPS

from .fields import FIELDS, OUTPUT, SEED, Named, named, words_of
from .names import Taken, placed

_RANDOM = "-1"


@dataclass(frozen=True)
class Row:
    """A clip that a manifest asks for, as it was written.

    Attributes:
        number: of the clip, from 1.
        place: of the row in the manifest.
        fields: by the names of the parameters of `animate`.
        name: of the file, as given; empty: it follows from the clip.
        one_of_several: whether other clips of its row have the same name.
        repeats: how many rows before it have the same fields, if it has a random seed.
        elsewhere: whether another shard renders it.
        problem: why it cannot be rendered.
    """

    number: int
    place: str
    fields: Mapping[str, Any]
    name: str = ""
    one_of_several: bool = False
    repeats: int = 0
    elsewhere: bool = False
    problem: AnimateDiffError | None = None


@dataclass(frozen=True)
class ClipJob:
    """A clip that can be rendered, as text and numbers, which go to another process.

    Attributes:
        number, place: as of its row.
        words: the options of `animate`.
        output: the file, as `animate` takes it.
        files: one for each format.
        id: of the recipe, see `job_id`.
        models: what its pipeline is loaded from; clips with the same ones follow each other.
        shape: width, height, frames.
        work: what it costs to render, in any unit.
        title: the prompt, for people.
        seed: of its first frame.
    """

    number: int
    place: str
    words: tuple[str, ...] = field(repr=False)
    output: str
    files: tuple[str, ...]
    id: str
    models: str
    shape: tuple[int, int, int]
    work: float
    title: str
    seed: int

    @property
    def places(self) -> list[Path]:
        """The files."""
        return list(map(Path, self.files))


def rows_of(
    manifest: Manifest, defaults: Mapping[str, Any], by_name: Named = named, fields: Mapping[str, Field] = FIELDS
) -> list[Row]:
    """Every clip of a manifest, in its order.

    Args:
        defaults: fields of a file of defaults, which those of the manifest override.
        by_name: the fields of a row by their own names.
        fields: every field.

    Raises:
        ManifestError: a default is wrong, or there are too many clips.
    """
    common = {**by_name(defaults), **by_name(manifest.defaults)}
    rows: list[Row] = []
    for entry in manifest.entries:
        for row in _clips_of_entry(entry, common, by_name, fields):
            if len(rows) == MANIFEST_CLIPS:
                raise ManifestError(
                    f"The manifest asks for more than {MANIFEST_CLIPS} clips (at {entry.place}). Split it.",
                    code="AD-M25",
                )
            rows.append(replace(row, number=len(rows) + 1))
    return _compared(rows)


def _clips_of_entry(
    entry: Entry, common: Mapping[str, Any], by_name: Named, fields: Mapping[str, Field]
) -> Iterator[Row]:
    if entry.problem:
        yield Row(0, entry.place, {}, problem=entry.problem)
        return
    values: dict[str, Any] = dict(entry.fields)
    try:
        values = {name: value for name, value in {**common, **by_name(values)}.items() if value is not None}
        for clip in clips_of(values, fields):
            yield Row(0, entry.place, clip, name=str(clip.get(OUTPUT, "")))
    except ManifestError as problem:
        yield Row(0, entry.place, values, problem=problem)


def _compared(rows: list[Row]) -> list[Row]:
    """The rows with what each of them has in common with others."""
    of_row = Counter((row.place, row.name) for row in rows)
    met: Counter[str] = Counter()
    compared = []
    for row in rows:
        repeats = 0
        if _is_random(row.fields):
            key = key_of(row.fields)
            repeats, met[key] = met[key], met[key] + 1
        several = bool(row.name) and of_row[row.place, row.name] > 1
        compared.append(replace(row, one_of_several=several, repeats=repeats))
    return compared


# --------------------------------------------------------------------------------------------------------------------
# checks


def ask(words: tuple[str, ...], device: str) -> AskedClip:
    """The clip that the command `animate` would render with these options.

    Raises:
        AnimateDiffError: an option is wrong.
    """
    try:
        with animate.make_context("animate", [*words, f"--device={device}"], obj=_same) as context:
            asked: AskedClip = animate.invoke(context)
            return asked
    except click.ClickException as error:
        raise ClipError(f"{error.format_message().rstrip('.')}.", code="AD-M27") from error


def _same(asked: AskedClip, _report: Report) -> AskedClip:
    return asked


@dataclass(frozen=True)
class _Asked:
    """A row with the clip that it asks for, in its place."""

    row: Row
    clip: AskedClip
    words: tuple[str, ...]
    id: str
    order: tuple[Any, ...]


def checked(
    rows: list[Row],
    folder: Path,
    device: str,
    refuse: Callable[[Row, AnimateDiffError], None],
    is_reserved: Callable[[Path], bool],
    keep_seeds: bool = True,
) -> list[ClipJob]:
    """The jobs of the rows that can be rendered here, those with the same models together.

    Args:
        folder: of the clips.
        device: on which a clip is checked.
        refuse: called with each other row and the reason, unless another shard has it.
        is_reserved: whether the run itself writes a file.
        keep_seeds: whether a random number that is drawn is written down.

    Raises:
        StoppedError: a random seed cannot be written down.
    """
    seeds, taken = RandomSeeds(folder, keep_seeds), Taken(folder, is_reserved)
    asked: list[_Asked] = []
    for row in rows:
        try:
            one = _ask_row(row, folder, device, seeds)
            taken.take(one.clip.places, one.id, row.place)
        except Exception as error:
            problem = of_row(error)
            if not row.elsewhere:
                refuse(row, problem)
            continue
        if not row.elsewhere:
            asked.append(one)
    models, jobs = Models(), list[ClipJob]()
    made: set[str] = set()
    for one in sorted(asked, key=lambda one: one.order):
        try:
            job = _job(one, models.prepare(one.clip.request).plan)
        except Exception as error:
            refuse(one.row, of_row(error))
            continue
        if not made.issuperset(job.files):  # else another row asks for the same clip
            made.update(job.files)
            jobs.append(job)
    return jobs


def _ask_row(row: Row, folder: Path, device: str, seeds: RandomSeeds) -> _Asked:
    if row.problem:
        raise row.problem
    words = tuple(words_of(with_seed(row, seeds)))
    clip = ask(words, device)
    check_formats(clip.keys)
    job = job_id(clip.recipe.data or {})
    return _Asked(row, placed(clip, row.name, folder, job, row.one_of_several), words, job, _order(clip.request))


def with_seed(row: Row, seeds: RandomSeeds) -> Mapping[str, Any]:
    """The fields of a row, with the number that is its random seed."""
    return {**row.fields, SEED: seeds.of(row.fields, row.repeats)} if _is_random(row.fields) else row.fields


def of_row(error: Exception) -> AnimateDiffError:
    """The reason why a row is refused.

    Raises:
        StoppedError: the error is one of the run.
    """
    if isinstance(error, StoppedError):
        raise error
    return explained(error)


def _is_random(fields: Mapping[str, Any]) -> bool:
    return str(fields.get(SEED, "")).strip() == _RANDOM


def _job(asked: _Asked, plan: ClipPlan) -> ClipJob:
    row, clip, request = asked.row, asked.clip, asked.clip.request
    width, height = request.size
    frames = len(plan.rendered)
    return ClipJob(
        number=row.number,
        place=row.place,
        words=asked.words,
        output=str(clip.output),
        files=tuple(map(str, clip.places)),
        id=asked.id,
        models=asked.order[0],
        shape=(width, height, frames),
        work=float(width * height * frames * plan.sampled_steps),
        title=request.prompt,
        seed=request.seed,
    )


def _order(request: Request) -> tuple[Any, ...]:
    """Clips whose checkpoint, motion and size are the same follow each other."""
    motion = [str(request.motion), *(str(one.path) for one in request.further)]
    loras = [(str(lora.path), lora.strength) for lora in request.motion_loras]
    return models_key(request), motion, loras, request.size, request.settings.frames, request.steps
