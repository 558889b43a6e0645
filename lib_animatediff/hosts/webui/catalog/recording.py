"""A file with the outputs of a denoiser, one after the other, which is whole after each of them.

A record has its length and checksum before it, so that a record that a crash has cut is noticed and left out. The first
record describes the clip as JSON; the others hold tensors in the safetensors format. It is the user's own file, and is
read as one from a stranger.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import torch as safetensors
from torch import Tensor

from lib_animatediff.hosts.webui.compat.denoiser_outputs import DenoiserOutput
from motion_module import ClipError

SUFFIX = ".animatediff-recording"
_FORMAT = 1
_HEAD = struct.Struct("<QI")  # length and CRC-32 of a record
_MOST_HEADER = 2**20  # bytes
_DENOISED, _UNCOND, _FACTS = "denoised", "uncond", "facts"


@dataclass(frozen=True)
class Header:
    """What a recording is of.

    Attributes:
        identity: what must be the same where the clip goes on, by names for messages.
        tab: txt2img or img2img.
        infotext: of the clip.
    """

    identity: Mapping[str, str]
    tab: str
    infotext: str


@dataclass(frozen=True)
class CallFacts:
    """What a call of the denoiser leaves behind beside its output.

    Attributes:
        is_whole: whether the sampling may go on with this call, as it needs no features of earlier ones.
        numbers: the numbers of timesteps, by which context windows are planned.
        padded: see `DenoiserOutput`.
    """

    is_whole: bool
    numbers: list[tuple[tuple[float, ...], int]]
    padded: tuple[bool, bool] = (False, False)


class Recording:
    """A recording that is read.

    Attributes:
        header: its description.
        count: whole records of calls.

    Raises:
        ClipError: the file is no recording, or another version wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._places = _places(file)
            fields = json.loads(self._payload(0, _MOST_HEADER))
            if fields["format"] != _FORMAT:
                raise ValueError(f"format {fields['format']!r:.20}")
            self.header = Header(_texts(fields["identity"]), str(fields["tab"]), str(fields["infotext"]))
        except Exception as error:  # a damaged file can raise anything
            raise ClipError(
                f"{path.name} is no unfinished clip that this version can read. Render the clip again.", code="AD-W63"
            ) from error
        self.count = len(self._places) - 1

    def facts(self, call: int) -> CallFacts:
        """What a call left behind.

        Raises:
            ValueError: the record is damaged.
        """
        return self._call(call)[1]

    def call(self, call: int) -> tuple[DenoiserOutput, CallFacts]:
        """What a call gave, and left behind.

        Raises:
            ValueError: the record is damaged.
        """
        tensors, facts = self._call(call)
        return DenoiserOutput(tensors[_DENOISED], tensors.get(_UNCOND), facts.padded), facts

    def end_of(self, calls: int) -> int:
        """The length of the file with so many calls."""
        start, length = self._places[calls]
        return start + length

    def _call(self, call: int) -> tuple[dict[str, Tensor], CallFacts]:
        try:
            payload = self._payload(call + 1)
            length = int.from_bytes(payload[:8], "little")
            fields = json.loads(payload[8 : 8 + length])
            tensors = safetensors.load(payload[8 + length :])
            if _DENOISED not in tensors:
                raise ValueError(_DENOISED)
            numbers = [(tuple(map(float, timesteps)), int(number)) for timesteps, number in fields["numbers"]]
            one, other = fields["padded"]
            return tensors, CallFacts(fields["is_whole"] is True, numbers, (bool(one), bool(other)))
        except Exception as error:
            raise ValueError(f"record {call} of {self.path.name}") from error

    def _payload(self, number: int, most: int | None = None) -> bytes:
        start, length = self._places[number]
        if most is not None and length > most:
            raise ValueError("header")
        with self.path.open("rb") as file:
            file.seek(start - _HEAD.size)
            size, checksum = _HEAD.unpack(file.read(_HEAD.size))
            payload = file.read(size)
        if zlib.crc32(payload) != checksum:
            raise ValueError("checksum")
        return payload


class Recorder:
    """Writes a recording.

    Args:
        path: of the file.
        found: a recording there which goes on after some of its calls; None: a new one.
        calls: how many of them.
    """

    def __init__(self, path: Path, header: Header, found: Recording | None = None, calls: int = 0) -> None:
        self._path = path
        self._header = header
        self._end = 0 if found is None else found.end_of(calls)
        self._is_new = found is None
        self.size = self._end

    def append(self, calls: Iterable[tuple[DenoiserOutput, CallFacts]]) -> None:
        """Write further calls. After an error the file ends as before.

        Raises:
            OSError: they cannot be written.
        """
        payloads = [_of_call(*each) for each in calls]
        if self._is_new:
            fields = {"format": _FORMAT, **vars(self._header)}
            payloads.insert(0, json.dumps(fields).encode())
            self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("wb" if self._is_new else "r+b") as file:
            file.truncate(self._end)
            file.seek(self._end)
            try:
                for payload in payloads:
                    file.write(_HEAD.pack(len(payload), zlib.crc32(payload)))
                    file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(self._end)
                raise
            self.size = self._end = file.tell()
        self._is_new = False


def _of_call(output: DenoiserOutput, facts: CallFacts) -> bytes:
    fields = {"is_whole": facts.is_whole, "numbers": facts.numbers, "padded": output.padded}
    text = json.dumps(fields).encode()
    tensors = {_DENOISED: output.denoised, **({} if output.uncond is None else {_UNCOND: output.uncond})}
    on_host = {name: tensor.to("cpu").contiguous() for name, tensor in tensors.items()}
    return len(text).to_bytes(8, "little") + text + safetensors.save(on_host)


def _places(file: Any) -> list[tuple[int, int]]:
    """Start and length of the payload of each whole record."""
    found: list[tuple[int, int]] = []
    end = os.fstat(file.fileno()).st_size
    start = 0
    while start + _HEAD.size <= end:
        file.seek(start)
        length, checksum = _HEAD.unpack(file.read(_HEAD.size))
        start += _HEAD.size
        if start + length > end:
            break
        found.append((start, length))
        start += length
    if found:  # blocks of a cut record may have reached the disk without those before them
        start, length = found[-1]
        file.seek(start - _HEAD.size)
        _, checksum = _HEAD.unpack(file.read(_HEAD.size))
        if zlib.crc32(file.read(length)) != checksum:
            found.pop()
    return found


def _texts(values: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in dict(values).items()}
