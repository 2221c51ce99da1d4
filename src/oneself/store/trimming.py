"""A step of retention: what is left of batches whose events are no longer kept (docs/retention.md)."""

from __future__ import annotations

from oneself.journal import BatchRecord, encode_batch
from oneself.profiles import remainder
from oneself.store.reading import NAMED_EVENTS, Trimmed, Trimming
from oneself.store.revising import owner_of

__all__ = ["TrimmingStep"]


class TrimmingStep:
    """The batches of one step, as they are found."""

    def __init__(self) -> None:
        self._events = 0
        self._names: set[tuple[str, str]] = set()
        self._rewrites: dict[int, bytes | None] = {}
        self._rows: list[Trimmed] = []

    def take(self, position: int, record: BatchRecord, mpid: int | None, workspace: str) -> None:
        """Add a batch that has its events still; ``mpid`` is the answer of its entry."""
        if record.trimmed:
            return
        batch, mpid = record.batch, owner_of(record, mpid)
        self._events += len(record.quarantined) + (0 if batch is None else len(batch.events))
        if batch is not None:
            self._names |= {(workspace, event.name) for event in batch.events if event.type in NAMED_EVENTS}
        if batch is None or mpid is None:  # no profile is made of it
            self._rewrites[position] = None
            return
        self._rewrites[position] = encode_batch(BatchRecord(remainder(batch), trimmed=True, moved_to=record.moved_to))
        self._rows.append(Trimmed(mpid, workspace, batch.at_ms, position))

    def end(self, through: int, at: int) -> Trimming:
        """Return the step, for which the journal was looked at when it ended at a position."""
        names = tuple(sorted(self._names))
        return Trimming(through, len(self._rewrites), self._events, names, self._rewrites, tuple(self._rows), at)
