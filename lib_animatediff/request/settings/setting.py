"""What the settings table knows of each setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

KEY = "setting"  # of a field's metadata
LONGEST_HELP = 160
PROMPTS = "Prompts over time"
VIDEO_IN = "Video in"
START_FROM = "Start from"
GUIDES = "SparseCtrl, PIA and I2V"
CAMERA = "Camera"
CONTROLNET = "ControlNet"
MOTION = "Motion"
WINDOWS = "Long clips"
SPEED = "Speed"
NOISE = "Noise"
OUTPUT = "Output"
ADVANCED = "Advanced"
SPEEDS = AS_SET, FAST = "as set", "fast"
GROUPS = (PROMPTS, VIDEO_IN, START_FROM, GUIDES, CAMERA, CONTROLNET, MOTION, WINDOWS, SPEED, NOISE, OUTPUT, ADVANCED)
LONGEST_CLIP = 10_000  # frames


@dataclass(frozen=True)
class Setting:
    """One parameter of a clip.

    Attributes:
        name: canonical name.
        aliases: other names that clients and saved images use; see `lib_animatediff.request.compat`.
        type: ``bool``, ``int``, ``float``, ``str``, or ``tuple`` for several of the choices.
        default: value of a setting that is not given.
        label: name in the panel: a noun that users search for.
        help: what the setting changes in the clip, at most `LONGEST_HELP` characters: two lines of the panel.
        minimum, maximum: limits of a number, both included.
        choices: allowed values of a string; empty allows any.
        suggestions: values to choose from, of a string that may have others.
        meanings: what each of the choices does, if their names do not say it.
        in_panel: whether the accordion shows the setting.
        group: heading of the panel's fold that holds the setting, see `GROUPS`; empty for what is always in view.
        omit_default: leave this setting out of the infotext when it has its default value.
        accepts_numbers: a string setting that also accepts a number or a list of numbers.
        parse: checks a string and returns the form to store; raises ClipError.
        image: whether the string holds an image as base64.
    """

    name: str
    type: type
    default: Any
    label: str
    help: str
    aliases: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()
    in_panel: bool = True
    group: str = ""
    omit_default: bool = False
    accepts_numbers: bool = False
    parse: Callable[[str], str] | None = None
    image: bool = False
    meanings: Mapping[str, str] = field(default_factory=dict)

    @property
    def full_help(self) -> str:
        """The help with the meanings of the choices."""
        return " ".join([self.help, *(f"{choice}: {meaning}." for choice, meaning in self.meanings.items())])


def setting(default: Any, label: str, help: str, **limits: Any) -> Any:
    """A field of the table."""
    return field(default=default, metadata={KEY: {"label": label, "help": help, **limits}})


def further(default: Any, label: str, help: str, group: str, **limits: Any) -> Any:
    """A field in a fold of the panel, whose default value is left out of the infotext."""
    return setting(default, label, help, group=group, omit_default=True, **limits)


def checked_by(parser: Callable[[str], Any]) -> Callable[[str], str]:
    """A check of a text with a grammar, which stays as it is but for spaces around it."""

    def checked(text: str) -> str:
        parser(text)
        return text.strip()

    return checked


def by_group(settings: Iterable[Setting]) -> dict[str, list[Setting]]:
    """Settings by the heading of their fold, in the order of the panel: first "", then `GROUPS`, then others."""
    found: dict[str, list[Setting]] = {group: [] for group in ("", *GROUPS)}
    for each in settings:
        found.setdefault(each.group, []).append(each)
    return {group: members for group, members in found.items() if members}
