"""The WebUI's script object: receives its hooks and passes them to the request's session."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from lib_animatediff.hosts.webui.catalog.files import Caches, WebuiCatalog, guide_files
from lib_animatediff.hosts.webui.catalog.models import canonical_name as canonical_model
from lib_animatediff.hosts.webui.catalog.sources import find_source
from lib_animatediff.hosts.webui.catalog.uploads import with_kept_files
from lib_animatediff.hosts.webui.clip.control.integrated import control_of_clip
from lib_animatediff.hosts.webui.clip.control.noted import CONTROL_FIELDS, control_source, without_served
from lib_animatediff.hosts.webui.clip.control.sources import units_of_clip
from lib_animatediff.hosts.webui.clip.guides.noted import GUIDE_FIELDS, guides_source
from lib_animatediff.hosts.webui.clip.prompt_travel import travels_of
from lib_animatediff.hosts.webui.clip.speed import apply_speed
from lib_animatediff.hosts.webui.clip.start.continued import carried_on
from lib_animatediff.hosts.webui.clip.start.noted import SOURCE_FIELDS, image_notes, images_source, init_image_path
from lib_animatediff.hosts.webui.clip.start.rerendered import rerender_notes, size_of_first_pass
from lib_animatediff.hosts.webui.clip.start.video import clip_source, refuse_two_masks, strength_of_tab, video_notes
from lib_animatediff.hosts.webui.clip.unfinished.request import UnfinishedClips
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.output.deliver import report_notes
from lib_animatediff.hosts.webui.output.script_runs import ScriptRun
from lib_animatediff.hosts.webui.ui.axes import refuse_idle_axes, settings_of_axes, with_axes
from lib_animatediff.hosts.webui.ui.panel import (
    INFOTEXT_FIELD,
    build_note,
    build_panel,
    given_settings,
    infotext_fields,
    panel_values,
)
from lib_animatediff.request.control.choosing import choose_guiding, choose_hosted, guide_notes, with_guides
from lib_animatediff.request.effects import Note, notes_of
from lib_animatediff.request.foreign import foreign_notes
from lib_animatediff.request.plan import ClipPlan, Sampling, plan_clip
from lib_animatediff.request.settings import canonical_name, parse_settings, to_infotext
from lib_animatediff.request.start.choosing import choose_video
from lib_animatediff.request.start.images import choose_images, chosen_size, with_images
from lib_animatediff.video.formats import check_rate

from .image_hooks import ImageHooks, session_of
from .progress.workload import Speeds
from .session import Refusal, Session

_log = logging.getLogger(__name__)

HASH_LENGTH = 8  # as in images of the existing extension


class AnimateDiffScript(ImageHooks, a1111.Script):  # type: ignore[misc]
    """Renders clips instead of a tab's images. Each tab has its own instance."""

    _caches = Caches()
    _speeds = Speeds()

    def __init__(self) -> None:
        super().__init__()
        self._session: Session | Refusal | None = None
        self._script_run = ScriptRun()

    def title(self) -> str:
        """The name for API clients and saved images."""
        return "AnimateDiff"

    def show(self, is_img2img: bool) -> Any:
        """In both tabs, always."""
        return a1111.ALWAYS_VISIBLE

    def ui(self, is_img2img: bool) -> list[Any]:
        """The accordion; the hooks receive its components' values in this order."""
        tab = "img2img" if is_img2img else "txt2img"
        try:
            components = build_panel(tab)
            self.infotext_fields = infotext_fields(components)
        except Exception as error:  # in some WebUIs it would end the page and the API of the whole program
            _log.exception("AnimateDiff could not build its panel.")
            return build_note(tab, error)
        return components

    def before_process(self, p: Any, *values: Any) -> None:
        """Plan the request and lay out its rows, before the WebUI fixes prompts and seeds."""
        if any(session.contains(p) for session in _sessions_of_both_tabs()):
            return
        if self._session is not None:
            self._session.close()  # of an interrupted request, or of an earlier run of the same p
            self._session = None
        asked = with_axes(p, panel_values(values))
        if _is_upscaled_image(p):
            _convert_palette_to_rgb(p)
        elif _is_enabled(asked):
            given = given_settings(values) | settings_of_axes(p)
            self._session = _open(p, asked, given, self._caches, self._speeds)

    @property
    def session(self) -> Session | Refusal | None:
        """The session of this tab's current request."""
        return self._session

    def before_process_batch(self, p: Any, *values: Any, **kwargs: Any) -> None:
        """Take the prompts, before the WebUI reads extra networks and conditions from them."""
        if session := session_of(self, p):
            session.take_prompts(p)

    def process_batch(self, p: Any, *values: Any, **kwargs: Any) -> None:
        """Make the following sampling run on clips."""
        if self._session is not None and self._session.owns(p):
            self._session.wrap_sampling(p)

    def process_before_every_sampling(self, p: Any, *values: Any, **kwargs: Any) -> None:
        """Prepare the sampling of a pass, whose initial noise the WebUI passes to the hook."""
        if session := session_of(self, p):
            session.before_sampling(p, kwargs["noise"])

    def before_hr(self, p: Any, *values: Any) -> None:
        """Prepare the second pass of hires fix, whose conditions are encoded."""
        if session := session_of(self, p):
            session.before_second_pass(p)

    def postprocess(self, p: Any, processed: Any, *values: Any) -> None:
        """Turn the finished images into clips."""
        session = self._session
        if session is None or not session.owns(p):
            return
        self._session = None
        if not isinstance(session, Session):
            session.close()
            return
        session.settle()
        try:
            processed.styles = getattr(p, "styles", None)  # during the run they were in the prompts
            if session.plan.makes_clip and session.deliveries.deliver(
                p, processed, session.loras.reports, self._script_run
            ):
                session.unfinished.remove()
            report_notes(processed, session.notes)
            session.progress.bar.finish()
        finally:
            session.close()


def before_denoising(params: Any) -> None:
    """Called by the WebUI before each call of the denoiser, in any request."""
    p = params.denoiser.p
    for session in _sessions_of_both_tabs():
        if isinstance(session, Session) and session.owns(p):
            session.before_denoising(p, params)


def _sessions_of_both_tabs() -> list[Session | Refusal]:
    """The sessions of both tabs. A request of one tab may run the other tab's scripts inside, as detailers do."""
    sessions = [script.session for script in a1111.always_on_scripts(AnimateDiffScript)]
    return [session for session in sessions if session is not None]


def _second_pass_notes(plan: ClipPlan) -> tuple[Note, ...]:
    """A note if a request asks for the second pass of the command line."""
    if plan.second_pass is None:
        return ()
    return (Note("upscale", "has no effect in the WebUI. Use Hires. fix of txt2img, which enlarges clips as well."),)


def _is_enabled(asked: dict[str, Any]) -> bool:
    """Whether a clip is requested. Otherwise the other values are ignored, even invalid ones."""
    given = [value for name, value in asked.items() if canonical_name(name) == "enable"]
    return not all(value is False for value in given)


def _open(p: Any, asked: dict[str, Any], given: set[str], caches: Caches, speeds: Speeds) -> Session | Refusal | None:
    # Those of a former cell of an X/Y/Z plot or image of a batch, which share the dict.
    for name in (*SOURCE_FIELDS, *CONTROL_FIELDS, *GUIDE_FIELDS):
        p.extra_generation_params.pop(name, None)
    try:
        settings = parse_settings(asked)
        if not settings.enable:
            return None
        asked, carried_notes = carried_on(p, with_kept_files(asked), given)
        settings = parse_settings(asked)
        resumes = settings.resume
        settings = replace(settings, model=canonical_model(settings.model), resume=False)  # the clip is the same
        p.extra_generation_params[INFOTEXT_FIELD] = to_infotext(settings)
        settings, video = choose_video(settings, given, find_source, strength_of_tab(p))
        settings, images = choose_images(
            settings, find_source, lambda: init_image_path(p), has_init=hasattr(p, "init_images")
        )
        settings, hosted = choose_hosted(settings, find_source)
        files = guide_files(settings.model)
        settings, guides = choose_guiding(settings, images.pins, find_source, files)
        plan = plan_clip(settings, Sampling(steps=int(p.steps)), WebuiCatalog())
        plan = with_images(plan.with_video(video.start if video else None), replace(images, pins=guides.pins))
        plan = with_guides(plan, guides)
        refuse_two_masks(p, plan)
        shown = (video.facts.size, settings.video_fit) if video else (images.size, settings.image_fit)
        size = chosen_size(settings, *shown, (int(p.width), int(p.height)))
        if images.again is not None:
            size = size_of_first_pass(p, images.again)
        refuse_idle_axes(p, plan)
        units, control_notes = units_of_clip(p, plan, hosted, find_source)
        p.extra_generation_params[INFOTEXT_FIELD] = _infotext(plan)
        check_rate(plan.output.formats, float(plan.output.shown_fps))
        speed_notes = apply_speed(p, settings.model, settings.speed)
        for note in speed_notes:
            _log.warning("AnimateDiff: %s", note)
        notes = (
            *without_served(notes_of(settings, travels_of(p)), units),
            *_second_pass_notes(plan),
            *speed_notes,
            *carried_notes,
            *foreign_notes(asked),
            *video_notes(p, video, plan, given),
            *image_notes(p, plan, asked, given),
            *rerender_notes(p, images.again),
            *guide_notes(settings, guides, images.pins, files),
            *control_notes,
        )
        source = images_source(p, plan, None if video is None else clip_source(p, video, plan))
        source = control_source(p, units, guides_source(p, plan, source))
        unfinished = UnfinishedClips(
            plan,
            resumes=resumes,
            tab="img2img" if hasattr(p, "init_images") else "txt2img",
            sources=None if source is None else source.recipe,
        )
        session = Session(
            p,
            plan,
            caches,
            speeds,
            notes=notes,
            source=source,
            size=size,
            control=control_of_clip(p, units),
            unfinished=unfinished,
        )
    except Exception as error:  # the user sees it when sampling begins; the WebUI would swallow it here
        return Refusal(p, error)
    session.lay_out_rows()
    return session


def _is_upscaled_image(p: Any) -> bool:
    """Whether the gallery's upscale button runs txt2img on one finished image."""
    return bool(getattr(p, "txt2img_upscale", False))


def _convert_palette_to_rgb(p: Any) -> None:
    """Convert the first frame of a clip, which may have a palette; the WebUI's second pass needs RGB."""
    p.firstpass_image = p.firstpass_image.convert("RGB")


def _infotext(plan: ClipPlan) -> str:
    for module in plan.method.modules:
        digest = a1111.file_sha256(module.path, f"AnimateDiff/{plan.settings.model}")
        return to_infotext(plan.settings, mm_hash=digest and digest[:HASH_LENGTH])
    return to_infotext(plan.settings)
