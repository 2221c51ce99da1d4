"""Changes that make what was decided undone: they speak of the past, at positions of their own (docs/undo.md).

They are found in the decisions of undos and splits alone. Each says how a row is from now on, so that the state comes
to be what other decisions at those positions would have made it.
"""

from __future__ import annotations

import msgspec

__all__ = ["Move", "NoPast", "Past", "Reguard", "Remove", "Restore", "Revive", "Withdraw"]


class Remove(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="change", tag="remove"):
    """A profile that holds nothing any more was never made; its MPID is nobody's, and never given again."""

    mpid: int


class Revive(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="change", tag="revive"):
    """A profile, empty as yet, was made at a position."""

    mpid: int
    created: int


class Restore(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="change", tag="restore"):
    """An identity was linked to a profile at a position, and is held."""

    mpid: int
    type: str
    value: str
    linked: int


class Withdraw(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="change", tag="withdraw"):
    """An identity that a profile holds was not linked to it; its history tells nothing of it."""

    mpid: int
    type: str
    value: str


class Past(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="change", tag="past"):
    """An identity left a profile at a position: a row of its history."""

    mpid: int
    ended: int
    type: str
    value: str
    linked: int
    why: str
    moved_to: int = 0


class NoPast(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="change", tag="no_past"):
    """An identity did not leave a profile at a position: no row of its history."""

    mpid: int
    ended: int
    type: str
    value: str


class Reguard(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="change", tag="reguard"):
    """An identity value has been guarded since a position."""

    type: str
    value: str
    why: str
    since: int


class Move(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="change", tag="move"):
    """The batches at some positions are those of another profile; 0 stands for nobody."""

    source: int
    target: int
    positions: tuple[int, ...]
