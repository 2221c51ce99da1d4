"""The users of the profile benchmarks: everything of one is a function of a number (docs/benchmarks.md)."""

from __future__ import annotations

from functools import cache
from typing import Final

import msgspec

from oneself.bench.population import NEW, mpid, spread, uuid

__all__ = ["BUSY", "CROWDED", "MAX_DEVICES", "Users", "attribute_name", "stamp"]

BUSY: Final = NEW + (1 << 35)
"""The user with many events."""

CROWDED: Final = BUSY + 1
"""The user with many devices."""

MAX_DEVICES: Final = 15
"""Of an ordinary user."""

_DEVICES = 36  # bits of a user's number; the place of a device among the user's own stands before them
_LIST_EVERY = 10  # attributes


class Users(msgspec.Struct, frozen=True):
    """Who is stored beforehand: ``profiles`` ordinary users, numbered from 0, each known by customer id and e-mail.

    Each of a user's ``devices`` has sent one batch of ``events`` events, and the first one all ``attributes``.
    With a ``crowd``, ``BUSY`` has that many events, and ``CROWDED`` that many devices.
    """

    profiles: int
    devices: int = 1
    attributes: int = 10
    events: int = 3
    crowd: int = 0

    def mpid(self, number: int) -> int:
        """Return a user's MPID; those of stored users rise with their numbers, spread over the whole range."""
        if number >= self.profiles:
            return mpid(number)
        width = (1 << 64) // self.profiles
        return (number * width + spread(number) % width - (1 << 63)) or 1

    def values(self, number: int) -> dict[str, str | list[str]]:
        """Return a user's attributes as they were stored: ten letters or so each, every tenth a list of three."""
        text = uuid(number ^ 0x2222)
        values: dict[str, str | list[str]] = {}
        for place in range(self.attributes):
            value = f"{place}-{text[place % 28 : place % 28 + 8]}"
            listed = place % _LIST_EVERY == _LIST_EVERY - 1
            values[attribute_name(place)] = [value, f"{value}-2", f"{value}-3"] if listed else value
        return values


@cache
def attribute_name(place: int) -> str:
    """Return the name of an attribute."""
    return f"attribute_{place:02d}"


def stamp(number: int, place: int) -> str:
    """Return the application stamp of a user's device."""
    return uuid(number + (place << _DEVICES))
