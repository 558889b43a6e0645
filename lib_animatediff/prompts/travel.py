"""Prompt travel: a prompt with keyframes, and the prompt of each frame that follows from it.

    masterpiece, 1girl        head, precedes every frame's text
    0: spring                 keyframe
    8-11: (summer:1.2)        range of frames
    50% hold: autumn          relative position; the prompt stays constant until the next keyframe
    -1: winter                counted from the end
    best quality              tail, follows every frame's text

All other lines are ordinary text, including those such as `16:9`. The grammar is that of the existing extension, plus
percentages, ranges and modifiers.
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
from .tags import find_tag

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
    rf"\s*(?P<first>{PLACE})(?:\s*-\s*(?P<last>{PLACE}))?(?:\s+(?P<modifier>[^\W\d_][\w-]*))?\s*[:\uff1a](?P<text>.*)"
)
# `16:9 format`, but not `0:1girl` or `0:18 years old`
_RATIO = re.compile(r"\s*(?P<first>(?!0+:)[0-9.]{1,9}):[0-9]{1,9}(?![0-9]*[^\W\d])")
_QUOTED = re.compile(rf'\s*"(?P<place>{PLACE})"\s*:\s*"(?P<text>.*)"\s*,?\s*')  # as other programs write it, in JSON
_BRACE = re.compile(r"\s*[{}]\s*,?\s*")

_PART_BEGINS = re.compile(r"(?:AND|BREAK)\b")
_PART_ENDS = re.compile(r"\b(?:AND|BREAK)$")
_OPENS = re.compile(r"(?<!\\)[(\[|]$")  # a style may put brackets around a prompt
_CLOSES = re.compile(r"[)\]|:,]")

_SEPARATORS = ", \t\r\n"
_QUOTED_LENGTH = 60


@dataclass(frozen=True)
class Key:
    """A keyframe: one line of the prompt.

    Attributes:
        first, last: range of frames with this text, both included.
        text: text between head and tail.
        easing: easing of the transition to the next keyframe; None for the clip's easing.
        holds: whether the text stays constant until the next keyframe.
        line: line number in the prompt, from 1.
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
    """Sources of one frame: the conditionings of frames ``first`` and ``second``, the latter with ``weight`` 0 to 1.

    Both are first frames of keyframes. A frame with a single source has it as both, and ``weight`` 0.
    """

    first: int
    second: int
    weight: float


@dataclass(frozen=True)
class Travel:
    """A prompt whose middle part changes over ``frames`` frames; ``keys`` are sorted by frame."""

    head: str
    tail: str
    keys: tuple[Key, ...]
    frames: int

    def prompts(self) -> list[str]:
        """The complete prompt of each frame: that of its keyframe, or of the last one before it."""
        whole = [joined(self.head, key.text, self.tail) for key in self.keys]
        return [whole[max(self._key_before(frame), 0)] for frame in range(self.frames)]

    def blends(
        self, interpolation: str = "slerp", easing: str = "linear", hold: float = 0.0, closed: bool = False
    ) -> list[Blend]:
        """The sources of each frame.

        Args:
            interpolation: ``"step"`` keeps each prompt until the next keyframe; the others change it gradually.
            easing: easing of transitions whose keyframe names none.
            hold: share of each transition, 0 to 1, that passes before the prompt starts to change.
            closed: whether the last keyframe's prompt changes into the first one's across the end of the clip.

        Raises:
            ClipError: the interpolation or easing is unknown, or ``hold`` is outside 0 to 1.
        """
        _check(interpolation, easing, hold)

        def blend(frame: int) -> Blend:
            at = self._key_before(frame)
            is_outer = at < 0 or at == len(self.keys) - 1
            if is_outer and not closed:
                return _still(self.keys[max(at, 0)])
            former, following = self.keys[at], self.keys[(at + 1) % len(self.keys)]  # index -1 is the last keyframe
            if following is former or former.holds or interpolation == STEP or former.first <= frame <= former.last:
                return _still(former)
            gone = (frame - former.last) % self.frames
            distance = (following.first - former.last) % self.frames
            changing = max(gone / distance - hold, 0)
            weight = EASINGS[former.easing or easing](changing / (1 - hold)) if changing else 0.0
            return Blend(former.first, following.first, min(weight, 1.0)) if weight else _still(former)

        return [blend(frame) for frame in range(self.frames)]

    def _key_before(self, frame: int) -> int:
        """Index of the last keyframe that begins at or before ``frame``; -1 before the first one."""
        return bisect_right(self._firsts, frame) - 1

    @cached_property
    def _firsts(self) -> list[int]:
        return [key.first for key in self.keys]


def is_travel(text: str) -> bool:
    """Whether a prompt has a line that begins with a frame and a colon."""
    return any(match and _is_certain(match) for match in map(_key_match, _lines(text)))


def read_travel(text: str, frames: int, name: str = "prompt") -> Travel | None:
    """Parse the keyframes of a prompt; None if it has none.

    Args:
        text: the prompt.
        frames: number of frames of the clip.
        name: name of the prompt in messages.

    Raises:
        ClipError: a line is invalid; the message quotes it and states how to correct it.
    """
    lines = _lines(text)
    written = [_Written(number, line, name) for number, line in enumerate(lines, 1)]
    if not is_travel(text):
        _refuse_frames_like_ratios(written, frames)
        return None
    matches = [_key_match(line) for line in lines]
    head = next(number for number, match in enumerate(matches) if match)
    tail = next((n for n in range(head, len(lines)) if lines[n].strip() and not matches[n]), len(lines))
    keys = [_key(match, line, frames) for match, line in zip(matches[:tail], written, strict=False) if match]
    for match, line in zip(matches[tail:], written[tail:], strict=True):
        if match:
            raise line.refusal(
                f"this frame follows the ordinary text that begins in line {tail + 1}, {written[tail]}. "
                "Move it next to the other frames.",
                code="AD-P03",
            )
    for line in _like_ratios(written, frames):
        raise _frame_or_ratio(line)
    keys.sort(key=lambda key: key.first)
    _check_apart(keys, written)
    return Travel("\n".join(lines[:head]).strip(), "\n".join(lines[tail:]).strip(), tuple(keys), frames)


def with_styles(text: str, prefix: str, suffix: str) -> str:
    """Add a style's prefix and suffix to a prompt.

    With keyframes, they become part of head and tail, so that they apply to every frame. Lines of a style that look
    like keyframes get a leading comma, which makes them ordinary text.
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
    """Summary of a clip's prompts: frames such as ``"1-7"``, text such as ``"spring -> summer, 12 % .. 88 %"``."""
    texts = {key.first: key.text for key in travel.keys}
    rows = []
    for (first, second), group in itertools.groupby(enumerate(blends), lambda item: (item[1].first, item[1].second)):
        run = list(group)
        (begin, former), (end, latter) = run[0], run[-1]
        text = texts[first]
        if second != first:
            shares = dict.fromkeys(f"{blend.weight:.0%}".replace("%", " %") for blend in (former, latter))
            text = f"{text} -> {texts[second]}, {' .. '.join(shares)}"
        rows.append((str(begin) if begin == end else f"{begin}-{end}", text))
    return rows


def joined(*pieces: str) -> str:
    """Join parts of a prompt, adding commas where they are missing."""
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
    """A line of a prompt, for error messages."""

    number: int
    line: str
    name: str

    def __str__(self) -> str:
        line = self.line.strip()
        return f'"{line}"' if len(line) <= _QUOTED_LENGTH else f'"{line[:_QUOTED_LENGTH]}..."'

    def refusal(self, reason: str, *, code: str) -> ClipError:
        return ClipError(f"Line {self.number} of the {self.name}, {self}: {reason}", code=code)


def _lines(text: str) -> list[str]:
    """The lines of a prompt, with those of JSON, ``"8": "summer",``, as ours."""
    lines = text.split("\n")
    quoted = [_QUOTED.fullmatch(line) for line in lines]
    if not any(quoted):
        return lines
    ours = [f"{match['place']}: {match['text']}" if match else line for match, line in zip(quoted, lines, strict=True)]
    return [line for line in ours if not _BRACE.fullmatch(line)]


def _like_ratios(written: Sequence[_Written], frames: int) -> list[_Written]:
    """Lines such as ``8:60 years old``, which name a frame or begin with a ratio."""
    found = [(line, _RATIO.match(line.line)) for line in written]
    return [line for line, match in found if match and match["first"].isdigit() and int(match["first"]) < frames]


def _refuse_frames_like_ratios(written: Sequence[_Written], frames: int) -> None:
    """A prompt has one ratio at most; several such lines are meant as frames."""
    lines = _like_ratios(written, frames)
    if len({line.line.partition(":")[0].strip() for line in lines}) > 1:
        raise _frame_or_ratio(lines[0])


def _frame_or_ratio(line: _Written) -> ClipError:
    return line.refusal(
        "this may be a frame or a ratio such as 16:9. Write a space after the colon for a frame, or a comma "
        "in front of the line for a ratio.",
        code="AD-P04",
    )


def _key_match(line: str) -> re.Match[str] | None:
    return None if _RATIO.match(line) else _KEY_LINE.match(line)


def _is_certain(match: re.Match[str]) -> bool:
    """False for lines such as `4 girls: ...`, which are keyframes with a wrong modifier only if there are others."""
    modifier = match["modifier"]
    return modifier is None or modifier.lower() in (HOLD, *EASINGS)


def _key(match: re.Match[str], line: _Written, frames: int) -> Key:
    first = _frame(match["first"], frames, line)
    last = first if match["last"] is None else _frame(match["last"], frames, line)
    if last < first:
        raise line.refusal(
            f"the range runs backwards, from frame {first} to frame {last}. Write the earlier frame first.",
            code="AD-P05",
        )
    modifier = (match["modifier"] or "").lower()
    if not _is_certain(match):
        raise line.refusal(
            f"{modifier} is not a modifier. Write {HOLD}, {', '.join(EASINGS)} or nothing after the frame.",
            code="AD-P06",
        )
    text = match["text"].strip()
    if not text:
        raise line.refusal(
            "there is no text after the colon. Describe the frame there, or remove the line.", code="AD-P07"
        )
    if tag := find_tag(text):
        raise line.refusal(
            f"{tag} applies to the whole clip, not to one frame. Move it to a line before or after the frames.",
            code="AD-P08",
        )
    return Key(first, last, text, modifier if modifier in EASINGS else None, modifier == HOLD, line.number, line.line)


def _frame(place: str, frames: int, line: _Written) -> int:
    try:
        return frame_at(place, frames)
    except ClipError as error:
        hint = "Correct it, or write a comma in front of the line if it does not describe a frame."
        raise line.refusal(f"{error.message} {hint}", code=error.code) from None


def _check_apart(keys: Sequence[Key], written: Sequence[_Written]) -> None:
    for former, following in itertools.pairwise(keys):
        if following.first <= former.last:
            first, second = sorted((former.line, following.line))
            raise written[second - 1].refusal(
                f"frame {following.first} is already described by line {first}, {written[first - 1]}. "
                "Write one line per frame.",
                code="AD-P09",
            )


def _check(interpolation: str, easing: str, hold: float) -> None:
    if interpolation not in INTERPOLATIONS:
        raise ClipError(
            f"There is no interpolation {interpolation!r}. Choose one of: {', '.join(INTERPOLATIONS)}.", code="AD-P10"
        )
    if easing not in EASINGS:
        raise ClipError(f"There is no easing {easing!r}. Choose one of: {', '.join(EASINGS)}.", code="AD-P11")
    if not 0 <= hold <= 1:
        raise ClipError(f"The hold of a prompt travel must be between 0 and 1, not {hold:g}.", code="AD-P12")


def _still(key: Key) -> Blend:
    return Blend(key.first, key.first, 0.0)


def _without_keys(text: str, those: range) -> str:
    """Turn the lines with these indices into ordinary text."""
    lines = text.split("\n")
    return "\n".join(
        f", {line}" if n in those and (_key_match(line) or _RATIO.match(line)) else line for n, line in enumerate(lines)
    )
