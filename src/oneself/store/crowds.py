"""What many share: the parts in which the tables are looked through for values and profiles in crowds."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from oneself.store.reading import History

__all__ = ["PARTS", "Crowds", "IdentityPast", "mpids_of"]

PARTS: Final = 256
"""Tables are looked through in so many parts, by the first byte of their keys."""

_SPAN: Final = (1 << 64) // PARTS


class Crowds(NamedTuple):
    """What a part of the tables has in crowds; what is in memory only is counted, too, and nothing taken off for it.

    ``values`` has by holder key how many hold a value, and a position at which it was linked; ``further`` counts by
    profile and type the values that its record has no room for, ``replaced`` those that newer ones took the place of.
    """

    values: dict[bytes, tuple[int, int]]
    further: dict[tuple[int, str], int]
    replaced: dict[tuple[int, str], int]


class IdentityPast(msgspec.Struct, frozen=True):
    """What became of an identity: who lost it, the latest first, and which decisions guarded or released it.

    ``guards`` are positions, in their order.
    """

    lost: list[History]
    guards: list[int]


def mpids_of(part: int) -> tuple[int, int]:
    """Return the first and the last MPID of a part."""
    first = part * _SPAN - (1 << 63)
    return first, first + _SPAN - 1
