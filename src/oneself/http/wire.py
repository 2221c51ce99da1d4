"""Answers on the wire: headers that every answer carries, error bodies, replies (docs/http.md, "Errors").

Old and new clients read different parts of an error, so each error body has all the forms they know.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final, NamedTuple

import msgspec

__all__ = [
    "ALLOWED_METHODS",
    "CORS",
    "JSON_TYPE",
    "ErrorBody",
    "ErrorItem",
    "Header",
    "HttpError",
    "Reply",
    "Stream",
    "error_reply",
    "json_reply",
    "preflight_reply",
]

Header = tuple[bytes, bytes]

ALLOWED_METHODS: Final = b"GET, POST, OPTIONS"
JSON_TYPE: Final[Header] = (b"content-type", b"application/json")
CORS: Final[tuple[Header, Header]] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"X-MP-Max-Age, Retry-After"),
)
"""A browser hides an answer without these from the page, which then repeats its request."""

_CHALLENGE: Final[Header] = (b"www-authenticate", b'Basic realm="Oneself", charset="UTF-8"')
_BEARER: Final[Header] = (b"www-authenticate", b'Bearer realm="Oneself"')
_PREFLIGHT: Final[tuple[Header, ...]] = (
    *CORS,
    (b"access-control-allow-methods", ALLOWED_METHODS),
    (b"access-control-allow-headers", b"content-type, x-mp-key"),
    (b"access-control-max-age", b"7200"),
)

CODES: Final = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND_ERROR",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "UNPROCESSABLE_CONTENT",
    429: "TOO_MANY_REQUESTS",
    431: "REQUEST_HEADER_FIELDS_TOO_LARGE",
    500: "INTERNAL_ERROR",
    503: "SERVICE_UNAVAILABLE",
}
"""The error code that a status has where nothing more exact is known."""


class ErrorItem(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    code: str
    message: str


class ErrorBody(msgspec.Struct, frozen=True):
    """An error, in every form that clients read."""

    errors: list[ErrorItem]
    Errors: list[ErrorItem]
    ErrorCode: str
    StatusCode: int
    RequestId: str
    code: str
    message: str


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    headers: list[Header]
    body: bytes


class Stream(NamedTuple):
    """An answer in pieces. ``done`` is called once when no more of it is sent, also where none ever was."""

    status: int
    headers: list[Header]
    pieces: AsyncGenerator[bytes, None]
    done: Callable[[], None]


class HttpError(Exception):
    """A request that is answered with an error; ``message`` tells the caller what to do.

    ``code`` defaults to the usual one of the status; ``retry_after`` is whole seconds; ``allow`` are the methods
    that a 405 names; ``bearer`` tells with a 401 that a token is needed;
    ``headers`` are further ones of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        retry_after: int | None = None,
        allow: str = "",
        bearer: bool = False,
        headers: Sequence[Header] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or CODES.get(status, "BAD_REQUEST")
        self.retry_after = retry_after
        self.allow = allow
        self.bearer = bearer
        self.headers = headers


_encode = msgspec.json.Encoder().encode


def json_reply(status: int, body: bytes) -> Reply:
    """Return an answer with a JSON body."""
    return Reply(status, [JSON_TYPE, *CORS, (b"content-length", b"%d" % len(body))], body)


def error_reply(error: HttpError, request_id: str = "") -> Reply:
    """Return the answer that an error gets; without a request id it gets a fresh one."""
    items = [ErrorItem(error.code, error.message)]
    about = request_id or str(uuid.uuid4())
    body = _encode(ErrorBody(items, items, error.code, error.status, about, error.code, error.message))
    reply = json_reply(error.status, body)
    reply.headers.extend(_extra(error))
    return reply


def _extra(error: HttpError) -> Sequence[Header]:
    """Return the headers that only this error has."""
    extra: list[Header] = [*error.headers]
    if error.status == 401:
        extra.append(_BEARER if error.bearer else _CHALLENGE)
    if error.retry_after is not None:
        extra.append((b"retry-after", b"%d" % max(1, error.retry_after)))
    if error.allow:
        extra.append((b"allow", error.allow.encode()))
    return extra


def preflight_reply() -> Reply:
    """Return the answer to OPTIONS, the same on every route."""
    return Reply(204, list(_PREFLIGHT), b"")
