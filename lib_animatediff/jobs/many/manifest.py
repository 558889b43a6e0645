"""Manifests: files whose rows ask for clips, as JSONL, CSV or YAML.

A row has fields by the names of the options of `animate`. What fields exist, and what they mean, is not known here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_animatediff.video.atomic import plain_reason
from motion_module.limits import TEXT_BYTES, parse_json, read_limited

from .errors import ManifestError

DEFAULTS = "defaults"
_CLIPS = "clips"  # of a file that is one object
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Entry:
    """A row as it was written.

    Attributes:
        place: where it is, for messages, such as ``line 3``.
        problem: why it has no fields.
    """

    place: str
    fields: Mapping[str, Any]
    problem: ManifestError | None = None


@dataclass(frozen=True)
class Manifest:
    """The rows of a file, and the fields that all of them have unless they say otherwise."""

    entries: tuple[Entry, ...]
    defaults: Mapping[str, Any]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. The suffix tells its format.

    Raises:
        ManifestError: the file cannot be read, has another format, or contains no rows.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise ManifestError(
            f"{path.name} is no manifest. Use one of these formats: {', '.join(_READERS)}.", code="AD-M01"
        )
    manifest = read(path, _text(path))
    if not manifest.entries:
        raise ManifestError(f"{path.name} contains no rows. Write one for each clip.", code="AD-M02")
    return manifest


def read_defaults(path: Path) -> Mapping[str, Any]:
    """The fields of a JSON or YAML file that is one object.

    Raises:
        ManifestError: it cannot be read, or is something else.
    """
    value = _parsed(path, _text(path))
    if not isinstance(value, dict):
        raise ManifestError(f"{path.name} must contain one object with the default fields.", code="AD-M03")
    return _fields(value)


def _text(path: Path) -> str:
    try:
        content = read_limited(path, TEXT_BYTES + 1)
        if len(content) > TEXT_BYTES:
            raise ManifestError(
                f"{path.name} is larger than {TEXT_BYTES // 2**20} MiB. Split it into several manifests.",
                code="AD-M04",
            )
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"{path} cannot be read as text ({plain_reason(error)}). Check it.", code="AD-M05"
        ) from error


def _of_lines(path: Path, text: str) -> Manifest:
    defaults: Mapping[str, Any] = {}
    entries: list[Entry] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        entry = _of_line(number, line)
        if not entries and not defaults and set(entry.fields) == {DEFAULTS}:
            defaults = _block(path, entry.fields[DEFAULTS])
        else:
            entries.append(entry)
    return Manifest(tuple(entries), defaults)


def _of_line(number: int, line: str) -> Entry:
    place = f"line {number}"
    try:
        return _entry(place, parse_json(line))
    except ValueError as error:
        return Entry(place, {}, ManifestError(f"This line is not JSON ({error}). Correct it.", code="AD-M06"))


def _of_table(path: Path, text: str) -> Manifest:
    header, _, _ = text.lstrip().partition("\n")
    delimiter = max(_DELIMITERS, key=header.count)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        return Manifest(tuple(_of_cells(path, lines)), {})
    except csv.Error as error:
        raise ManifestError(f"{path.name} is damaged ({error}). Save it again as CSV.", code="AD-M07") from error


def _of_cells(path: Path, lines: Any) -> Iterator[Entry]:
    names: list[str] = [name.strip() for name in next(lines, [])]
    if len(set(names)) < len(names):
        raise ManifestError(f"{path.name} has two columns of one name. Rename one of them.", code="AD-M08")
    for cells in lines:
        place = f"line {lines.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(names):
            problem = ManifestError(
                f"This line has more cells ({len(cells)}) than the table has columns ({len(names)}). Quote text that "
                "contains the delimiter.",
                code="AD-M09",
            )
            yield Entry(place, {}, problem)
            continue
        # An empty cell leaves the field out.
        yield Entry(place, {name: cell for name, cell in zip(names, cells) if name and cell.strip()})  # noqa: B905


def _of_document(path: Path, text: str) -> Manifest:
    value = _parsed(path, text)
    defaults: Mapping[str, Any] = {}
    if isinstance(value, dict) and isinstance(value.get(_CLIPS), list) and set(value) <= {_CLIPS, DEFAULTS}:
        value, defaults = value[_CLIPS], _block(path, value.get(DEFAULTS) or {})
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise ManifestError(
            f"{path.name} must contain a row, a list of rows, or an object with {_CLIPS} and {DEFAULTS}.", code="AD-M10"
        )
    return Manifest(tuple(_entry(f"row {number}", row) for number, row in enumerate(value, 1)), defaults)


def _parsed(path: Path, text: str) -> Any:
    try:
        return parse_json(text) if path.suffix.lower() == ".json" else _yaml(text)
    except ValueError as error:
        raise ManifestError(f"{path.name} cannot be read ({error}). Correct it.", code="AD-M11") from error


def _yaml(text: str) -> Any:
    """The value of a YAML text, without aliases, by which a few lines claim gigabytes.

    Raises:
        ValueError: it is not YAML, or has an alias.
    """
    try:
        import yaml
    except ImportError as error:
        raise ValueError("the package pyyaml is missing: pip install pyyaml") from error
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"line {event.start_mark.line + 1} has an alias, which is not allowed here")
        return yaml.load(text, Loader=loader)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _entry(place: str, value: Any) -> Entry:
    if isinstance(value, dict):
        return Entry(place, _fields(value))
    return Entry(
        place, {}, ManifestError("This row is no object with fields. Write a name for each value.", code="AD-M12")
    )


def _block(path: Path, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ManifestError(f"{path.name}: {DEFAULTS} must be an object with fields.", code="AD-M13")
    return _fields(value)


def _fields(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): each for name, each in value.items()}


_READERS: dict[str, Callable[[Path, str], Manifest]] = {
    ".jsonl": _of_lines,
    ".ndjson": _of_lines,
    ".csv": _of_table,
    ".tsv": _of_table,
    ".yaml": _of_document,
    ".yml": _of_document,
    ".json": _of_document,
}
SUFFIXES = tuple(_READERS)
