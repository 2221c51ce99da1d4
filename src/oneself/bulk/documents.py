"""JSON that others wrote: decoded exactly, and told what keeps it from being kept (docs/import-export.md)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

__all__ = ["Unfit", "decoded", "unfit"]

_MAX_DEPTH: Final = 64
"""How deep a document may be nested. It is kept inside of others, and has to be readable there, too."""

_NUL: Final = b"\\u0000"


class Unfit(ValueError):
    """JSON that cannot be used; the message says why, after "it"."""


def decoded(body: bytes) -> Any:
    """Return what JSON says, integers exactly; raise ``Unfit`` where it is none, or cannot be kept."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unfit(f"is no JSON: {error}") from None
    # Few documents have to be looked through: each level takes a bracket.
    if _NUL in body or body.count(b"{") + body.count(b"[") > _MAX_DEPTH:
        reason = unfit(document)
        if reason:
            raise Unfit(reason)
    return document


def unfit(document: Any) -> str:
    """Return why a document cannot be kept, or an empty string."""
    level = [document]
    for _ in range(_MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value, *value.values()]
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and "\0" in value:
                return "has a NUL character"
        if not below:
            return ""
        level = below
    return f"is nested more than {_MAX_DEPTH} deep"
