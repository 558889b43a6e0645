"""The methods that make a batch of images a clip: motion modules, or Text2Video-Zero, which needs no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Protocol

from lib_animatediff.engine.context_windows import Chunks, ContextWindows
from lib_animatediff.engine.motion_scale import MotionScale
from lib_animatediff.sampling.text2video_zero import NAME, Text2VideoZero

from .loras import LoraFile, parse_loras
from .settings import (
    ClipSettings,
    motion_scale,
    refuse_with_text2video_zero,
    refuse_without_module,
    text2video_zero,
)

WITHOUT_FILE = {  # by name: what the panel says about it
    NAME: f"{NAME} shifts the whole image by the same amount in every frame, on any checkpoint. Nothing in the image "
    "moves by itself. For that, choose a motion module."
}


class FileCatalog(Protocol):
    """The user's files by the names that settings give."""

    def find_motion(self, name: str) -> Path:
        """The motion module file of this name.

        Raises:
            MotionFileError: there is none.
        """

    def find_lora(self, name: str) -> Path:
        """The motion LoRA or domain adapter file of this name.

        Raises:
            AnimateDiffError: there is none.
        """

    def find_rife(self, name: str) -> Path:
        """The file with the weights of RIFE of this name.

        Raises:
            AnimateDiffError: there is none.
        """


@dataclass(frozen=True)
class ModuleFile:
    """A motion module file.

    Attributes:
        kind: of the motion module, where its file cannot say.
        effect, scale: of this module alone, for a second and further one; the first has what the settings say.
    """

    path: Path
    kind: str | None = None
    effect: float = 1.0
    scale: float = 1.0


@dataclass(frozen=True)
class ModuleMethod:
    """Motion modules in the UNet.

    Attributes:
        name: of the first motion module, as the settings give it.
        modules: the motion modules, in the order in which they act; empty where the caller has loaded them.
        loras: motion LoRAs and domain adapters.
        scale: scale and effect of the motion; None: as trained.
        any_base: whether it works on UNets for which there are no motion modules.
    """

    name: str
    modules: tuple[ModuleFile, ...] = ()
    loras: tuple[LoraFile, ...] = ()
    scale: MotionScale | None = field(default=None, compare=False)
    any_base: ClassVar[bool] = False

    def cut(self, windows: ContextWindows) -> ContextWindows:
        """The context windows themselves."""
        return windows

    def with_files(self, modules: Sequence[ModuleFile], loras: Sequence[LoraFile]) -> ModuleMethod:
        """The method with these files."""
        return replace(self, modules=tuple(modules), loras=tuple(loras))


@dataclass(frozen=True)
class Text2VideoZeroMethod:
    """Text2Video-Zero: no motion module, frames that begin from a shifted frame 0."""

    text2video_zero: Text2VideoZero = field(compare=False)
    name: str = NAME
    modules: tuple[ModuleFile, ...] = ()
    loras: tuple[LoraFile, ...] = ()
    any_base: ClassVar[bool] = True

    def cut(self, windows: ContextWindows) -> Chunks:
        """Chunks with frame 0 in front, which give what one call gives."""
        return Chunks(windows.length)

    def with_files(self, modules: Sequence[ModuleFile], loras: Sequence[LoraFile]) -> Text2VideoZeroMethod:
        """Itself: the first name stands for no file.

        Raises:
            ClipError: there are motion LoRAs or further motion modules.
        """
        refuse_without_module([*["motion_loras"] * bool(loras), *["further motion modules"] * (len(modules) > 1)])
        return self


Method = ModuleMethod | Text2VideoZeroMethod


def name_without_file(name: str) -> str | None:
    """The method's own name where ``name`` means one that needs no file; None for the name of a file."""
    return next((known for known in WITHOUT_FILE if known.lower() == name.strip().lower()), None)


def method_of(settings: ClipSettings, files: FileCatalog | None) -> Method:
    """The method that the settings ask for.

    Args:
        files: the user's files; None: the caller has loaded them.

    Raises:
        AnimateDiffError: a setting needs a motion module, a file is missing, or a text of the settings is wrong.
    """
    if name_without_file(settings.model) == NAME:
        refuse_with_text2video_zero(settings)
        return Text2VideoZeroMethod(text2video_zero(settings))
    loras = parse_loras(settings.motion_loras)
    return ModuleMethod(
        name=settings.model,
        modules=() if files is None else (ModuleFile(files.find_motion(settings.model)),),
        loras=() if files is None else tuple(LoraFile(files.find_lora(lora.name), lora.strength) for lora in loras),
        scale=MotionScale(effect=(0.0,)) if settings.preview else motion_scale(settings),
    )
