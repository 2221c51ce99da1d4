"""What the journal says was held off, and which values decided for whom: one pass over it (docs/guards.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from oneself.history.guards.heavy import Counting, Heavy
from oneself.history.recorded import decode_request
from oneself.identity import Change, Create, Dropped, Link, Policy, Refused, Request, Step
from oneself.identity.values import normalise

__all__ = ["Deciding", "Group", "Notes", "Place", "deciding_value"]

_VALUES: Final = 200
_DECIDING: Final = 20_000

_NOTED: Final = re.compile(rb'"dropped":|"refused":|"contradicted:')
_LINK: Final = b'["link",'
_CREATE: Final = b'["create",'

Place = tuple[str, str, str, str]
"""Where something was held off: ``dropped``, ``refused`` or ``contradicted``, the space, the type, and why."""

Deciding = tuple[str, str, str]
"""A value that decided: its space, type and value."""


class _Trace(msgspec.Struct, frozen=True):
    dropped: tuple[Dropped, ...] = ()
    refused: tuple[Refused, ...] = ()
    steps: tuple[Step, ...] = ()


class _Decision(msgspec.Struct, frozen=True):
    trace: _Trace
    changes: tuple[Change, ...] = ()


class _Entry(msgspec.Struct, frozen=True):
    at_ms: int
    space: str
    input: str
    policy: int
    request: msgspec.Raw
    decision: _Decision


_decode: Final = msgspec.json.Decoder(_Entry).decode


class Group:
    """How often something was held off at one place, and for which values most often."""

    def __init__(self, counting: Counting) -> None:
        self.counting = counting
        self.values: Heavy[str] = Heavy(_VALUES)


class Notes:
    """What was held off, by place, and the values that found a profile which then got more identities.

    ``policies`` are all that ever decided, by scope and version.
    """

    def __init__(self, policies: Mapping[tuple[str, int], Policy]) -> None:
        self._policies = policies
        self.groups: dict[Place, Group] = {}
        self.deciding: Heavy[Deciding] = Heavy(_DECIDING)

    def take(self, position: int, body: bytes) -> None:
        """Take an entry, as JSON; those with nothing to note are not decoded."""
        links = _LINK in body and _CREATE not in body
        if not links and _NOTED.search(body) is None:
            return
        entry = _decode(body)
        noted = list(_held_off(entry))
        if links:
            value = self._deciding(entry)
            if value is not None:
                self.deciding.add(value, position, entry.at_ms, entry.input)
        for place, value_ in noted:
            group = self.groups.get(place)
            if group is None:
                group = self.groups[place] = Group(Counting.begin(position, entry.at_ms, entry.input))
            else:
                group.counting.add(position, entry.at_ms, entry.input)
            group.values.add(value_, position, entry.at_ms, entry.input)

    def _deciding(self, entry: _Entry) -> Deciding | None:
        scope = entry.space.rpartition("/")[0]
        policy = self._policies.get((scope, entry.policy))
        request = decode_request(bytes(entry.request))
        return deciding_value(request, entry.decision.trace.steps, entry.decision.changes, entry.space, policy)


def deciding_value(
    request: Request, steps: tuple[Step, ...] | list[Step], changes: object, space: str, policy: Policy | None
) -> Deciding | None:
    """Return the value that found the profile that a decision linked identities to; None where none did."""
    assert isinstance(changes, tuple | list)
    if not any(isinstance(change, Link) for change in changes) or any(isinstance(c, Create) for c in changes):
        return None
    for step in reversed(steps):
        if step.outcome in ("found", "narrowed"):
            sent = request.identities.get(step.type)
            region = None if policy is None else policy.phone_region
            return None if sent is None else (space, step.type, normalise(step.type, sent, region))
    return None


def _held_off(entry: _Entry) -> Iterator[tuple[Place, str]]:
    """Yield where a decision held something off, and the value."""
    space, trace = entry.space, entry.decision.trace
    for drop in trace.dropped:
        yield ("dropped", space, drop.type, drop.why), drop.value
    for refusal in trace.refused:
        yield ("refused", space, refusal.type, refusal.why), refusal.value
    sent: Mapping[str, str | None] | None = None
    for step in trace.steps:
        for reason in dict.fromkeys(seen.passed for seen in step.seen if seen.passed.startswith("contradicted:")):
            if sent is None:
                sent = decode_request(bytes(entry.request)).identities
            yield ("contradicted", space, step.type, reason.partition(":")[2]), sent.get(step.type) or ""
