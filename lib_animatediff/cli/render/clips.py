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
from lib_animatediff.jobs.many.errors import ManifestError, StoppedError
from lib_animatediff.jobs.many.finished import job_id
from lib_animatediff.jobs.many.grid import clips_of
from lib_animatediff.jobs.many.manifest import Entry, Manifest
from lib_animatediff.jobs.many.models import Models, models_key
from lib_animatediff.jobs.many.random_seeds import RandomSeeds
from lib_animatediff.jobs.recipe import Request
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.video.filenames import place_within, safe_name
from motion_module import AnimateDiffError, ClipError
from motion_module.limits import MANIFEST_CLIPS

from .fields import FIELDS, OUTPUT, SEED, named, words_of

_RANDOM = "-1"
_SUFFIX = ".gif"  # as for `animate`
_NAME = 60  # bytes of a prompt in the name of a file
_HASH = 10  # characters of the job's id there


@dataclass(frozen=True)
class Row:
    """A clip that a manifest asks for, as it was written.

    Attributes:
        number: of the clip, from 1.
        place: of the row in the manifest.
        fields: by the names of the parameters of `animate`.
        name: of the file, as given; empty: it follows from the clip.
        problem: why it cannot be rendered.
    """

    number: int
    place: str
    fields: Mapping[str, Any]
    name: str = ""
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


def rows_of(manifest: Manifest, defaults: Mapping[str, Any]) -> list[Row]:
    """Every clip of a manifest, in its order.

    Args:
        defaults: fields of a file of defaults, which those of the manifest override.

    Raises:
        ManifestError: a default is wrong, or there are too many clips.
    """
    common = {**named(defaults), **named(manifest.defaults)}
    rows: list[Row] = []
    for entry in manifest.entries:
        for row in _clips_of_entry(entry, common):
            if len(rows) == MANIFEST_CLIPS:
                raise ManifestError(
                    f"The manifest asks for more than {MANIFEST_CLIPS} clips (at {entry.place}). Split it.",
                    code="AD-M25",
                )
            rows.append(replace(row, number=len(rows) + 1))
    return _with_own_names(rows)


def _clips_of_entry(entry: Entry, common: Mapping[str, Any]) -> Iterator[Row]:
    if entry.problem:
        yield Row(0, entry.place, {}, problem=entry.problem)
        return
    fields: dict[str, Any] = dict(entry.fields)
    try:
        fields = {name: value for name, value in {**common, **named(fields)}.items() if value is not None}
        for clip in clips_of(fields, FIELDS):
            yield Row(0, entry.place, clip, name=str(clip.get(OUTPUT, "")))
    except ManifestError as problem:
        yield Row(0, entry.place, fields, problem=problem)


def _with_own_names(rows: list[Row]) -> list[Row]:
    """Rows whose outputs differ: clips of one row are counted, and a name of two rows is refused."""
    of_row = Counter((row.place, row.name) for row in rows)
    met: Counter[tuple[str, str]] = Counter()
    taken: dict[str, str] = {}
    named_rows = []
    for row in rows:
        key = (row.place, row.name)
        met[key] += 1
        name = _counted(row.name, met[key]) if row.name and of_row[key] > 1 else row.name
        other = taken.setdefault(name.casefold(), row.place) if name else row.place
        problem = row.problem
        if other != row.place:
            problem = problem or ManifestError(
                f"output {name} is that of {other} as well. Choose another name.", code="AD-M26"
            )
        named_rows.append(replace(row, name=name, problem=problem))
    return named_rows


def _counted(name: str, number: int) -> str:
    path = Path(name)
    return str(path.with_name(f"{path.stem}-{number}{path.suffix}"))


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


def _same(asked: AskedClip) -> AskedClip:
    return asked


def checked(
    rows: list[Row],
    folder: Path,
    device: str,
    refuse: Callable[[Row, AnimateDiffError], None],
) -> list[ClipJob]:
    """The jobs of the rows that can be rendered, those with the same models together.

    Args:
        folder: of the clips.
        device: on which a clip is checked.
        refuse: called with each other row and the reason.

    Raises:
        StoppedError: a random seed cannot be written down.
    """
    seeds = RandomSeeds(folder)
    asked: list[tuple[Row, AskedClip, tuple[str, ...]]] = []
    for row in rows:
        try:
            if row.problem:
                raise row.problem
            words = tuple(words_of(_seeded(row.fields, seeds)))
            asked.append((row, _placed(ask(words, device), row.name, folder), words))
        except Exception as error:
            refuse(row, _of_row(error))
    asked.sort(key=lambda one: _order(one[1].request))
    models, jobs = Models(), dict[str, ClipJob]()
    for row, clip, words in asked:
        try:
            job = _job(row, clip, words, models.prepare(clip.request).plan)
        except Exception as error:
            refuse(row, _of_row(error))
            continue
        jobs.setdefault(str(clip.output), job)  # rows that ask for the same clip have the same file
    return list(jobs.values())


def _of_row(error: Exception) -> AnimateDiffError:
    if isinstance(error, StoppedError):
        raise error
    return explained(error)


def _seeded(fields: Mapping[str, Any], seeds: RandomSeeds) -> Mapping[str, Any]:
    """The fields with a seed for -1."""
    if str(fields.get(SEED, "")).strip() != _RANDOM:
        return fields
    return {**fields, SEED: seeds.of(fields)}


def _placed(asked: AskedClip, name: str, folder: Path) -> AskedClip:
    """The clip with its place in the folder. A name of its own says what it shows and which clip it is."""
    if name:
        return replace(asked, output=place_within(folder, name))
    request = asked.request
    title = safe_name(" ".join(request.prompt.split()), longest=_NAME).replace(" ", "-").strip("-")
    job = job_id(asked.recipe.data or {})
    return replace(asked, output=folder / f"{title}-{request.seed}-{job[:_HASH]}{_SUFFIX}")


def _job(row: Row, asked: AskedClip, words: tuple[str, ...], plan: ClipPlan) -> ClipJob:
    request = asked.request
    width, height = request.size
    frames = len(plan.rendered)
    return ClipJob(
        number=row.number,
        place=row.place,
        words=words,
        output=str(asked.output),
        files=tuple(map(str, asked.places)),
        id=job_id(asked.recipe.data or {}),
        models=models_key(request),
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
