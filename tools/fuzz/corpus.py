"""Inputs that once did harm, by surface. Each run begins with them. Most are one short text, repeated."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence

_BLOCK = '{"animatediff_recipe": 1, "fps": "%s", "loop_count": 0, "data": {}}'
_RATES = ("1e100000000", "1e-100000000", "Infinity", "NaN", "0", "-8", "1/0", "9" * 5_000, "1/" + "9" * 5_000)
# 89 bytes, which claim 65535 x 65535 pixels
_VAST_GIF = (
    b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff" + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;" + b"\0" * 51
)


def _archive(pickled: bytes) -> bytes:
    """What torch saves, with this in place of its pickle."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
    return written.getvalue()


CORPUS: dict[str, Sequence[bytes]] = {
    "recipe": [(_BLOCK % rate).encode() for rate in _RATES] + [b"[" * 100_000, b'{"a":' * 100_000],
    "clip-gif": [_VAST_GIF],
    "picture": [_VAST_GIF],
    "prompt": [
        b"<a:" * 66_000,  # a tag that nothing closes
        b"0.5s:8:  spring\n2" + b"9" * 200_000,  # a weight without its bracket
        b"(" * 100_000,
        b"(a" * 50_000,
        b"\\(" * 100_000,
        b" " * 200_000 + b"BREAD",
        b"0: a\n" * 40_000,
        b"0:18 years old\n8: 60 years old",
    ],
    "prompt-file": [b"".join(b"a disc %d\n" % number for number in range(60_000)), b"a | " * 60_000],
    "prompt-list": [json.dumps([f"a disc {number}" for number in range(60_000)]).encode(), b"[" * 100_000],
    "training-csv": [b"videoid,name\n1," + b"a" * 200_000, b'videoid,name\n1,"' + b"a\n" * 100_000],
    "scale": [b"0: 1, " * 40_000, b"9" * 200_000, b"n" * 300],
    "settings": [
        json.dumps({"frames": 10**400}).encode(),
        json.dumps({"frames": 48, "overlap": 10**9, "stride": 10**9}).encode(),
        json.dumps({"frames": 16, "motion_scale": "0: 1, " * 20_000}).encode(),
    ],
    "plan": [json.dumps({"sampling": {"steps": 10**400}, "settings": {}, "files": {}}).encode()],
    # torch explains that it does not know a name by a pattern that is quadratic in its length
    "training-state": [_archive(b"\x80\x02c" + b"n" * 60_000 + b"\nx\n.")],
    "mask": [b"A" * 200_000, b"data:image/png;base64," * 10_000],
    "command-line": [
        json.dumps(["evaluate", "--output", "."]).encode(),
        json.dumps(["animate", "--contact-sheet", "/dev/null"]).encode(),
        json.dumps(["animate", "--lora", "n" * 300]).encode(),
        json.dumps(["inspect", "n" * 300]).encode(),
        json.dumps(["animate", "--motion-mask", "pipe.safetensors"]).encode(),
        json.dumps(["convert", "a\udc80", "n" * 300]).encode(),
    ],
}
