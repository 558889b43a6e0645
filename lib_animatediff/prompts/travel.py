"""Prompt travel: a prompt that says what stands at which frame, and how each frame comes by its own.

    masterpiece, 1girl        head, before every frame's text
    0: spring                 a frame of the clip
    8-11: (summer:1.2)        several
    50% hold: autumn          a part of the clip; the prompt stands still until the next key
    -1: winter                counted from the end
    best quality              tail, after every frame's text

Lines that begin otherwise are ordinary text, `16:9` among them. Users know the grammar from the existing extension;
percentages, ranges and words after the frame are new.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from motion_module import ClipError

from .frame_index import PLACE, frame_at

HOLD = "hold"
STEP = "step"
INTERPOLATIONS = ("slerp", "linear", STEP)
EASINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "ease-in": lambda t: t * t,
    "ease-out": lambda t: 1 - (1 - t) ** 2,
    "ease-in-out": lambda t: t * t * (3 - 2 * t),
}

_KEY_LINE = re.compile(
    rf"\s*(?P<first>{PLACE})(?:\s*-\s*(?P<last>{PLACE}))?(?:\s+(?P<modifier>[^\W\d_][\w-]*))?\s*:(?P<text>.*)"
)
_RATIO = re.compile(r"\s*(?P<first>[0-9.]{1,9}):[0-9]{1,9}(?![0-9]*[^\W\d])")  # `16:9 format`, but not `0:1girl`
_NETWORK_TAG = re.compile(r"<\w+:[^>]+>")

_PART_BEGINS = re.compile(r"(?:AND|BREAK)\b")
_PART_ENDS = re.compile(r"\b(?:AND|BREAK)$")
_OPENS = re.compile(r"(?<!\\)[(\[|]$")  # a style may put brackets round a prompt
_CLOSES = re.compile(r"[)\]|:,]")

_SEPARATORS = ", \t\r\n"
_QUOTED_LENGTH = 60


@dataclass(frozen=True)
class Key:
    """One line of the map.

    Attributes:
        first, last: frames at which the text stands, both included.
        text: what stands between head and tail.
        easing: of the change from this key to the next; None for the clip's.
        holds: whether the text stands still until the next key instead.
        line: where it was written, counted from 1.
        written: the line itself.
    """

    first: int
    last: int
    text: str
    easing: str | None
    holds: bool
    line: int
    written: str


@dataclass(frozen=True)
class Blend:
    """What one frame is made of: conditions of the frames ``first`` and ``second``, the latter by ``weight`` in 0..1.

    Both are first frames of keys. Where only one prompt stands, it is both, and ``weight`` is 0.
    """

    first: int
    second: int
    weight: float


@dataclass(frozen=True)
class Travel:
    """A prompt whose middle changes over ``frames`` frames; ``keys`` lie in the order of their frames."""

    head: str
    tail: str
    keys: tuple[Key, ...]
    frames: int

    def prompts(self) -> list[str]:
        """Each frame's prompt as a whole: that of the key that stands there, or stood there last."""
        whole = [joined(self.head, key.text, self.tail) for key in self.keys]
        return [whole[max(self._key_before(frame), 0)] for frame in range(self.frames)]

    def blends(
        self, interpolation: str = "slerp", easing: str = "linear", hold: float = 0.0, closed: bool = False
    ) -> list[Blend]:
        """What each frame is made of.

        Args:
            interpolation: ``"step"`` lets each prompt stand until the next key; all others change it gradually.
            easing: pace of a change whose key names none.
            hold: part of each interval, 0 to 1, that passes before the change begins.
            closed: the last key's prompt changes into the first one's round the end of the clip.

        Raises:
            ClipError: no such interpolation or easing, or ``hold`` outside 0 to 1.
        """
        _check(interpolation, easing, hold)

        def blend(frame: int) -> Blend:
            at = self._key_before(frame)
            is_outer = at < 0 or at == len(self.keys) - 1
            if is_outer and not closed:
                return _still(self.keys[max(at, 0)])
            former, following = self.keys[at], self.keys[(at + 1) % len(self.keys)]  # -1 is the last one's place, too
            if following is former or former.holds or interpolation == STEP or former.first <= frame <= former.last:
                return _still(former)
            gone = (frame - former.last) % self.frames
            distance = (following.first - former.last) % self.frames
            changing = max(gone / distance - hold, 0)
            weight = EASINGS[former.easing or easing](changing / (1 - hold)) if changing else 0.0
            return Blend(former.first, following.first, min(weight, 1.0)) if weight else _still(former)

        return [blend(frame) for frame in range(self.frames)]

    def _key_before(self, frame: int) -> int:
        """Place of the last key that begins at ``frame`` or before; -1 before the first key."""
        return bisect_right(self._firsts, frame) - 1

    @cached_property
    def _firsts(self) -> list[int]:
        return [key.first for key in self.keys]


def is_travel(text: str) -> bool:
    """Whether a prompt has a line that begins with a frame and a colon."""
    return any(match and _is_certain(match) for match in map(_key_match, text.split("\n")))


def read_travel(text: str, frames: int, name: str = "prompt") -> Travel | None:
    """The travel that a prompt describes for a clip of ``frames`` frames; None if it describes none.

    Args:
        text: head lines, key lines, tail lines.
        frames: of the clip.
        name: what errors call the prompt.

    Raises:
        ClipError: a line is wrong; the message quotes it and says what to do.
    """
    if not is_travel(text):
        return None
    lines = text.split("\n")
    matches = [_key_match(line) for line in lines]
    head = next(number for number, match in enumerate(matches) if match)
    tail = next((n for n in range(head, len(lines)) if lines[n].strip() and not matches[n]), len(lines))
    written = [_Written(number, line, name) for number, line in enumerate(lines, 1)]
    keys = [_key(match, line, frames) for match, line in zip(matches[:tail], written, strict=False) if match]
    for match, line in zip(matches[tail:], written[tail:], strict=True):
        if match:
            raise line.refusal(
                f"it names a frame, but the lines after the frames have begun with line {tail + 1}, {written[tail]}. "
                "Put all frames side by side."
            )
    for line in written:
        ratio = _RATIO.match(line.line)
        if ratio and ratio["first"].isdigit() and int(ratio["first"]) < frames:
            raise line.refusal(
                "is this a frame, or a ratio such as 16:9? Put a blank behind the colon of a frame, or a comma before "
                "the line."
            )
    keys.sort(key=lambda key: key.first)
    _check_apart(keys, written)
    return Travel("\n".join(lines[:head]).strip(), "\n".join(lines[tail:]).strip(), tuple(keys), frames)


def with_styles(text: str, prefix: str, suffix: str) -> str:
    """A prompt with what a style puts before and after it.

    A travel takes both into its head and its tail, so that they reach every frame. Lines of a style that look like a
    frame's get a comma in front, which makes them ordinary text.
    """
    if not is_travel(text):
        return f"{prefix}{text}{suffix}"
    if prefix.strip():
        first = text.lstrip().partition("\n")[0]
        start = f"{prefix.rstrip()}\n" if _key_match(first) else prefix
        text = _without_keys(start + text, range(prefix.rstrip().count("\n") + 1))
    if suffix.strip():
        text = text.rstrip()
        lines = text.count("\n") + 1
        if _key_match(text.rpartition("\n")[2]):
            text, begin = f"{text}\n{suffix.lstrip(_SEPARATORS)}", lines
        else:
            text, begin = f"{text}{suffix}", lines - 1
        text = _without_keys(text, range(begin, text.count("\n") + 1))
    return text


def table(travel: Travel, blends: Sequence[Blend]) -> list[tuple[str, str]]:
    """A clip's prompts for reading: frames such as ``"1-7"``, and such as ``"spring -> summer, 12 % .. 88 %"``."""
    texts = {key.first: key.text for key in travel.keys}
    rows = []
    for (first, second), group in itertools.groupby(enumerate(blends), lambda item: (item[1].first, item[1].second)):
        run = list(group)
        (begin, former), (end, latter) = run[0], run[-1]
        told = texts[first]
        if second != first:
            shares = dict.fromkeys(f"{blend.weight:.0%}".replace("%", " %") for blend in (former, latter))
            told = f"{told} -> {texts[second]}, {' .. '.join(shares)}"
        rows.append((str(begin) if begin == end else f"{begin}-{end}", told))
    return rows


def joined(*pieces: str) -> str:
    """Pieces of a prompt as one, with the commas that are missing between them."""
    whole = ""
    for piece in pieces:
        following = piece.strip()
        if whole.endswith(","):
            following = following.lstrip(_SEPARATORS)
        if following:
            whole = f"{whole}{_between(whole, following)}{following}"
    return whole


def _between(former: str, following: str) -> str:
    if not former or _OPENS.search(former) or _CLOSES.match(following):
        return ""
    if former.endswith(",") or _PART_ENDS.search(former) or _PART_BEGINS.match(following):
        return " "
    return ", "


@dataclass(frozen=True)
class _Written:
    """A line of a prompt, for errors."""

    number: int
    line: str
    name: str

    def __str__(self) -> str:
        line = self.line.strip()
        return f'"{line}"' if len(line) <= _QUOTED_LENGTH else f'"{line[:_QUOTED_LENGTH]}..."'

    def refusal(self, why: str) -> ClipError:
        return ClipError(f"Line {self.number} of the {self.name}, {self}: {why}")


def _key_match(line: str) -> re.Match[str] | None:
    return None if _RATIO.match(line) else _KEY_LINE.match(line)


def _is_certain(match: re.Match[str]) -> bool:
    """`4 girls: ...` may be anything. Only beside other frames is it one whose word is wrong."""
    modifier = match["modifier"]
    return modifier is None or modifier.lower() in (HOLD, *EASINGS)


def _key(match: re.Match[str], line: _Written, frames: int) -> Key:
    first = _frame(match["first"], frames, line)
    last = first if match["last"] is None else _frame(match["last"], frames, line)
    if last < first:
        raise line.refusal(f"it runs backwards, from frame {first} to frame {last}. Write the earlier frame first.")
    modifier = (match["modifier"] or "").lower()
    if not _is_certain(match):
        raise line.refusal(f"after a frame stands {HOLD}, {', '.join(EASINGS)} or nothing, not {modifier}.")
    text = match["text"].strip()
    if not text:
        raise line.refusal("nothing follows the colon. Write there what the frame shows, or take the line out.")
    if tag := _NETWORK_TAG.search(text):
        raise line.refusal(
            f"{tag[0]} acts on the whole clip, not on a frame. Move it to a line before or after the frames."
        )
    return Key(first, last, text, modifier if modifier in EASINGS else None, modifier == HOLD, line.number, line.line)


def _frame(place: str, frames: int, line: _Written) -> int:
    try:
        return frame_at(place, frames)
    except ClipError as error:
        hint = "Change it, or put a comma before it if the line is not about a frame."
        raise line.refusal(f"{error} {hint}") from None


def _check_apart(keys: Sequence[Key], written: Sequence[_Written]) -> None:
    for former, following in itertools.pairwise(keys):
        if following.first <= former.last:
            first, second = sorted((former.line, following.line))
            raise written[second - 1].refusal(
                f"frame {following.first} has its prompt from line {first}, {written[first - 1]}, already. "
                "Give each frame one line."
            )


def _check(interpolation: str, easing: str, hold: float) -> None:
    if interpolation not in INTERPOLATIONS:
        raise ClipError(f"No interpolation {interpolation!r} of prompts. Use one of: {', '.join(INTERPOLATIONS)}.")
    if easing not in EASINGS:
        raise ClipError(f"No easing {easing!r}. Use one of: {', '.join(EASINGS)}.")
    if not 0 <= hold <= 1:
        raise ClipError(f"A prompt can hold for 0 to 1 of the way to the next one, not for {hold:g}.")


def _still(key: Key) -> Blend:
    return Blend(key.first, key.first, 0.0)


def _without_keys(text: str, those: range) -> str:
    """``text`` whose lines with these numbers are ordinary text."""
    lines = text.split("\n")
    return "\n".join(
        f", {line}" if n in those and (_key_match(line) or _RATIO.match(line)) else line for n, line in enumerate(lines)
    )
