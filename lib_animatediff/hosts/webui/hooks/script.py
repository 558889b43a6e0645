"""The WebUI's script object: receives its hooks and passes them to the request's session."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modules import hashes, scripts

from lib_animatediff.hosts.webui.catalog.loras import LoraCache
from lib_animatediff.hosts.webui.catalog.models import MotionModuleCache, find_model, listed_name, means_zero
from lib_animatediff.hosts.webui.output.deliver import deliver_clips
from lib_animatediff.hosts.webui.ui.axes import with_axes
from lib_animatediff.hosts.webui.ui.panel import INFOTEXT_FIELD, build_panel, infotext_fields, panel_values
from lib_animatediff.request.settings import ClipSettings, canonical_name, parse_settings, to_infotext
from lib_animatediff.sampling.text2video_zero import NAME
from motion_module import AnimateDiffError

from .session import Session

HASH_LENGTH = 8  # as in the pictures of the existing extension


class AnimateDiffScript(scripts.Script):  # type: ignore[misc]
    """Makes clips of what a tab paints. Each tab has an instance of its own."""

    _cache = MotionModuleCache()  # of both tabs: they serve one model, and one motion module is large enough
    _loras = LoraCache()

    def __init__(self) -> None:
        super().__init__()
        self._session: Session | None = None

    def title(self) -> str:
        """The name that API clients and saved pictures use."""
        return "AnimateDiff"

    def show(self, is_img2img: bool) -> Any:
        """In both tabs, always."""
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        """The accordion; its components' values reach the hooks in this order."""
        components = build_panel("img2img" if is_img2img else "txt2img")
        self.infotext_fields = infotext_fields(components)
        return components

    def before_process(self, p: Any, *values: Any) -> None:
        """Lay out a request's rows, before the WebUI fixes prompts and seeds."""
        if any(session.encloses(p) for session in _sessions_of_both_tabs()):
            return
        if self._session is not None:
            self._session.close()  # of a request that broke off, or of an earlier run of the same p
            self._session = None
        settings = _settings_or_refusal(with_axes(p, panel_values(values)))
        if _is_upscaled_picture(p):
            _give_colours(p)
            return
        if isinstance(settings, ClipSettings) and not settings.enable:
            return
        if isinstance(settings, ClipSettings):
            settings = _named_as_listed(settings)
        self._session = Session(p, settings, self._cache, self._loras)
        self._session.lay_out_rows()
        if isinstance(settings, ClipSettings):
            p.extra_generation_params[INFOTEXT_FIELD] = _infotext(settings)

    def process(self, p: Any, *values: Any) -> None:
        """All prompts and seeds are laid out."""
        if self._session is not None and self._session.serves(p):
            self._session.arrange_seeds()

    @property
    def session(self) -> Session | None:
        """The request that this tab serves now."""
        return self._session

    def before_process_batch(self, p: Any, *values: Any, **kwargs: Any) -> None:
        """Before the WebUI reads extra networks and conditions from the rows' prompts."""
        if self._session is not None and self._session.serves(p):
            self._session.share_first_prompts()
            self._session.take_lora_tags()

    def process_batch(self, p: Any, *values: Any, **kwargs: Any) -> None:
        """Have the sampling that follows run on clips."""
        if self._session is not None and self._session.serves(p):
            self._session.give_frames_their_prompts()
            self._session.wrap_sampling()

    def process_before_every_sampling(self, p: Any, *values: Any, **kwargs: Any) -> None:
        """A pass is about to be sampled, from the noise that the WebUI hands to the hook."""
        if self._session is not None and self._session.serves(p):
            self._session.before_sampling(kwargs["noise"])

    def before_hr(self, p: Any, *values: Any) -> None:
        """The second pass of hires fix has its conditions."""
        if self._session is not None and self._session.serves(p):
            self._session.before_second_pass()

    def postprocess(self, p: Any, processed: Any, *values: Any) -> None:
        """Turn the finished pictures into clips."""
        if self._session is None or not self._session.serves(p):
            return
        session, self._session = self._session, None
        session.close()
        processed.styles = getattr(p, "styles", None)  # while it ran, they were in the prompts
        if session.settings.poster:
            return
        deliver_clips(p, processed, session.settings, session.frames, session.lora_reports)


def before_denoising(params: Any) -> None:
    """What the WebUI calls before each of the denoiser's calls, of any request."""
    for session in _sessions_of_both_tabs():
        if session.serves(params.denoiser.p):
            session.before_denoising(params)


def _sessions_of_both_tabs() -> list[Session]:
    """A request of one tab may run the other tab's scripts inside, as detailers do."""
    runners = (scripts.scripts_txt2img, scripts.scripts_img2img)
    ours = [s for runner in runners for s in runner.alwayson_scripts if isinstance(s, AnimateDiffScript)]
    return [script.session for script in ours if script.session is not None]


def _settings_or_refusal(values: dict[str, Any]) -> ClipSettings | Exception:
    said = [value for name, value in values.items() if canonical_name(name) == "enable"]
    if all(value is False for value in said):
        return ClipSettings()  # switched off: whatever else stands there asks for nothing
    try:
        return parse_settings(values)
    except Exception as error:  # told when sampling begins; the WebUI would swallow it here
        return error


def _is_upscaled_picture(p: Any) -> bool:
    """The gallery's upscale button runs txt2img on one picture that is finished already."""
    return bool(getattr(p, "txt2img_upscale", False))


def _give_colours(p: Any) -> None:
    """A clip is opened as its first frame with a palette, and the WebUI's second pass takes colours only."""
    p.firstpass_image = p.firstpass_image.convert("RGB")


def _named_as_listed(settings: ClipSettings) -> ClipSettings:
    """However the motion module was named, texts and recipes have it as the list does; what is not there stays."""
    if means_zero(settings.model):
        return replace(settings, model=NAME)
    try:
        return replace(settings, model=listed_name(find_model(settings.model)))
    except AnimateDiffError:
        return settings  # the reason is told when sampling begins


def _infotext(settings: ClipSettings) -> str:
    if means_zero(settings.model):
        return to_infotext(settings)
    try:
        path = find_model(settings.model)
    except AnimateDiffError:
        return to_infotext(settings)
    digest = hashes.sha256(str(path), f"AnimateDiff/{settings.model}")
    return to_infotext(settings, mm_hash=digest and digest[:HASH_LENGTH])
