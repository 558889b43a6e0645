"""A WebUI with AnimateDiff, by its HTTP API. One request is one clip."""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from motion_module import AnimateDiffError
from motion_module.limits import parse_json

_TXT2IMG, _VERSION = "/sdapi/v1/txt2img", "/animatediff/v1/version"
_WRONG_REQUEST, _NOT_FOUND = 422, 404
_ASKING = 30.0  # seconds for an answer that needs no rendering
_LARGEST = 4 * 2**30  # bytes of a reply
# Rendering may take hours, in which nothing is sent. So the connection itself is asked whether the other end lives.
_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}  # seconds, seconds, times
_SHORT = 300  # characters of a reply in a message


class WebUIError(AnimateDiffError):
    """A WebUI refuses a request, or is none."""


class UnreachableError(Exception):
    """The WebUI does not answer, or ended in the middle: another one may render the clip.

    Attributes:
        was_asked: whether it had received the request.
    """

    def __init__(self, sentence: str, *, was_asked: bool = True) -> None:
        super().__init__(sentence)
        self.was_asked = was_asked


class WebUI:
    """A WebUI at an address.

    Args:
        address: as the browser shows it, with the API's user and password before the host if it has one, such as
            ``http://user:password@host:7860``.

    Raises:
        WebUIError: it is no such address.
    """

    def __init__(self, address: str) -> None:
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            is_wrong = parts.scheme not in ("http", "https") or not parts.hostname or (parts.port or 1) < 1
        except ValueError:  # a port that is no number, or brackets around no address
            is_wrong = True
        # A password with / ? or # would end the host, and a part of it would be sent to another one.
        if is_wrong or "@" in f"{parts.path}{parts.query}{parts.fragment}":
            raise WebUIError(
                f"{'This' if '@' in address else address[:_SHORT] or 'This'} is not the address of a WebUI. Write it "
                "as the browser shows it, such as http://127.0.0.1:7860, with / ? and # of a password as %2F, %3F and "
                "%23.",
                code="AD-M46",
            )
        self._parts = parts
        self.name = parts.netloc.rpartition("@")[2]  # without the password

    def check(self) -> None:
        """Check that AnimateDiff answers.

        Raises:
            UnreachableError: nothing does.
            WebUIError: something else does.
        """
        status, _ = self._ask("GET", _VERSION, None, _ASKING)
        if status == _NOT_FOUND:
            raise WebUIError(
                f"The WebUI at {self.name} has no AnimateDiff, or was started without --api. Check it.", code="AD-M47"
            )
        if status != http.client.OK:
            raise WebUIError(
                f"The WebUI at {self.name} refuses to answer (HTTP {status}). With --api-auth, write the address as "
                "http://user:password@host:port.",
                code="AD-M48",
            )

    def txt2img(self, payload: Mapping[str, Any]) -> list[bytes]:
        """The files of a request's reply, in their order.

        Raises:
            UnreachableError: the WebUI ended or failed; the request may work elsewhere.
            WebUIError: the request is wrong.
        """
        status, text = self._ask("POST", _TXT2IMG, json.dumps(payload).encode(), None)
        if status == _WRONG_REQUEST:
            raise _refused(text)
        try:
            reply = parse_json(text)
            if status != http.client.OK:
                raise UnreachableError(f"{self.name} answers HTTP {status}: {_reason(reply)}")
            return [base64.b64decode(image.partition(",")[2] or image, validate=True) for image in reply["images"]]
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise UnreachableError(f"{self.name} sends no clip (HTTP {status})") from error

    def _ask(self, method: str, path: str, body: bytes | None, seconds: float | None) -> tuple[int, bytes]:
        parts = self._parts
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection, is_there = kind(parts.hostname or "", parts.port, timeout=seconds), False
        try:
            connection.connect()
            is_there = True
            _keep_asking(connection.sock)
            connection.request(method, f"{parts.path.rstrip('/')}{path}", body, _headers(parts))
            response = connection.getresponse()
            return response.status, response.read(_LARGEST)
        except (OSError, http.client.HTTPException, ValueError) as error:  # a name that no host can have
            sentence = f"{self.name} does not answer: {error or type(error).__name__}"
            raise UnreachableError(sentence, was_asked=is_there) from error
        finally:
            connection.close()


def _keep_asking(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _ALIVE.items():
        if hasattr(socket, name):  # not on every system
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _headers(parts: SplitResult) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"
    return headers


def _refused(text: bytes) -> WebUIError:
    """The error of a request, whose sentence ends with its code where AnimateDiff refuses it."""
    try:
        detail = parse_json(text)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = text.decode(errors="replace")
    sentence, _, code = str(detail)[: 4 * _SHORT].rpartition(" [")
    if sentence and code.endswith("]"):
        return WebUIError(sentence, code=code[:-1])
    return WebUIError(f"The WebUI refuses the request: {str(detail)[:_SHORT].rstrip('. ')}.", code="AD-M49")


def _reason(reply: Any) -> str:
    found = reply.get("errors") or reply.get("detail") or reply.get("error") if isinstance(reply, dict) else ""
    return " ".join(str(found).split())[:_SHORT]
