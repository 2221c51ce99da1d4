"""Taking rows in by an engine in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from oneself.bulk.checkpoint import Counts
from oneself.bulk.importing import Taken
from oneself.bulk.model import Rejected
from oneself.engine import Call, Engine, Outcome, delivery
from oneself.profiles import BatchError, Source

__all__ = ["EngineTaker", "check_row", "set_aside"]

Numbered = tuple[int, dict[str, Any]]


class _Lot(NamedTuple):
    """Rows that are taken in together, their calls, and rows that cannot be."""

    rows: list[Numbered]
    calls: list[Call]
    rejected: list[Rejected]


class EngineTaker:
    """Takes rows in through an engine; each lot of rows becomes durable as one."""

    def __init__(
        self,
        engine: Engine,
        source: Source,
        *,
        scope: str,
        max_event_names: int = 0,
        historical: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to take in rows of an input; ``clock`` gives unix seconds."""
        self._engine = engine
        self._source = source
        self._scope = scope
        self._max_event_names = max_event_names
        self._historical = historical
        self._clock = clock

    @property
    def position(self) -> int:
        """The journal's position."""
        return self._engine.store.position

    def begin(self, rows: Sequence[Numbered], *, tabular: bool) -> Awaitable[Taken]:
        """Begin to take rows in; of a table a row is rejected that has no identity, or an event that is none."""
        received_ms = int(self._clock() * 1000)
        lot = _Lot([], [], [])
        for number, document in rows:
            try:
                call = self._call(document, received_ms)
                if tabular:
                    check_row(call)
            except BatchError as error:
                lot.rejected.append(Rejected(number, str(error), document))
            else:
                lot.rows.append((number, document))
                lot.calls.append(call)
        return _outcome(lot, self._engine.submit_all(lot.calls))

    def _call(self, document: dict[str, Any], received_ms: int) -> Call:
        ip = document.get("ip") if self._source.platform else None
        return delivery(
            document,
            self._source,
            received_ms,
            scope=self._scope,
            ip=ip if isinstance(ip, str) else "",
            historical=self._historical,
            refuse=True,
            max_event_names=self._max_event_names,
        )


def check_row(call: Call) -> None:
    """Raise ``BatchError`` where a row of a table says nothing of its user, or has an event that is none."""
    brought = call.delivery
    assert brought is not None
    assert brought.batch is not None
    if not brought.batch.identities and brought.batch.mpid is None:
        raise BatchError("", "it has no MPID and no identity of a user or a device")
    for bad in brought.quarantined:
        raise BatchError("events", bad.reason)


def set_aside(number: int, call: Call) -> list[Rejected]:
    """Return the events of a row that cannot be used, while the rest of it can."""
    brought = call.delivery
    assert brought is not None
    return [
        Rejected(number, f"events[{bad.index}]: {bad.reason}; the rest of the batch was taken in", bad.event)
        for bad in brought.quarantined
    ]


async def _outcome(lot: _Lot, futures: list[asyncio.Future[Outcome]]) -> Taken:
    """Wait until rows are durable, and tell what became of them."""
    counts, rejected = Counts(rejected=len(lot.rejected)), lot.rejected
    if futures:
        await asyncio.wait(futures[-1:])  # they are answered in their order, and a callback for each would cost much
    failures = [error for future in futures if (error := future.exception()) is not None]
    if failures:
        raise failures[0]
    for (number, document), call, future in zip(lot.rows, lot.calls, futures, strict=True):
        outcome = future.result()
        decision = outcome.decision
        if decision.error is not None:
            counts.rejected += 1
            rejected.append(Rejected(number, decision.error.message, document))
        elif decision.trace.why == "user_unknown":
            counts.unknown += 1
        else:
            counts.taken += 1
            counts.repeated += outcome.repeated
            aside = set_aside(number, call)
            counts.set_aside += len(aside)
            rejected += aside
    return Taken(counts, rejected)
