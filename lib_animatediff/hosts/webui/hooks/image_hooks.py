"""The hooks of the script that receive the images of a batch, decoded and then one by one."""

from __future__ import annotations

from typing import Any

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.base import Processing

from .session import Refusal, Session


class ImageHooks(a1111.Script):  # type: ignore[misc]
    """Passes images to the session of the request."""

    @property
    def session(self) -> Session | Refusal | None:
        """The session of this tab's current request."""
        raise NotImplementedError

    def postprocess_batch_list(self, p: Any, batch: Any, *values: Any, **kwargs: Any) -> None:
        """The images of a batch are decoded: remove those that an interrupt has left out."""
        if session := session_of(self, p):
            del batch.images[session.progress.end_decoding(len(batch.images)) :]

    def postprocess_image(self, p: Any, image: Any, *values: Any) -> None:
        """The WebUI has finished an image, but for other extensions."""
        if session := session_of(self, p):
            session.progress.end_image(p)

    def postprocess_image_after_composite(self, p: Any, finished: Any, *values: Any) -> None:
        """All of it is finished: match its colours, and put back what a mask keeps of the source video."""
        if session := session_of(self, p):
            finished.image = session.finished(p, finished.image)
            session.deliveries.add_image(p, finished)


def session_of(script: ImageHooks, p: Processing) -> Session | None:
    """The session of ``p``; None if the script's tab does not animate it."""
    session = script.session
    return session if isinstance(session, Session) and session.owns(p) else None
