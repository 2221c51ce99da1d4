"""What the report of guards tells, as values that encode to JSON (docs/guards.md)."""

from __future__ import annotations

from typing import Literal

import msgspec

from oneself.history.guards.heavy import Counting

__all__ = [
    "CrowdedProfile", "DecidingValue", "GuardedValue", "GuardsSeen", "HeldOff", "Quarantine", "SharedValue",
    "TypeCount", "ValueCount",
]  # fmt: skip


class ValueCount(msgspec.Struct, frozen=True):
    """How often a value was held off; ``more`` tells that it may be more often."""

    value: str
    count: int
    more: bool


class GuardedValue(msgspec.Struct, frozen=True):
    """A value that finds nobody: why, since which decision, by which input and request it came to that.

    ``holders`` hold it, 100 at the most, ``known`` of them are known users; ``held_off`` says how often it was sent
    since and did not count.
    """

    space: str
    type: str
    value: str
    why: str
    since: int
    since_ms: int
    input: str
    request_id: str
    holders: list[str]
    known: int
    held_off: Counting | None
    advice: list[str]


class SharedValue(msgspec.Struct, frozen=True):
    """A value at or near the limit of known users who may share it; where that is off, ``limit`` is the usual one.

    ``holders`` counts all who hold it, ``known`` the known users among the 100 of them who were linked last.
    """

    space: str
    type: str
    value: str
    holders: int
    known: int
    limit: int
    guard: bool
    advice: list[str]


class DecidingValue(msgspec.Struct, frozen=True):
    """A value that found a profile for unusually many requests which brought it further identities.

    ``mpid`` is who holds it now, None where nobody or several do.
    """

    space: str
    type: str
    value: str
    requests: Counting
    more: bool
    mpid: str | None
    advice: list[str]


class TypeCount(msgspec.Struct, frozen=True):
    """How many values of a type a profile holds, and how many of it newer ones took the place of."""

    type: str
    held: int
    replaced: int


class CrowdedProfile(msgspec.Struct, frozen=True):
    """A profile with unusually many values of a type, at or near the limit of that.

    ``deciding`` are the values that found it most often among its latest ``read`` decisions, with how often.
    """

    mpid: str
    space: str
    types: list[TypeCount]
    limit: int
    guard: bool
    made: int
    latest: int
    read: int
    deciding: list[tuple[str, str, int]]
    advice: list[str]


class HeldOff(msgspec.Struct, frozen=True):
    """Values that did not count, links that were refused, or candidates that a request contradicted, of one type.

    ``why`` is the reason, of a contradiction the type that the request names another account by.
    """

    what: Literal["dropped", "refused", "contradicted"]
    space: str
    type: str
    why: str
    counting: Counting
    values: list[ValueCount]
    advice: list[str]


class Quarantine(msgspec.Struct, frozen=True):
    """Batches or events that an input sent and that were set aside for one reason; ``events`` counts single ones."""

    workspace: str
    reason: str
    counting: Counting
    events: int
    advice: list[str]


class GuardsSeen(msgspec.Struct, frozen=True):
    """The report: over which decisions it goes, and what was found, the most of each first; ``…_total`` count all."""

    first: int
    last: int
    guarded: list[GuardedValue]
    guarded_total: int
    shared: list[SharedValue]
    deciding: list[DecidingValue]
    profiles: list[CrowdedProfile]
    held_off: list[HeldOff]
    quarantine: list[Quarantine]

    @property
    def found(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.guarded or self.shared or self.deciding or self.profiles or self.held_off or self.quarantine)
