"""What differs between two files of fingerprints."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

Prints = dict[str, dict[str, dict[str, Any]]]  # by host and request


def differences(before: Prints, after: Prints) -> Iterator[str]:
    """A line for each of them."""
    for host in sorted(before.keys() | after.keys()):
        one, other = before.get(host, {}), after.get(host, {})
        for name in dict.fromkeys([*one, *other]):
            place = f"{host}: {name}"
            if name not in one or name not in other:
                yield f"{place}: only in the {'first' if name in one else 'second'} file"
                continue
            yield from (f"{place}: {line}" for line in _of_request(one[name], other[name]))


def _of_request(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for index, (one, other) in enumerate(zip_longest(before["frames"], after["frames"])):
        if one is None or other is None:
            yield f"{len(before['frames'])} frames before, {len(after['frames'])} after"
            break
        if one != other:
            yield f"frame {index} differs"
    if before["text"] != after["text"]:
        lines = difflib.unified_diff(
            before["text_plain"].splitlines(), after["text_plain"].splitlines(), n=0, lineterm=""
        )
        yield from (f"text {line}" for line in list(lines)[2:] if not line.startswith("@@"))
    files, files_after = before.get("files", {}), after.get("files", {})
    for file in sorted(files.keys() | files_after.keys()):
        if files.get(file) != files_after.get(file):
            yield f"file {file} differs" if file in files and file in files_after else f"file {file} is in one only"


def total(prints: Prints) -> str:
    """How much there is."""
    requests = [request for host in prints.values() for request in host.values()]
    frames, texts, files = (
        sum(len(request["frames"]) for request in requests),
        sum(bool(request["text_plain"]) for request in requests),
        sum(len(request.get("files", {})) for request in requests),
    )
    return f"{len(requests)} requests, {frames} frames, {texts} texts, {files} files"
