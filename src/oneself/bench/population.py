"""The made-up people of the benchmarks: every identity is a function of a number (docs/benchmarks.md).

Numbers are spread over the whole key space, as the random identifiers of real clients are, so that
neighbours in time are no neighbours in an index.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from oneself.identity import Identity

__all__ = [
    "NEW",
    "Population",
    "customer_id",
    "device",
    "email",
    "identities_of",
    "mpid",
    "spread",
    "stored",
    "uuid",
]

NEW: Final = 1 << 40
"""Devices and customers from this number on are not stored beforehand."""

_MASK: Final = (1 << 64) - 1
_ODD: Final = 0x9E3779B97F4A7C15
_ALSO_ODD: Final = 0xD1B54A32D192ED03


def spread(number: int) -> int:
    """Return 64 bits that look random and differ for every number below 2**64."""
    mixed = (number * _ODD) & _MASK
    mixed ^= mixed >> 32
    return (mixed * _ALSO_ODD) & _MASK


def uuid(number: int) -> str:
    """Return a number's UUID, version 4 in form."""
    high = spread(number)
    text = f"{high:016x}{(high * _ODD) & _MASK:016x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def device(number: int) -> str:
    """Return the device application stamp of a device."""
    return uuid(number)


def customer_id(number: int) -> str:
    """Return the customer id of a user."""
    return f"c-{spread(number ^ 0x5555) >> 8:014x}"


def email(number: int) -> str:
    """Return the e-mail address of a user."""
    return f"u{spread(number ^ 0x3333) >> 8:014x}@example.com"


def mpid(number: int) -> int:
    """Return the MPID of a stored profile: signed 64 bits, never 0."""
    bits = spread(number ^ 0x7777)
    return (bits - (1 << 64) if bits >> 63 else bits) or 1


class Population(msgspec.Struct, frozen=True):
    """Who is stored before a measurement: ``identities`` is their number, all types together.

    Three in four identities belong to known users, who have a customer id, an e-mail address and a device;
    the rest are the devices of anonymous visitors. Profile ``n`` has device ``n``; the known come first.
    """

    identities: int

    @property
    def known(self) -> int:
        """Return the number of known users."""
        return self.identities // 4

    @property
    def profiles(self) -> int:
        """Return the number of profiles, known and anonymous."""
        return self.identities - 2 * self.known


def identities_of(population: Population, number: int) -> list[Identity]:
    """Return the identities of a stored profile."""
    if number >= population.known:
        return [("device_application_stamp", device(number))]
    return [
        ("customerid", customer_id(number)),
        ("email", email(number)),
        ("device_application_stamp", device(number)),
    ]


def stored(population: Population) -> Iterator[tuple[int, list[Identity]]]:
    """Yield each stored profile's MPID with its identities, the known users first."""
    for number in range(population.profiles):
        yield mpid(number), identities_of(population, number)
