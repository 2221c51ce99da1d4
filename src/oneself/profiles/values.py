"""Single values as clients send them: times, texts, attribute names and values (docs/profiles.md)."""

from __future__ import annotations

from typing import Any, Final

from oneself.profiles.limits import AHEAD_MS, EARLIEST_MS, LATEST_MS, MAX_ENTRY, MAX_LIST, MAX_NAME, MAX_VALUE
from oneself.profiles.model import AttributeValue

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
_EXACT: Final = 2**53
"""Floating-point numbers hold every integer up to this exactly."""


def integer(value: object) -> int | None:
    """Return a whole number given as a number or a decimal string, or None where it is none.

    A number that arrived as floating point counts only where it is exact.
    """
    if type(value) is int:
        return value
    if type(value) is str:
        digits = value[1:] if value[:1] == "-" else value
        return int(value) if 0 < len(digits) < 20 and digits.isascii() and digits.isdigit() else None
    if type(value) is float and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return None


def time_of(value: object, received_ms: int) -> int:
    """Return a time in unix ms; 0 where the value is no such time.

    A time too far ahead of its arrival is the fault of a clock, and counts as the arrival.
    """
    time = value if type(value) is int else integer(value)
    if time is None or not EARLIEST_MS <= time <= LATEST_MS:
        return 0
    return time if time <= received_ms + AHEAD_MS else received_ms


def text(value: object) -> str | None:
    """Return a scalar as a profile stores it, numbers and booleans as JSON spells them; None where it is none."""
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int or type(value) is float:
        return str(value)
    return None


def short(value: object) -> str:
    """Return a scalar as text, cut to the length that values may have; empty where it is no scalar."""
    return (text(value) or "")[:MAX_VALUE]


def attribute_name(name: str) -> str:
    """Return a user attribute's name in its one spelling: a reserved one (``$``) in lower case, any cut to length."""
    if len(name) > MAX_NAME:
        name = name[:MAX_NAME]
    return name.lower() if name.startswith("$") else name


class Unfit(ValueError):
    """A value that cannot be an attribute's; the message says why in one word."""


def attribute_value(value: Any) -> AttributeValue:
    """Return a user attribute's value as a profile stores it; raise ``Unfit`` where it can be none."""
    if type(value) is str:
        if len(value) > MAX_VALUE:
            raise Unfit("value_too_long")
        return value
    if value is None:
        return None
    if type(value) is list:
        return _entries(value)
    written = text(value)
    if written is None:
        raise Unfit("not_a_value")
    if len(written) > MAX_VALUE:
        raise Unfit("value_too_long")
    return written


def _entries(value: list[Any]) -> tuple[str, ...]:
    if len(value) > MAX_LIST:
        raise Unfit("list_too_long")
    entries = []
    for entry in value:
        written = text(entry)
        if written is None:
            raise Unfit("not_a_value")
        if len(written) > MAX_ENTRY:
            raise Unfit("entry_too_long")
        entries.append(written)
    return tuple(entries)
