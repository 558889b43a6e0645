"""One request that is being animated, from the WebUI's ``before_process`` to its ``postprocess``."""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from lib_animatediff.engine.patching import restore
from lib_animatediff.hosts.webui.catalog.files import Caches
from lib_animatediff.hosts.webui.clip import motion_module, text2video_zero  # noqa: F401 - each registers its method
from lib_animatediff.hosts.webui.clip.control.units import ControlOfClip
from lib_animatediff.hosts.webui.clip.guides.loaded import GuidedClip
from lib_animatediff.hosts.webui.clip.loras import ClipLoras
from lib_animatediff.hosts.webui.clip.methods import clip_method
from lib_animatediff.hosts.webui.clip.prompts import ClipPrompts
from lib_animatediff.hosts.webui.clip.start.inverted import InvertedVideo
from lib_animatediff.hosts.webui.clip.start.pinned import PinnedImages
from lib_animatediff.hosts.webui.clip.start.video import FirstFrames, one_image
from lib_animatediff.hosts.webui.clip.unfinished.request import UnfinishedClips
from lib_animatediff.hosts.webui.compat import a1111, controlnet
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.hosts.webui.compat.errors import as_http_422, keep_for_page
from lib_animatediff.request.control.colours import colour_match
from lib_animatediff.request.effects import Note
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.start.kept import kept_pixels
from lib_animatediff.request.start.taken_over import ClipSource
from lib_animatediff.video.fitting import Size

from .deliveries import Deliveries
from .denoiser import DenoiserHooks
from .layout import RequestLayout
from .problems import Problems
from .progress.bar import ProgressBar
from .progress.request import RequestProgress
from .progress.workload import Speeds
from .sampling_wrapper import SamplingWrapper

_log = logging.getLogger(__name__)


class _Request:
    """One processing object ``p``, and the WebUI's request that it belongs to."""

    def __init__(self, p: Processing) -> None:
        self.is_open = True
        self._p = weakref.ref(p)
        self._started = a1111.state().time_start

    def owns(self, p: Processing) -> bool:
        """Whether ``p`` is the object of this request."""
        return self.is_open and self._p() is p

    def close(self) -> None:
        """End the request."""
        self.is_open = False

    def fail(self, p: Processing, _error: BaseException) -> None:
        """Sampling has failed: end the request."""
        self.close()
        controlnet.release(p)

    def contains(self, p: Processing) -> bool:
        """Whether ``p`` is another object that runs inside this request."""
        served = self._p()
        same_request = self._started == a1111.state().time_start
        return self.is_open and served is not None and served is not p and same_request


class Session(_Request):
    """Animates one processing object ``p`` by its plan; nested runs are not changed.

    Attributes:
        plan: the plan of the clip.
        loras: motion LoRAs of the prompts, with reports for clients.
        progress: what is done.
        unfinished: what is recorded of the clips, from which they go on after a crash.
        deliveries: writes the clips.

    Args:
        speeds: of earlier requests.
        notes: about settings without effect.
        source: what the clip's files take over from its source video.
        size: width and height, if they differ from those of ``p``.
        control: units of the ControlNet extension.
        unfinished: what is recorded of the clips.
    """

    def __init__(
        self,
        p: Processing,
        plan: ClipPlan,
        caches: Caches,
        speeds: Speeds,
        notes: Sequence[Note] = (),
        source: ClipSource | None = None,
        size: Size | None = None,
        control: ControlOfClip | None = None,
        unfinished: UnfinishedClips | None = None,
    ) -> None:
        super().__init__(p)
        self.plan = plan
        self._notes = notes
        self.unfinished = unfinished or UnfinishedClips(plan)
        self._changes = _changes(plan)
        self.loras = ClipLoras()
        self._problems = Problems()
        self._prompts = ClipPrompts(plan)
        first_frames, pinned = FirstFrames(plan), PinnedImages(plan, self._prompts)
        self._control = control or ControlOfClip()
        self._layout = RequestLayout(p, plan, self._problems, first_frames, size, self._control)
        method = clip_method(plan.method, plan, caches, self.loras)
        self.progress = RequestProgress(plan, ProgressBar(speeds))
        self.deliveries = Deliveries(plan, self._layout, self.progress, self.unfinished, source)
        guided = GuidedClip(plan, caches.encoders)
        self._wrapper = SamplingWrapper(
            plan,
            method,
            self._prompts,
            self._problems,
            self.progress,
            first_frames,
            pinned,
            self._control,
            guided,
            self.unfinished,
        )
        inverted = InvertedVideo(plan, self._prompts, pinned)
        self._denoiser = DenoiserHooks(
            plan,
            method,
            self._prompts,
            self._wrapper,
            self.progress,
            first_frames,
            pinned,
            inverted,
            guided,
            self.unfinished,
        )

    @property
    def notes(self) -> list[Note]:
        """Notes about what has no effect, settings and extensions, and about what the user has cut short."""
        found = (self._notes, self._control.notes, self._wrapper.notes, self.unfinished.notes)
        return [*(note for notes in found for note in notes), *self.progress.interrupts.notes]

    def lay_out_rows(self) -> None:
        """Arrange the rows, before the WebUI sets prompts and seeds."""
        with self._problems.refusing_later():
            self._layout.call_on_close(self._give_up)
            self._layout.lay_out_rows()
        if self._problems.has_refusal:
            self._layout.reach_refusal()

    def take_prompts(self, p: Processing) -> None:
        """Write the clips of the batch before, and take the prompts of the next one.

        The WebUI has not yet read extra networks and conditions from them.
        """
        self.deliveries.end_batch(p)
        if not p.prompts:
            return
        with self._problems.refusing_later():
            controlnet.forget_conditions(p)
            self._layout.share_first_prompts()
            self.loras.take_tags(p)

    def wrap_sampling(self, p: Processing) -> None:
        """Write the frames' prompts, and make the next call of ``p.sample`` run on clips."""
        with self._problems.refusing_later():
            self.loras.put_back(p)
            self._prompts.write_frame_prompts(p)
        _wrap_once(self, p, self._wrapper.sample)

    def before_sampling(self, p: Processing, noise: Tensor) -> None:
        """Prepare a sampler, which begins from this noise."""
        with self._problems.failing_later():
            self._denoiser.before_sampling(p, noise)

    def before_second_pass(self, p: Processing) -> None:
        """Prepare the second pass of hires fix, whose conditions are encoded."""
        with self._problems.failing_later():
            self._denoiser.before_second_pass(p)

    def before_denoising(self, p: Processing, params: Any) -> None:
        """Prepare a call of the UNet by the denoiser."""
        with self._problems.failing_later():
            self._denoiser.before_denoising(p, params)

    def finished(self, p: Processing, image: Any) -> Any:
        """A finished image with matched colours, and with what a mask keeps of the source video."""
        for name, change in list(self._changes.items()):
            try:
                image = change(image, p.batch_index % len(self.plan.rendered))
            except Exception as error:  # the WebUI would only print it, for each frame
                _log.exception("AnimateDiff: %s could not be applied", name)
                del self._changes[name]
                self._notes = (*self._notes, Note(name, f"has no effect in some frames. {error}"))
        return image

    def settle(self) -> None:
        """Restore the values of ``p``, and end the animation. The progress goes on, until `close`."""
        self.is_open = False
        self._problems.forget()
        self._layout.undo()

    def close(self) -> None:
        """`settle`, and end the progress."""
        self.settle()
        self.progress.stop()
        self.deliveries.forget()

    def fail(self, p: Processing, error: BaseException) -> None:
        """Sampling has failed: `close`."""
        self.deliveries.fail(p, error)
        super().fail(p, error)

    def _give_up(self) -> None:
        """Called when the WebUI closes ``p`` before `settle`, after a failure anywhere."""
        if (p := self._p()) is not None:
            self.deliveries.fail(p, sys.exc_info()[1])
            controlnet.release(p)
        self.progress.stop()


def _changes(plan: ClipPlan) -> dict[str, Callable[[Any, int], Any]]:
    """What is done to finished frames, by the settings that ask for it."""
    colours, kept = colour_match(plan), kept_pixels(plan)
    found: dict[str, Callable[[Any, int], Any]] = {}
    if colours is not None:
        found["sparse_colour_match"] = colours.matched
    if kept is not None:
        again = plan.pins is not None and plan.pins.keeps_pixels
        found["rerender_clip" if again else "mask"] = kept.put_back
    return found


class Refusal(_Request):
    """A request without a valid plan; the user sees the error when sampling begins."""

    def __init__(self, p: Any, error: Exception) -> None:
        super().__init__(p)
        self._problems = Problems(error)
        self._images: Any = None
        self._arguments = p.script_args
        p.script_args = controlnet.arguments_without(p)  # what is refused needs no control
        if hasattr(p, "init_images"):
            self._images = p.init_images
            p.init_images = one_image(p)

    def wrap_sampling(self, p: Processing) -> None:
        """Make the next call of ``p.sample`` raise the error."""
        _wrap_once(self, p, self._raise)

    def close(self) -> None:
        """Discard the error, and restore the init images."""
        self.is_open = False
        p: Any = self._p()
        if p is not None and self._arguments is not None:
            p.script_args, self._arguments = self._arguments, None
        if p is not None and self._images is not None:
            p.init_images, self._images = self._images, None
        self._problems.forget()

    def _raise(self, _p: Processing, _original: Any, _args: Any, _kwargs: dict[str, Any]) -> None:
        with as_http_422():
            self._problems.raise_refusal()


def _wrap_once(session: Session | Refusal, p: Processing, sample: Any) -> None:
    """Run ``sample`` instead of the next call of ``p.sample``. The wrapper is removed when that call ends."""
    original = p.sample
    spent = False

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal spent
        if spent or not session.is_open:  # still on p, or referenced by another extension's wrapper
            restore(p, "sample", wrapped, original)
            return original(*args, **kwargs)
        spent = True
        try:
            return sample(p, original, args, kwargs)
        except BaseException as error:
            session.fail(p, error)
            keep_for_page(error)
            raise
        finally:
            restore(p, "sample", wrapped, original)

    p.sample = wrapped
