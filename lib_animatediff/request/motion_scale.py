"""Parsers for the amount of motion: numbers per frame, per sampling step and per UNet block."""

from __future__ import annotations

import re

from lib_animatediff.engine.motion_scale import BlockScale, Points, between
from lib_animatediff.prompts.frame_index import frame_at, is_place
from motion_module import ClipError

MOST_SCALE, MOST_EFFECT = 10.0, 2.0
_STEP_KEY = re.compile(r"[0-9]{1,3}(?:\.[0-9]{0,9})?%")
_BLOCK = re.compile(r"(down|up)(?:\.([0-3])(?:\.([0-2]))?)?|mid")
_PATHS = {"down": "down_blocks", "mid": "mid_block", "up": "up_blocks"}


def parse_frames(name: str, text: str, frames: int, most: float) -> tuple[float, ...]:
    """Parse one number per frame from ``1.2``, ``1, 1.1, 1.3`` or ``0: 1, 8: 1.5, -1: 1``.

    The last number of a list applies to all later frames. Between two given frames the numbers change linearly.

    Raises:
        ClipError: an entry is malformed.
    """
    pieces = _pieces(name, text)
    if not any(":" in piece for piece in pieces):
        if len(pieces) > frames:
            raise ClipError(
                f"{name} has {len(pieces)} numbers for a clip of {frames} frames. Remove the extra numbers.",
                code="AD-C20",
            )
        return tuple(_number(name, piece, most) for piece in pieces)
    points: dict[float, float] = {}
    for piece in pieces:
        key, colon, value = piece.partition(":")
        if not colon or not is_place(key.strip()):
            raise ClipError(
                f"{name}: {piece!r:.40} is not a frame with a number. Write frames and numbers, such as 0: 1, 8: 1.5, "
                "-1: 1.",
                code="AD-C21",
            )
        try:
            frame = frame_at(key.strip(), frames)
        except ClipError as error:
            raise ClipError(f"{name}, {piece!r:.40}: {error.message}", code="AD-C22") from None
        points[float(frame)] = _number(name, value, most)
    ordered = tuple(sorted(points.items()))
    return tuple(between(ordered, frame) for frame in range(frames))


def parse_steps(name: str, text: str, most: float) -> Points:
    """Parse a factor over the sampling steps from ``0.5`` or ``0%: 1, 60%: 0.5``; an empty string means 1.

    Between two given places the factor changes linearly.

    Raises:
        ClipError: an entry is malformed.
    """
    if not text.strip():
        return ((0.0, 1.0),)
    points: dict[float, float] = {}
    pieces = _pieces(name, text)
    for piece in pieces:
        key, colon, value = piece.rpartition(":")
        if (colon and not _STEP_KEY.fullmatch(key.strip())) or (not colon and len(pieces) > 1):
            raise ClipError(
                f"{name}: {piece!r:.40} is not a percentage with a number. Write percentages of the steps, such as "
                "0%: 1, 60%: 0.5.",
                code="AD-C23",
            )
        place = float(key.strip().removesuffix("%")) / 100 if colon else 0.0
        if place > 1:
            raise ClipError(f"{name}: {key.strip()} is past the last step. Use 0% to 100%.", code="AD-C24")
        points[place] = _number(name, value, most)
    return tuple(sorted(points.items()))


def parse_blocks(name: str, text: str) -> tuple[BlockScale, ...]:
    """Parse UNet blocks with factors, such as ``up.1 effect 0.5, mid scale 1.2``.

    Block names are ``down``, ``down.0``, ``down.0.1``, ``mid``, ``up`` and so on.

    Raises:
        ClipError: an entry is malformed.
    """
    return tuple(_block(name, piece) for piece in _pieces(name, text)) if text.strip() else ()


def _block(name: str, piece: str) -> BlockScale:
    words = piece.split()
    match = _BLOCK.fullmatch(words[0])
    if match is None or len(words) != 3 or words[1] not in ("scale", "effect"):
        raise ClipError(
            f"{name}: {piece!r:.40} is not a block with a factor. Write blocks and factors, such as up.1 effect 0.5, "
            "mid scale 1.2.",
            code="AD-C25",
        )
    site = _PATHS[match[1] or "mid"]
    if match[2]:
        site += f".{match[2]}"
    if match[3]:
        site += f".motion_modules.{match[3]}"
    if words[1] == "scale":
        return BlockScale(site, scale=_number(name, words[2], MOST_SCALE))
    return BlockScale(site, effect=_number(name, words[2], MOST_EFFECT))


def _pieces(name: str, text: str) -> list[str]:
    pieces = [piece.strip() for piece in text.replace("\n", ",").split(",")]
    if not all(pieces):
        raise ClipError(
            f"{name} has an empty entry in {text!r:.60}. Write a value there, or remove the comma.", code="AD-C26"
        )
    return pieces


def _number(name: str, text: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ClipError(f"{name} needs a number, not {text.strip()!r:.40}.", code="AD-C27") from None
    if not 0 <= number <= most:
        raise ClipError(f"{name} must be between 0 and {most:g}, not {text.strip():.40}.", code="AD-C28")
    return number
