"""Reading the JSON of batches, which is kept as it was sent (docs/events.md)."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec

from oneself.http.field_errors import explain, find_nul
from oneself.http.wire import HttpError
from oneself.profiles import BatchError

__all__ = ["check_nul", "decoded", "decoded_many"]

T = TypeVar("T")

MAX_DEPTH: Final = 64
"""How deep a document may be nested. It is kept inside of others, and has to be readable there, too."""

_HALVES: Final = re.compile(
    rb"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(?P<half>\\ud[89a-f][0-9a-f]{2})|\\.", re.I | re.S
)
"""The escapes of a document; ``half`` is one of the two that make up a character, without the other."""

_NUL_ESCAPE: Final = b"\\u0000"

_any = msgspec.json.Decoder(Any)
_many = msgspec.json.Decoder(list[msgspec.Raw])


def decoded(body: bytes, status: int) -> Any:
    """Return a JSON document; raise ``HttpError`` with a status where the body is none or too deep."""
    document = _decoded(_any, body, status)
    # Each level takes a bracket, so that few documents have to be looked through.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _is_deep(document):
        raise HttpError(status, f"body: it is nested more than {MAX_DEPTH} deep.")
    return document


def decoded_many(body: bytes) -> list[bytes]:
    """Return the bodies of the documents in a JSON array; raise ``HttpError`` 400 where the body is none."""
    return [bytes(raw) for raw in _decoded(_many, body, 400)]


def check_nul(body: bytes, document: Any) -> None:
    """Raise ``BatchError`` that names a field with a NUL character, which no text that is looked for may have."""
    if b"\\" in body and _NUL_ESCAPE in body:  # most have no escape at all, and one byte is found soonest
        field = find_nul(msgspec.json.encode(document))
        if field is not None:
            raise BatchError(field, "it has a NUL character")


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes, status: int) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # A page that shortens a text may cut an emoji in two; that is no reason to lose all that was sent with it.
        mended = _HALVES.sub(lambda escape: b"\\ufffd" if escape["half"] else escape[0], body)
        if mended == body:
            raise HttpError(status, explain(error, body, {})) from None
    return _decoded(decoder, mended, status)


def _is_deep(document: Any) -> bool:
    level: list[Any] = [[document]]
    for _ in range(MAX_DEPTH + 1):
        level = [
            member
            for value in level
            for member in (value.values() if type(value) is dict else value)
            if type(member) in (dict, list)
        ]
        if not level:
            return False
    return True
