"""The extension sd-webui-controlnet beside us: its units and what it holds during a request, by the names of its 1.1.

Nothing of it is imported. Its script is one of the request's, and its modules are looked up among those that are
loaded. The names that are used stand in ``tests/support/webui_real/contract.py``.
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from lib_animatediff.engine.patching import patch_forward
from motion_module import ClipError

from . import a1111

if TYPE_CHECKING:
    from PIL.Image import Image

    from lib_animatediff.video.fitting import Size

_log = logging.getLogger(__name__)

_TITLE = "controlnet"
_UNITS_MODULE = "internal_controlnet.external_code"  # knows how a client's dictionary becomes a unit
_CACHES = ("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc")  # of p, each with a key and its conditions
_BEFORE_SAMPLING = -1.0  # as the share of the steps at which adapters in the attention ask whether they act


@dataclass(frozen=True)
class HostUnit:
    """An enabled unit.

    Attributes:
        number: as its tab in the panel is numbered, from 0.
        place: among the arguments of the request's scripts.
        unit: the extension's object.
    """

    number: int
    place: int
    unit: Any

    @property
    def model(self) -> str:
        """The name of its model, or of its preprocessor if it has none."""
        name = str(self.unit.model)
        return str(self.unit.module) if name.lower() == "none" else name

    @property
    def has_image(self) -> bool:
        """Whether it has images of its own."""
        return self.unit.image is not None or self.unit.ipadapter_input is not None

    @property
    def folder(self) -> str:
        """Its own folder of images, one per frame; empty if it has none."""
        unit = self.unit
        asks = bool(unit.animatediff_batch) or unit.input_mode is type(unit.input_mode).BATCH
        given = unit.batch_images if asks else None
        return given.partition("\n")[0].strip() if isinstance(given, str) else ""

    @property
    def listed(self) -> list[Any]:
        """Its own images or embeddings, one per frame; empty if there is one or none, or if they are averaged."""
        unit = self.unit
        if _merges_inputs(unit) and not unit.animatediff_batch:
            return []
        if unit.ipadapter_input is not None:
            return list(unit.ipadapter_input) if len(unit.ipadapter_input) > 1 else []
        given = unit.image
        if self.is_merged or not isinstance(given, list) or len(given) < 2 or not isinstance(given[0], dict):
            return []
        return [type(unit).parse_image(one["image"]) for one in given]

    @property
    def gallery(self) -> list[str]:
        """The files of its own images, one per frame; the extension has none of these."""
        return []

    @property
    def is_merged(self) -> bool:
        """Whether its images are parts of one hint."""
        return self.unit.input_mode is type(self.unit.input_mode).MERGE

    @property
    def count(self) -> int:
        """How many models act for it: one for each image that is merged."""
        merges = self.is_merged and not self.unit.is_ipadapter and isinstance(self.unit.image, list)
        return len(self.unit.image) if merges else 1

    @property
    def preprocessor(self) -> str:
        """The name of what makes hints of its images."""
        return str(self.unit.module)

    @property
    def has_embeddings(self) -> bool:
        """Whether it has embeddings instead of images."""
        return self.unit.ipadapter_input is not None

    @property
    def inpaints(self) -> bool:
        """Whether it needs masks of where to paint."""
        return bool(self.unit.is_inpaint)

    @property
    def has_mask(self) -> bool:
        """Whether it has one mask."""
        return self.unit.mask is not None

    @property
    def folder_of_masks(self) -> Path | None:
        """Its own folder of masks; None if it has none."""
        given = self.unit.batch_mask_dir
        return Path(given) if isinstance(given, str) and given else None


def enabled_units(p: Any) -> list[HostUnit]:
    """The enabled units of a request.

    Raises:
        ClipError: the extension does not accept a unit, such as one with an unknown model.
    """
    script, offered = any_script(p), sys.modules.get(_UNITS_MODULE)
    if script is None or offered is None:
        return []
    found = []
    for number, given in enumerate(arguments_of(p, script)):
        if not is_enabled(given):
            continue
        try:
            unit = offered.to_processing_unit(given)
        except Exception as error:
            raise ClipError(
                f"ControlNet does not accept unit {number}: {_plain(error)} Correct the unit, or turn it off.",
                code="AD-H46",
            ) from error
        found.append(HostUnit(number, script.args_from + number, unit))
    return found


def with_frames(
    host: HostUnit,
    read: Callable[[], Sequence[Any]],
    masks: Callable[[Sequence[Size]], Sequence[Image]] | None = None,
    *,
    are_embeddings: bool = False,
) -> Any:
    """A copy of a unit that reads one image or embedding per frame.

    The extension prepares them one by one, and shows none of them in the reply.

    Args:
        read: returns the images, RGB, or the embeddings. An IP-Adapter's are read at once, and others when the
            extension prepares the request.
        masks: returns a mask for each image, of these sizes; None: it has a folder of masks, or needs none.
        are_embeddings: whether they are embeddings instead of images.
    """
    unit = host.unit
    same: dict[str, Any] = {"input_mode": type(unit.input_mode).SIMPLE, "mask": None, "save_detected_map": False}
    given = list(read()) if are_embeddings else None
    same |= {"image": None, "ipadapter_input": given, "animatediff_batch": False}
    if are_embeddings:
        return unit.copy(update=same)
    if unit.is_ipadapter:  # it accepts a list, and keeps what it makes of each
        return unit.copy(update={**same, "image": [{"image": array_of(one), "mask": None} for one in read()]})
    folder = None if masks is None else Path(tempfile.mkdtemp(prefix="animatediff-masks-"))

    def arrays(_files: object, _p: object) -> list[Any]:
        made = [array_of(image) for image in read()]
        if masks is not None and folder is not None:  # it reads masks from a folder only
            sizes = [(image.shape[1], image.shape[0]) for image in made]
            for number, mask in enumerate(masks(sizes)):
                mask.save(folder / f"{number:06}.png")
        return made

    if folder is not None:
        same["batch_mask_dir"] = str(folder)
        weakref.finalize(arrays, shutil.rmtree, folder, ignore_errors=True)
    return unit.copy(
        update={
            **same,
            "animatediff_batch": True,
            "batch_images": str(a1111.models_folder()),  # a folder that exists, whose files are not looked at
            "batch_modifiers": [arrays],
        }
    )


def arguments_with(p: Any, units: Mapping[int, Any]) -> Any:
    """The arguments of the request's scripts with other units, by their place."""
    given = list(p.script_args)
    for place, unit in units.items():
        given[place] = unit
    return type(p.script_args)(given)


def arguments_without(p: Any) -> Any:
    """The arguments of the request's scripts with all units turned off."""
    script = any_script(p)
    if script is None:
        return p.script_args
    places = range(script.args_from, min(script.args_to, len(p.script_args)))
    return arguments_with(p, {place: {"enabled": False} for place in places if is_enabled(p.script_args[place])})


# ---- during a request


def script_of(p: Any) -> Any:
    """The extension's script of a request; None without it."""
    script = any_script(p)
    return script if script is not None and hasattr(script, "latest_network") else None


def network_of(p: Any) -> Any:
    """What controls the UNet of a request; None if nothing does."""
    network = getattr(any_script(p), "latest_network", None)
    return network if getattr(network, "control_params", None) else None


def is_shared_out(p: Any) -> bool:
    """Whether the extension gives each row of a batch to another unit, which knows nothing of frames."""
    state = getattr(any_script(p), "ui_batch_option_state", None)
    return state is not None and str(state[0]).lower().startswith("each")


def failed_units(p: Any) -> int:
    """Number of enabled units that control nothing, since the extension's preparation failed, which it only prints."""
    script = script_of(p)
    if script is None:
        return 0
    enabled = sum(map(is_enabled, arguments_of(p, script)))
    acting = len(getattr(script.latest_network, "control_params", None) or [])
    return max(enabled - acting, 0)


def reach(p: Any, call: int, calls: int) -> None:
    """Let each unit act or not, by its own start and end, as in a call of a sampler's denoiser.

    While a sampler runs, the extension does so itself, by the WebUI's count of the steps that are done before the one
    under way.

    Args:
        call: its number, from 0.
        calls: of the run.
    """
    network = network_of(p)
    if network is not None:
        place = SimpleNamespace(sampling_step=max(call - 1, 0), total_sampling_steps=calls)
        network.guidance_schedule_handler(place)


def reached(unet: Any) -> float:
    """The share of the steps that is completed, as the extension notes it before a call of the denoiser."""
    return float(getattr(unet, "current_sampling_percent", 0.0))


def forget_conditions(p: Any) -> None:
    """Let the WebUI encode the prompts of a batch, also if ``p`` has their conditions of an earlier batch or run.

    The extension marks conditions in place, so that the marks stay in the cache of ``p``. A UNet call without the
    extension would take a mark for a token.
    """
    if any_script(p) is None:
        return
    for name in _CACHES:
        if hasattr(p, name):
            setattr(p, name, [None, None])


@contextmanager
def switched_off(p: Any) -> Iterator[None]:
    """Inside, calls of the UNet are those of the checkpoint alone."""
    network = network_of(p)
    if network is None:
        yield
        return
    unet = network.model
    with ExitStack() as span:
        former = vars(unet).get("current_sampling_percent")
        unet.current_sampling_percent = _BEFORE_SAMPLING
        span.callback(_put_back, unet, "current_sampling_percent", former)
        span.enter_context(
            patch_forward(unet, lambda _forward, args, kwargs: network.original_forward(*args, **kwargs))
        )
        yield


def release(p: Any) -> None:
    """Remove the extension from the UNet after a failure.

    It would only do so in ``postprocess``, which the WebUI skips after an exception, and would control the images of
    the other tab's next request. What it does to finished images would even change those of a request without units.
    """
    script = any_script(p)
    network = getattr(script, "latest_network", None)
    if network is None:
        return
    try:
        network.restore()
    except Exception:  # the sampling's own error is the one to show
        _log.warning("AnimateDiff could not remove ControlNet from the UNet.", exc_info=True)
    finally:
        script.latest_network, script.post_processors = None, []


def _put_back(owner: Any, name: str, former: Any) -> None:
    if former is None:
        delattr(owner, name)
    else:
        setattr(owner, name, former)


def _merges_inputs(unit: Any) -> bool:
    """Whether the extension averages several images or embeddings of a unit.

    It does so with embeddings for the face of an InstantID, too, whose preprocessor is not one of an IP-Adapter.
    """
    return bool(unit.is_ipadapter) or unit.ipadapter_input is not None


def any_script(p: Any) -> Any:
    """The script of ControlNet in a request, whichever it is; None without one."""
    return next((script for script in a1111.scripts_of(p) if a1111.title_of(script) == _TITLE), None)


def arguments_of(p: Any, script: Any) -> Sequence[Any]:
    """The arguments of a script in a request."""
    return p.script_args[script.args_from : script.args_to]  # type: ignore[no-any-return]


def is_enabled(unit: Any) -> bool:
    """Whether a unit, an object or an API client's dictionary, is enabled."""
    if isinstance(unit, dict):
        return bool(unit.get("enabled", False))
    return bool(getattr(unit, "enabled", False))


def array_of(image: Image | Any) -> Any:
    """An image as the extension takes it: an array ``h w c`` with 8 bits."""
    import numpy

    return numpy.array(image)


def _plain(error: Exception) -> str:
    """An error of the extension in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text[:200].rstrip('.')}."


def reason(error: Exception) -> str:
    """The reason why the extension has failed, in one sentence."""
    return _plain(error)
