"""What a workspace knows, as tables keep it: the values of attributes apart from what is known of their writes.

Whoever only shows a profile takes the values as they stand there, without a look at anything else. Nearly every
attribute has one write that counts, and many came by one batch: those in a row that did take one ``Run``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import msgspec

from oneself.profiles.model import AttributeValue, WorkspaceProfile, Write
from oneself.profiles.priority import values_of

__all__ = ["Run", "WorkspaceRow", "apart", "together"]

Values = dict[str, AttributeValue]


class Run(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """So many attributes in a row whose only write came by one batch; as in ``Write``."""

    count: int
    rank: int
    at_ms: int
    position: int


class WorkspaceRow(WorkspaceProfile, frozen=True, omit_defaults=True, gc=False):
    """A workspace profile beside which the values of its attributes stand.

    ``runs`` tells the writes of all attributes, in the order of their values; where one of them has other writes than
    that, there are none, and ``attributes`` has everything.
    """

    runs: tuple[Run, ...] = ()


def apart(known: WorkspaceProfile) -> tuple[Values, WorkspaceProfile]:
    """Return the attributes that have a value, and the row that stands beside them."""
    values: Values = {}
    runs: list[Run] = []
    count = rank = at_ms = position = 0
    for name, writes in known.attributes.items():
        write = writes[0]
        if write.deleted or len(writes) > 1:
            return values_of(known.attributes), known
        values[name] = write.value
        if write.position == position and write.at_ms == at_ms and write.rank == rank:
            count += 1
            continue
        if count:
            runs.append(Run(count, rank, at_ms, position))
        count, rank, at_ms, position = 1, write.rank, write.at_ms, write.position
    if count:
        runs.append(Run(count, rank, at_ms, position))
    return values, WorkspaceRow(
        known.first_seen_ms,
        known.last_seen_ms,
        known.stored_ms,
        {},
        known.consent,
        known.inputs,
        known.device,
        known.attribution,
        tuple(runs),
    )


def together(values: Mapping[str, AttributeValue] | None, row: WorkspaceRow) -> WorkspaceProfile:
    """Return what a workspace knows, of its row and the values that stand beside it."""
    attributes = row.attributes
    if row.runs and values:
        attributes = {}
        named = iter(values.items())
        for run in row.runs:
            rank, at_ms, position = run.rank, run.at_ms, run.position
            for name, value in islice(named, run.count):
                attributes[name] = (Write(rank, at_ms, position, value),)
    return WorkspaceProfile(
        row.first_seen_ms,
        row.last_seen_ms,
        row.stored_ms,
        attributes,
        row.consent,
        row.inputs,
        row.device,
        row.attribution,
    )
