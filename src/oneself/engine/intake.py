"""Taking batches in: reading them, leaving out what came before, and setting aside what cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oneself.engine.calls import Call, Delivery
from oneself.identity import Request
from oneself.journal import BatchRecord
from oneself.profiles import Batch, BatchError, Event, Quarantined, Source, read_batch
from oneself.store import NAMED_EVENTS
from oneself.store.keys import event_key

__all__ = ["EventNames", "delivery", "misfit", "record_of", "workspaces_of"]


def delivery(
    document: Any,
    source: Source,
    received_ms: int,
    *,
    scope: str,
    ip: str = "",
    historical: bool = False,
    refuse: bool = False,
    max_event_names: int = 0,
) -> Call:
    """Return the call that takes a batch in; raise ``BatchError`` where the document is none.

    ``document`` is decoded JSON with exact integers; ``scope`` is that of the input's workspace; ``ip`` is the
    address that the request came from; ``refuse`` answers a batch that finds no user by its nature with an error
    instead of setting it aside.
    """
    batch, quarantined = read_batch(document, source, received_ms, ip=ip, historical=historical)
    request = Request("batch", {**batch.identities}, mpid=batch.mpid, protection=source.protection)
    brought = Delivery(document, batch, quarantined, "", refuse, ip, historical, max_event_names)
    return Call(f"{scope}/{batch.environment}", source.input, request, batch.request_id, delivery=brought)


def misfit(document: Any, source: Source, error: BatchError, *, scope: str) -> Call:
    """Return the call that sets aside a document that is no batch, with the reason."""
    request = Request("batch", protection=source.protection)
    return Call(f"{scope}/production", source.input, request, delivery=Delivery(document, None, reason=str(error)))


def record_of(
    brought: Delivery, batch: Batch, keys: Sequence[bytes], seen: Mapping[bytes, int], names: EventNames
) -> BatchRecord:
    """Return what is kept of a batch: no event that came before, in it or earlier, or whose name is one too many.

    ``keys`` are those of its events, ``seen`` has the keys of events that were taken in. Where events are left out
    the rest is read anew, since what a batch does is told by its events.
    """
    events = list(enumerate(batch.events))
    if brought.quarantined:
        aside = {bad.index for bad in brought.quarantined}
        places = (place for place in range(len(brought.document["events"])) if place not in aside)
        events = list(zip(places, batch.events, strict=True))
    came: set[int] = set()
    if not seen.keys().isdisjoint(keys) or len(set(keys)) < len(keys):
        came = _came_before(batch.source.input, events, seen)
        events = [one for one in events if one[0] not in came]
    over = names.over(batch.source.workspace, events, brought.max_event_names)
    if not came and not over:
        return BatchRecord(batch, brought.quarantined)
    fresh, _ = read_batch(
        brought.document,
        batch.source,
        batch.received_ms,
        ip=brought.ip,
        historical=batch.historical,
        without=came | over,
    )
    reason = f"too_many_names: the workspace has {brought.max_event_names} names of events and screens already"
    refused = [Quarantined(place, reason, brought.document["events"][place]) for place in over]
    return BatchRecord(fresh, tuple(sorted([*brought.quarantined, *refused], key=lambda bad: bad.index)))


def _came_before(input_: str, events: Sequence[tuple[int, Event]], seen: Mapping[bytes, int]) -> set[int]:
    """Return the places of events whose id an event before them had, in the batch or earlier."""
    came: set[int] = set()
    ids: set[str] = set()
    for place, event in events:
        if event.id:
            if event.id in ids or event_key(input_, event.id) in seen:
                came.add(place)
            ids.add(event.id)
    return came


class EventNames:
    """The names of events and screens that workspaces have seen, with those that a group adds."""

    def __init__(self, seen: Mapping[str, set[str]]) -> None:
        self._seen = seen
        self._added: dict[str, set[str]] = {}

    def over(self, workspace: str, events: Iterable[tuple[int, Event]], limit: int) -> set[int]:
        """Return the places of events whose names would be too many, and remember the other names; 0 is no limit."""
        over: set[int] = set()
        if not limit:
            return over
        seen, added = self._seen[workspace], self._added.setdefault(workspace, set())
        for place, event in events:
            name = event.name
            if event.type in NAMED_EVENTS and name not in seen and name not in added:
                if len(seen) + len(added) >= limit:
                    over.add(place)
                else:
                    added.add(name)
        return over


def workspaces_of(deliveries: Iterable[Delivery]) -> set[str]:
    """Return the workspaces that batches come to."""
    return {brought.batch.source.workspace for brought in deliveries if brought.batch is not None}
