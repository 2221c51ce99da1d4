"""Parameters of admin requests: each is known, there once, and what it must be (docs/admin-api.md, "Parameters")."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from oneself.http.exchange import Exchange
from oneself.http.fields import mpid_of
from oneself.http.wire import HttpError

__all__ = ["Cursor", "Query", "path_mpid", "path_number", "path_position"]

MOST_CHARACTERS: Final = 4_096
MOST_MS: Final = 2**53
"""Times and positions are whole numbers that every JSON reader has exactly."""

_MOST_FIELDS: Final = 100
_INT64: Final = range(-(2**63), 2**63)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_WHOLE: Final = re.compile(r"-?[0-9]{1,16}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A place on a timeline, the latest first: what comes next is before it."""

    at_ms: int
    position: int


_cursors = msgspec.json.Decoder(Cursor)


def cursor_text(cursor: Cursor) -> str:
    """Return a cursor as clients send it back; what is in it is nobody's business."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


class Query:
    """The parameters of a request; those that are not named are an error, since a misspelt filter filters nothing.

    Each method returns one of them, or None (for text the empty string) where it is not there, and raises
    ``HttpError`` 400 where it is not what it must be.
    """

    def __init__(self, exchange: Exchange, *names: str) -> None:
        text = exchange.scope["query_string"]
        try:
            pairs = parse_qsl(
                text.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"
            )
        except ValueError:
            raise HttpError(400, "The query string is not URL-encoded UTF-8 of at most 100 parameters.") from None
        self._values: dict[str, str] = {}
        for name, value in pairs:
            if name not in names:
                known = ", ".join(names) or "none"
                raise _wrong(_shortened(name), f"no such parameter is known here; there are: {known}")
            if name in self._values:
                raise _wrong(name, "it is there twice")
            if not value or len(value) > MOST_CHARACTERS or "\0" in value:
                raise _wrong(name, f"it must be 1 to {MOST_CHARACTERS} characters, none of them NUL")
            self._values[name] = value

    def has(self, name: str) -> bool:
        """Tell whether a parameter is there."""
        return name in self._values

    def text(self, name: str) -> str:
        """Return a parameter as it is."""
        return self._values.get(name, "")

    def choice(self, name: str, allowed: Collection[str]) -> str:
        """Return a parameter that is one of some words."""
        value = self.text(name)
        if value and value not in allowed:
            raise _wrong(name, f"it must be one of {', '.join(sorted(allowed))}")
        return value

    def number(self, name: str, least: int, most: int) -> int | None:
        """Return a parameter that is a whole number."""
        value = self._values.get(name)
        if value is None:
            return None
        number = int(value) if _WHOLE.fullmatch(value) else None
        if number is None or not least <= number <= most:
            raise _wrong(name, f"it must be a whole number from {least} to {most}")
        return number

    def mpid(self, name: str) -> int | None:
        """Return a parameter that is an MPID."""
        value = self._values.get(name)
        if value is None:
            return None
        mpid = mpid_of(value, f"{name} (in the query)")
        if mpid is None:
            raise _wrong(name, "it is 0, which no user has")
        return mpid

    def moment(self, name: str, *, end: bool = False) -> int | None:
        """Return a parameter that is a time, in unix ms; of a date without a time its first ms, or its last."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            ms = int(value) if _WHOLE.fullmatch(value) else _parsed(value, end)
        except (ValueError, OverflowError):
            ms = MOST_MS + 1
        if not -MOST_MS <= ms <= MOST_MS:
            message = (
                "it must be a date such as 2026-01-31, a time such as 2026-01-31T10:15:00Z, or unix milliseconds"
            )
            raise _wrong(name, message)
        return ms

    def cursor(self, name: str) -> Cursor | None:
        """Return a parameter that is the ``next`` of an earlier answer."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            cursor = _cursors.decode(base64.b64decode(value + "=" * (-len(value) % 4), b"-_", validate=True))
        except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError):
            cursor = None
        if cursor is None or cursor.at_ms not in _INT64 or cursor.position not in _INT64:
            raise _wrong(name, "it must be the next of an earlier answer, as it was")
        return cursor


def _parsed(value: str, end: bool) -> int:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    ms = (moment - _EPOCH) // timedelta(milliseconds=1)
    return ms + _DAY // timedelta(milliseconds=1) - 1 if end and _DATE.fullmatch(value) else ms


def _wrong(name: str, what: str) -> HttpError:
    return HttpError(400, f"{name} (in the query): {what}.")


def _shortened(name: str) -> str:
    return name if len(name) <= 64 else name[:64] + "…"


def path_mpid(exchange: Exchange) -> int:
    """Return the MPID that a path names; raise ``HttpError`` 400 where it is none."""
    mpid = mpid_of(exchange.scope["path_params"]["mpid"], "mpid (in the path)")
    if mpid is None:
        raise HttpError(400, "mpid (in the path): it is 0, which no user has.")
    return mpid


def path_position(exchange: Exchange) -> int:
    """Return the journal position that a path names; raise ``HttpError`` 400 where it is none."""
    return path_number(exchange, "position", MOST_MS)


def path_number(exchange: Exchange, name: str, most: int) -> int:
    """Return the whole number from 1 on that a path names; raise ``HttpError`` 400 where it is none."""
    value = exchange.scope["path_params"][name]
    if not _WHOLE.fullmatch(value) or not 0 < int(value) <= most:
        raise HttpError(400, f"{name} (in the path): it must be a whole number from 1 on.")
    return int(value)
