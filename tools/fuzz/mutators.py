"""Change valid inputs into invalid ones. All randomness comes from the given generator: a number gives an input.

Each mutator takes ``(random, seeds)`` and returns the bytes of one input, at most `LARGEST`.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

LARGEST = 2**20 - 1  # bytes: the limits on memory and time hold for files under 1 MB
_LONGEST = 1_000  # entries of a list
_NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_WORDS = (
    *("", " ", "\0", "\n", "\x1b[31m", "\ud800", "ä", "\u202e", "\uff1a", "%s", "../../x", "/etc/passwd", "a" * 300),
    *("nan", "NaN", "inf", "-Infinity", "1e400", "1e100000000", "-1", "0", "00", "0x10", "1_000", "9" * 400, "1/0"),
    *("None", "null", "true", "True", "[]", "{}", '"', "'", "\\", "(", ")", "[", "]", "<", ">", ":", "|", "=", "@"),
    *("0: a", "8: ", "-1: b", "end: c", "2.5s: d", "(a:1.5)", "[a:b:0.5]", "<lora:x:1>", " AND ", " BREAK ", "0-4=2"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 16, 17, 10**6, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e-320, 1e308),
    *(float("nan"), float("inf"), "", "16", "None", "a" * 300, "1e100000000", [], [[]], {}, {"a": {}}, [0] * 200),
)
Mutator = Callable[[Random, Sequence[bytes]], bytes]


def any_bytes(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A seed with some bytes changed, moved, repeated or left out; half of the places are near its ends."""
    data = bytearray(random.choice(seeds))
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        random.choice(_BYTE_CHANGES)(random, data, seeds)
    return bytes(data[:LARGEST])


def any_text(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A seed in UTF-8 with words replaced, inserted, repeated often or left out."""
    text = random.choice(seeds).decode("utf-8", "surrogatepass")
    for _ in range(random.choice((1, 1, 2, 4, 12))):
        start = random.randint(0, len(text))
        end = min(len(text), start + random.choice((0, 0, 1, 3, 20)))
        word = random.choice((*_WORDS, text[start:end], random.choice(seeds).decode("utf-8", "surrogatepass")))
        text = text[:start] + word * random.choice((1, 1, 1, 1, 2, 30, 5_000)) + text[end:]
        text = text[: LARGEST // 4]
    return text.encode("utf-8", "surrogatepass")


def any_json(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A seed in JSON with values and keys replaced, left out, repeated or nested; sometimes changed as a text."""
    if random.random() < 0.1:
        return any_text(random, seeds)
    return json.dumps(changed_value(random, json.loads(random.choice(seeds)))).encode()[:LARGEST]


def changed_value(random: Random, value: Any) -> Any:
    """A value of JSON with one to four of its parts changed."""
    for _ in range(random.choice((1, 1, 2, 4))):
        value = _changed_once(random, value)
    return value


def safetensors(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A safetensors file with another header, whose length fits; or any bytes changed."""
    data = random.choice(seeds)
    if random.random() < 0.3:
        return any_bytes(random, [data])
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    if random.random() < 0.5:
        name = random.choice(list(header))
        header[name] = changed_value(random, header[name])
    else:
        header = changed_value(random, header)
    text = json.dumps(header).encode()
    return (struct.pack("<Q", len(text)) + text + data[8 + length :])[:LARGEST]


def zipped(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A zip archive, such as torch's, with one of its members changed; or any bytes changed."""
    data = random.choice(seeds)
    if random.random() < 0.3 or not zipfile.is_zipfile(io.BytesIO(data)):
        return any_bytes(random, [data])
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(written, "w") as target:
        members = source.infolist()
        pickled = [member.filename for member in members if member.filename.endswith(".pkl")]
        chosen = random.choice([*pickled * len(members), *(member.filename for member in members)])
        for member in members:
            content = source.read(member)
            target.writestr(member, any_bytes(random, [content]) if member.filename == chosen else content)
    return written.getvalue()[:LARGEST]


def png(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A PNG with one chunk changed and its checksum right; or any bytes changed."""
    data = random.choice(seeds)
    if random.random() < 0.3:
        return any_bytes(random, [data])
    chunks, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    number = random.randrange(len(chunks))
    name, content = chunks[number]
    change = any_text if name in (b"tEXt", b"iTXt") and _is_text(content) else any_bytes
    chunks[number : number + 1] = [(name, change(random, [content or b"\0"]))] * random.choice((1, 1, 1, 0, 2))
    return (data[:8] + b"".join(_chunk(*chunk) for chunk in chunks))[:LARGEST]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _place(random: Random, length: int) -> int:
    """A place in so many bytes: most of what a reader decides by is at the ends."""
    near = min(length, 400)
    return random.choice((random.randint(0, length), random.randint(0, near), length - random.randint(0, near)))


def _set_byte(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    if data:
        data[min(_place(random, len(data)), len(data) - 1)] = random.randrange(256)


def _flip_bit(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    if data:
        data[min(_place(random, len(data)), len(data) - 1)] ^= 1 << random.randrange(8)


def _set_number(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    size = random.choice((1, 2, 4, 8))
    number = (random.choice(_NUMBERS) % 2 ** (8 * size)).to_bytes(size, random.choice(("little", "big")))
    place = _place(random, len(data))
    data[place : place + size] = number


def _leave_out(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    place = _place(random, len(data))
    del data[place : place + random.choice((1, 2, 4, 16, 256))]


def _cut(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    del data[_place(random, len(data)) :]


def _repeat(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    place = _place(random, len(data))
    part = bytes(data[place : place + random.choice((1, 4, 16, 64, 1024))])
    data[place:place] = part * random.choice((1, 1, 2, 16, 1000))
    del data[LARGEST:]


def _insert(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    place = _place(random, len(data))
    data[place:place] = random.choice(
        (random.randbytes(random.choice((1, 4, 32))), random.choice(_WORDS).encode("utf-8", "ignore"))
    )


def _splice(random: Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = random.choice(seeds)
    data[_place(random, len(data)) :] = other[_place(random, len(other)) :]


_BYTE_CHANGES = (_set_byte, _set_byte, _flip_bit, _set_number, _set_number, _leave_out, _cut, _repeat, _insert, _splice)


def _changed_once(random: Random, value: Any) -> Any:
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        rest = {name: each for name, each in value.items() if name != key}
        return random.choice(
            (
                lambda: {**value, key: _changed_once(random, value[key])},
                lambda: {**value, key: random.choice(_VALUES)},
                lambda: {**value, key: random.choice(_WORDS)},
                lambda: {**value, key: random.choice(list(value.values()))},
                lambda: rest,
                lambda: {**rest, random.choice((*_WORDS, *value)): value[key]},
            )
        )()
    if isinstance(value, list) and value and random.random() < 0.85:
        place = random.randrange(len(value))
        return random.choice(
            (
                lambda: [*value[:place], _changed_once(random, value[place]), *value[place + 1 :]],
                lambda: [*value[:place], *value[place + 1 :]],
                lambda: (value * random.choice((2, 100)))[:_LONGEST],
            )
        )()
    return random.choice(
        (
            lambda: random.choice(_VALUES),
            lambda: random.choice(_WORDS),
            lambda: str(value),
            lambda: [value],
            lambda: {"a": value},
            lambda: _nested(random.choice((10, 900))),
        )
    )()


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value
