"""A clip that is not finished: the state of its sampling, in a file beside that of the clip.

The file is replaced atomically after steps, as often as 2 % of the time allow, and removed when the clip is written. It
is the user's own and stays on the machine, so that it may contain paths, which recipes do not. It is read as a file
from a stranger all the same: nothing else tells the two apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.hosts.diffusers.start.resuming import SamplingState
from lib_animatediff.video import Recipe
from lib_animatediff.video.atomic import atomic_file, plain_reason
from motion_module import ClipError
from motion_module.files.weights import are_weights, read_payload
from motion_module.limits import is_file

from .many.finished import job_id

SUFFIX = ".animatediff-state"
MOST_TIME = 0.02  # share of the time since the clip was begun that may pass with keeping states
FIRST_SECONDS = 0.02  # that the first state is expected to take; the others as long as the one before
MOST_BYTES = 2 * 2**30  # of the states in a folder, of which the oldest are removed
OLDEST = 30 * 24 * 3600.0  # seconds, after which a state is removed
_FORMAT = 1  # of the file


@dataclass(frozen=True)
class ClipIdentity:
    """What must be the same where the sampling of a clip goes on.

    Attributes:
        job: of the recipe, see `job_id`.
        versions: of the libraries, by name.
        device: its kind, such as cuda.
    """

    job: str
    versions: Mapping[str, str | None]
    device: str

    def check(self, path: Path, now: ClipIdentity) -> None:
        """Refuse to go on with another clip than that of a state.

        Raises:
            ClipError: it says what differs.
        """
        if self.job != now.job:
            raise ClipError(
                f"{path} is the state of another clip: a setting or a model file differs. Restore the file, or render "
                "the clip from its beginning with animate.",
                code="AD-J04",
            )
        others = [f"{name} {number}" for name, number in self.versions.items() if now.versions.get(name) != number]
        if self.device != now.device:
            others.append(f"the device {self.device}")
        if others:
            raise ClipError(
                f"{path} was written with {', '.join(others)}, and only the same would continue the same clip. Use it, "
                "or render the clip from its beginning with animate.",
                code="AD-J05",
            )


def identity_of(recipe: Recipe, device: str) -> ClipIdentity:
    """The identity of the clip with a recipe, on a device."""
    data = recipe.data or {}
    return ClipIdentity(job_id(data), dict(data.get("versions", {})), torch.device(device).type)


@dataclass(frozen=True)
class StoredState:
    """The content of a state's file.

    Attributes:
        words: the options of `animate` that ask for the clip.
        folder: in which the command was given, where its paths start.
    """

    identity: ClipIdentity
    words: tuple[str, ...]
    folder: Path
    state: SamplingState


def state_path(output: Path) -> Path:
    """The file of the state of a clip, beside the clip's own; the path of a state is its own."""
    return output if output.name.endswith(SUFFIX) else output.parent / f"{output.name}{SUFFIX}"


class UnfinishedClip:
    """Keeps the states of one clip. See `StateKeeper`.

    Args:
        output: file of the clip.
        identity: of the clip.
        words, folder: as of `StoredState`.
        found: the state from which it goes on.
        say: called with a line if states cannot be kept.
        now: seconds, of a clock that only goes forward.
    """

    def __init__(
        self,
        output: Path,
        identity: ClipIdentity,
        words: Iterable[str],
        folder: Path,
        *,
        found: SamplingState | None = None,
        say: Callable[[str], None] = lambda _line: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path, self.found = state_path(output), found
        self._identity, self._words, self._folder = identity, tuple(words), folder
        self._say, self._now = say, now
        self._begun, self._spent, self._expected = now(), 0.0, FIRST_SECONDS
        self._is_broken = False
        self.is_kept = found is not None  # whether the file has a state of this clip

    def is_due(self) -> bool:
        """Whether the next state takes no more than its share of the time."""
        return not self._is_broken and self._spent + self._expected <= MOST_TIME * (self._now() - self._begun)

    def keep(self, state: SamplingState) -> None:
        """Write a state. If that is impossible, a line says so, and the clip is rendered without."""
        begun = self._now()
        try:
            if self._spent == 0:
                _remove_old(self.path)
            with atomic_file(self.path) as part:
                torch.save(self._content(state), part)
            self.is_kept = True
        except (OSError, RuntimeError) as error:  # torch raises both for a full disk
            self._is_broken = True
            self.remove()
            self._say(
                f"The clip cannot be resumed if it is interrupted: its state was not written ({plain_reason(error)})."
            )
        self._expected = self._now() - begun
        self._spent += self._expected

    def remove(self) -> None:
        """Remove the state, since the clip is written."""
        self.is_kept = False
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _content(self, state: SamplingState) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "identity": {**asdict(self._identity), "versions": dict(self._identity.versions)},
            "words": list(self._words),
            "folder": str(self._folder),
            "state": {name: getattr(state, name) for name in _STATE},
        }


_STATE: dict[str, type | tuple[type, ...]] = {  # fields of a state, with what a file must have there
    "sampled": int,
    "run": int,
    "step": int,
    "latents": Tensor,
    "first": (Tensor, type(None)),
    "generators": Tensor,
    "scheduler": dict,
    "numbers": list,
}


def read_state(path: Path) -> StoredState:
    """Read the state of a clip.

    Raises:
        ClipError: there is none, it is damaged, or another version wrote it.
    """
    if not is_file(path):
        raise ClipError(
            f"There is no {path}: the clip is finished, or was interrupted before its first state. Render it with "
            "animate.",
            code="AD-J03",
        )
    try:
        content = read_payload(path)
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r:.20}")
        return _stored(content)
    except Exception as error:  # a damaged file can raise anything
        raise ClipError(
            f"{path} is damaged, or another version of AnimateDiff wrote it. Render the clip from its beginning with "
            "animate.",
            code="AD-J06",
        ) from error


def _stored(content: Mapping[str, Any]) -> StoredState:
    fields = content["state"]
    if not all(isinstance(fields[name], kind) for name, kind in _STATE.items()):
        raise TypeError("state")
    lists = (value if isinstance(value, list) else [value] for value in fields["scheduler"].values())
    tensors = fields["latents"], fields["first"], fields["generators"]
    if not all(map(_is_plain, chain(fields["scheduler"], *lists, tensors))):
        raise TypeError("values")
    if not all(map(_is_plain, chain(*((*timesteps, number) for timesteps, number in fields["numbers"])))):
        raise TypeError("numbers")
    state = SamplingState(**{name: fields[name] for name in _STATE})
    latents = [state.latents, *([] if state.first is None else [state.first])]
    if not all(tensor.dim() == len("fchw") and are_weights(tensor) for tensor in latents):
        raise ValueError("latents")
    if len(state.generators) != len(state.latents) or min(state.sampled, state.run, state.step) < 0:
        raise ValueError("steps")
    for own in state.generators:
        torch.Generator().set_state(own.clone())  # which checks it
    words = tuple(content["words"])
    if not all(isinstance(word, str) for word in words):
        raise TypeError("words")
    return StoredState(_identity_in(content["identity"]), words, Path(content["folder"]), state)


def _identity_in(fields: Mapping[str, Any]) -> ClipIdentity:
    versions = fields["versions"]
    if not all(isinstance(word, str) for word in (*versions, fields["job"], fields["device"])):
        raise TypeError("identity")
    return ClipIdentity(fields["job"], dict(versions), fields["device"])


def _is_plain(value: Any) -> bool:
    """Whether a value takes no more memory than it does in the file, unlike nested lists and views of a tensor."""
    if isinstance(value, Tensor):
        return value.is_contiguous()
    return value is None or isinstance(value, (bool, int, float, str))


def found_state(output: Path, identity: ClipIdentity) -> SamplingState | None:
    """The state of this very clip, if there is one. Any other is left to be replaced."""
    with suppress(ClipError):
        path = state_path(output)
        stored = read_state(path)
        stored.identity.check(path, identity)
        return stored.state
    return None


def _remove_old(own: Path) -> None:
    """Remove states in the folder of a state that are old, or too large together. Failing is no error."""
    with suppress(OSError):
        others = [path for path in own.parent.glob(f"*{SUFFIX}") if path != own and path.is_file()]
        by_age = sorted(((path.stat(), path) for path in others), key=lambda one: -one[0].st_mtime)
        total = 0
        for status, path in by_age:
            total += status.st_size
            if total > MOST_BYTES or time.time() - status.st_mtime > OLDEST:
                path.unlink(missing_ok=True)
