"""The ControlNet extension during a clip: its units get their images, and each call of the UNet those of its rows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from lib_animatediff.engine.call import UNetCall, context_of, input_of
from lib_animatediff.engine.patching import patch_forward
from lib_animatediff.hosts.webui.compat import a1111, controlnet
from lib_animatediff.hosts.webui.compat.host_models import host_model
from lib_animatediff.request.effects import Note
from motion_module import ClipError, IncompatibleModelError

from .calls import (
    AmountsInCalls,
    ContextInCalls,
    EmbeddingsInCalls,
    Encode,
    HintsInCalls,
    InCalls,
    LiteInCalls,
    OneImageInCalls,
    follow_hints,
    weigh_attention,
    weigh_lite,
    weigh_residuals,
)
from .sources import UnitFrames, read_masks

_PREPARING = ("process", "before_process_batch")  # hooks in which the extension prepares a request
_INSTANT_ID = "InstantID"
_CONTROLNETS = ("ControlNet", "ControlNetUnion", "ControlLoRA", _INSTANT_ID)
_ADAPTER, _REFERENCE, _LITE, _IMAGE_PROMPT = "T2I_Adapter", "AttentionInjection", "Controlllite", "IPAdapter"
_WITH_FRAMES = (*_CONTROLNETS, _ADAPTER, _REFERENCE, _LITE, _IMAGE_PROMPT)
_WEIGHING = {
    **dict.fromkeys((*_CONTROLNETS, _ADAPTER), weigh_residuals),
    _LITE: weigh_lite,
    _IMAGE_PROMPT: weigh_attention,
}
_ON_LATENTS = ("colorfix", "inpaint_only")  # in the names of preprocessors
_SPARSE = "SparseCtrl"
_MASKED = 4  # channels of a hint with a mask
_INPAINTING = 9  # channels that the UNet of an inpainting checkpoint sees


class ControlOfClip:
    """The extension's units in one request; nothing happens without any.

    Attributes:
        notes: what the user should know about them.
    """

    def __init__(self, units: Sequence[UnitFrames] = ()) -> None:
        self._units = units
        self._reason = ""
        self.notes: list[Note] = [note for unit in units for note in unit.notes]

    def arguments(self, p: Any) -> Any:
        """The arguments of the request's scripts, in which units read one image per frame."""
        return controlnet.arguments_with(
            p,
            {
                unit.host.place: controlnet.with_frames(
                    unit.host, unit.read, unit.inpainted, are_embeddings=unit.has_embeddings
                )
                for unit in self._units
                if unit.read is not None and unit.count
            },
        )

    def hooks(self, p: Any) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
        """The hooks of the extension's script with what runs instead of each, while the rows are laid out."""
        script = controlnet.script_of(p)
        if script is not None and self._units:
            yield from ((script, name, self.noting) for name in _PREPARING if hasattr(script, name))

    def noting(self, prepare: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a hook of the extension's script, and note why it fails, which the WebUI only prints."""
        try:
            return prepare(*args, **kwargs)
        except Exception as error:
            self._reason = controlnet.reason(error)
            raise

    def refuse_failed(self, p: Any) -> None:
        """Refuse a clip without the control that is asked for.

        Raises:
            ClipError: an enabled unit controls nothing.
        """
        count = controlnet.failed_units(p)
        if count:
            units = "a unit that does" if count == 1 else f"{count} units that do"
            why = self._reason or "The console shows its error."
            names = ", ".join(f"unit {unit.host.number}: {unit.host.model}" for unit in self._units)
            raise ClipError(
                f"ControlNet has {units} not control this clip ({names}). {why} Correct the unit, or turn it off.",
                code="AD-H48",
            )

    @contextmanager
    def in_calls(self, p: Any, call: Callable[[], UNetCall | None]) -> Iterator[None]:
        """Inside, each call of the UNet has the hints and the weights of its rows. Enter it before the windows.

        Args:
            call: returns the call under way; None if no clip is rendered.

        Raises:
            ClipError: a unit cannot follow the frames.
        """
        network = controlnet.network_of(p)
        unet = host_model(p.sd_model).unet
        if not self._units or network is None:
            yield
            return
        if network.model is not unet:
            note = Note("ControlNet", "does not control the second pass, whose checkpoint is another one.")
            if note not in self.notes:  # of an earlier batch
                self.notes.append(note)
            yield
            return

        def encode(hints: Tensor) -> Tensor:
            with a1111.encoding_means():
                return network.call_vae_using_process(p, hints)  # type: ignore[no-any-return]

        with ExitStack() as undo:
            models: list[InCalls] = []
            before: Any = None
            for unit, param in self._paired(network):
                models += [*_in_calls(unit, param, unet, encode, undo), *_amounts(p, unit, param, unet, undo)]
                if param.control_model_type.name == _INSTANT_ID:
                    models.append(ContextInCalls(param, before.control_model))  # the extension checks that there is one
                before = param
            if models:
                undo.enter_context(patch_forward(unet, functools.partial(_prepared, models, call)))
            yield

    def _paired(self, network: Any) -> Iterator[tuple[UnitFrames, Any]]:
        """Each model's unit and parameters."""
        acting, each = list(network.control_params), self._of_models()
        if len(each) != len(acting):
            raise ClipError(
                f"ControlNet has {len(acting)} models for {len(each)} units: another extension has changed them. "
                "Disable that one, or ControlNet.",
                code="AD-H49",
            )
        return zip(each, acting, strict=True)

    def _of_models(self) -> list[UnitFrames]:
        """The unit of each model that acts. A unit that merges images has several."""
        return [unit for unit in self._units for _ in range(1 if unit.count else unit.host.count)]


def _prepared(
    models: Sequence[InCalls],
    under_way: Callable[[], UNetCall | None],
    forward: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Runs instead of the UNet's forward."""
    call = under_way()
    if call is not None:
        x, context = input_of(args, kwargs), context_of(args, kwargs)
        for model in models:
            model.before_call(call, x, context)
    return forward(*args, **kwargs)


def _in_calls(unit: UnitFrames, param: Any, unet: Any, encode: Encode, undo: ExitStack) -> list[InCalls]:
    """The parts of a model that follow the calls of the UNet, until ``undo``.

    Raises:
        ClipError: the model cannot have an image or a weight for each frame.
    """
    kind, number = param.control_model_type.name, unit.host.number
    has_frames = unit.count > 1
    name, preparation = f"ControlNet unit {number} ({unit.host.model})", str(param.preprocessor["name"])
    if type(getattr(param.control_model, "control_model", None)).__name__ == _SPARSE:
        raise IncompatibleModelError(
            f"{name} is a SparseCtrl, whose rows the extension lays out for one call. Turn the unit off, and choose "
            "the file as sparse_ctrl of AnimateDiff.",
            code="AD-H50",
        )
    if kind == _IMAGE_PROMPT and not isinstance(param.hint_cond, (list, tuple)):  # one that the extension joins
        kind = preparation if has_frames else kind
    if has_frames and kind not in _WITH_FRAMES:
        raise ClipError(
            f"{name} is of the kind {kind}, which cannot have one image per frame here. Give it one image for all "
            "frames, or turn it off.",
            code="AD-H51",
        )
    compares = _compares(kind, preparation)
    found: list[InCalls] = []
    if kind == _IMAGE_PROMPT:
        embeddings = EmbeddingsInCalls(param, list(param.hint_cond) if has_frames else None)
        undo.callback(embeddings.close)
        found.append(embeddings)
    elif kind == _LITE:
        found += [LiteInCalls(_checked(unit, param, name), unit.count)] if has_frames else []
    elif has_frames:
        _checked(unit, param, name)
        if param.hint_cond.shape[1] == _MASKED and unet.in_channels == _INPAINTING:
            raise ClipError(
                f"{name} has one image per frame and a mask, which an inpainting checkpoint cannot follow. Choose "
                "another checkpoint, or one image for all frames.",
                code="AD-H53",
            )
        hints = HintsInCalls(param, unit.count, encode if compares else None)
        undo.callback(hints.close)
        found.append(hints)
    elif compares:
        found.append(OneImageInCalls(param))
    if kind == _ADAPTER:
        follow_hints(param, unet, undo, has_frames=has_frames)
    return found


def _amounts(p: Any, unit: UnitFrames, param: Any, unet: Any, undo: ExitStack) -> list[InCalls]:
    """What lets a model act on each frame by its weight, its steps and its mask, until ``undo``.

    Raises:
        ClipError: the model acts on all frames alike.
        AnimateDiffError: a mask cannot be read.
    """
    if not unit.has_amounts:
        return []
    kind, preparation = param.control_model_type.name, str(param.preprocessor["name"])
    if kind not in _WEIGHING or _compares(kind, preparation):
        raise ClipError(
            f"ControlNet unit {unit.host.number} ({unit.host.model}, {preparation or kind}) acts on all frames alike. "
            "Clear control_weight, control_start, control_end and control_masks for it, or turn the unit off.",
            code="AD-H52",
        )
    masks = read_masks(unit, (p.width, p.height))
    return [AmountsInCalls(unit, masks, lambda: controlnet.reached(unet), _WEIGHING[kind](param, undo))]


def _compares(kind: str, preparation: str) -> bool:
    """Whether a model compares latents of its image with those of the clip."""
    return kind == _REFERENCE or any(part in preparation for part in _ON_LATENTS)


def _checked(unit: UnitFrames, param: Any, name: str) -> Any:
    """The parameters of a model, whose hints are those of the frames.

    Raises:
        ClipError: the extension has made another number of hints.
    """
    hints = param.hint_cond
    if not isinstance(hints, Tensor) or len(hints) not in (unit.count, 2 * unit.count):
        made = len(hints) if isinstance(hints, Tensor) else "no"
        raise ClipError(
            f"{name} has {made} hints for {unit.count} images. Update the extension sd-webui-controlnet.", code="AD-H54"
        )
    return param
