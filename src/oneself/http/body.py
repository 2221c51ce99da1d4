"""Request bodies: read within a limit, decompressed and decoded (docs/http.md, "Bodies")."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from oneself.http.field_errors import explain, find_nul
from oneself.http.wire import HttpError

__all__ = ["BODY_LIMIT", "ClientGone", "decode", "read_body"]

T = TypeVar("T")
Receive = Callable[[], Awaitable[Any]]

BODY_LIMIT: Final = 128 * 1024
"""The most bytes that an identity or alias request may have, before and after decompression."""

_NUL_ESCAPE: Final = b"\\u0000"


class ClientGone(Exception):
    """The client closed the connection before its request was complete; there is nobody to answer."""


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int = BODY_LIMIT) -> bytes:
    """Return a request's whole body, decompressed; never keep more than ``limit`` bytes of it.

    Raises ``HttpError`` 413 for a longer one, 400 for an empty or damaged one, 415 for an unknown encoding.
    """
    declared = headers.get(b"content-length", b"0")
    if len(declared) > 9 or int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body = await _read_on(bytearray(body), receive, limit)
    if len(body) > limit:
        raise _too_large(limit)
    if b"content-encoding" in headers:
        body = _decompress(headers[b"content-encoding"], body, limit)
    if not body:
        raise HttpError(400, "body: it is empty; send a JSON object.")
    return body


async def _read_on(body: bytearray, receive: Receive, limit: int) -> bytes:
    while len(body) <= limit:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)
    raise _too_large(limit)


def _too_large(limit: int) -> HttpError:
    return HttpError(413, f"body: it is larger than {limit} bytes.")


def _decompress(encoding: bytes, body: bytes, limit: int) -> bytes:
    """Undo a Content-Encoding, with no more output than the limit: a small body can hold a huge one."""
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return body
    if name not in (b"gzip", b"x-gzip"):
        raise HttpError(415, "Content-Encoding: only gzip is understood.")
    gzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = gzip.decompress(body, limit + 1)
    except zlib.error:
        raise HttpError(400, "body: it is not the gzip that Content-Encoding says.") from None
    if len(plain) > limit:
        raise _too_large(limit)
    if not gzip.eof or gzip.unused_data:
        raise HttpError(400, "body: its gzip data is cut short or followed by something else.")
    return plain


def decode(decoder: msgspec.json.Decoder[T], body: bytes, allowed: Mapping[str, str]) -> T:
    """Return what a JSON body says; raise ``HttpError`` 400 that names the field where something is wrong.

    ``allowed`` tells, by a field's last name, which values it takes.
    """
    try:
        value = decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, explain(error, body, allowed)) from None
    if _NUL_ESCAPE in body:
        field = find_nul(body)
        if field is not None:
            raise HttpError(400, f"{field}: it has a NUL character.")
    return value
