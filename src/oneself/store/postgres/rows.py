"""The rows of a group as columns, table by table: what the statements that write it take."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any
from zlib import crc32

from oneself.journal import BatchRecord, Entry, encode, encode_batch
from oneself.store.postgres.bodies import encoded, profile_body
from oneself.store.postgres.packs import packed
from oneself.store.postgres.statements import Rows
from oneself.store.reading import Effects, events_of

__all__ = ["Bodies", "rows_of", "takes_rows_away", "text"]

_EVENTS = events_of("")

text = str.encode
"""Text is kept as UTF-8."""


class Bodies:
    """A group's entries and batches, encoded; they do not depend on where the group comes to stand.

    ``packs`` have the entries, as if the group came to stand at ``first``.
    """

    def __init__(self, effects: Effects) -> None:
        self.first = effects.entries[0][0]
        self.packs = list(packed(effects.entries, [encode(entry) for _, entry in effects.entries]))
        self.batches = [encode_batch(record) for record in effects.batches.values()]


def takes_rows_away(effects: Effects) -> bool:
    """Tell whether a group does more than put rows into tables."""
    if effects.unlinked or effects.expired or effects.swept or effects.remainders or effects.discarded:
        return True
    if effects.history_gone or effects.cleared or effects.nobody:
        return True
    return None in effects.guarded.values() or None in effects.further.values() or bool(effects.rewrites)


def rows_of(
    effects: Effects,
    bodies: Bodies,
    commit_id: bytes,
    inputs: Iterable[str],
    created: Collection[int],
    forgotten: Collection[bytes],
) -> Rows:
    """Return the columns of all that a group changes.

    ``inputs`` are those that were never heard before, ``created`` the profiles that were not there before, and
    ``forgotten`` the keys of requests whose old rows still are.
    """
    last = effects.entries[-1][0]
    made: Rows = {}

    def put(name: str, rows: Iterable[tuple[Any, ...]]) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)]
        if columns:
            made[name] = columns

    put("entry", _entries(bodies, effects.entries[0][0] - bodies.first, commit_id))
    profiles = [(mpid, text(of), p.created, profile_body(p)) for mpid, (of, p) in effects.profiles.items()]
    put("profile", (row for row in profiles if row[0] in created))
    put("profile_again", (row for row in profiles if row[0] not in created))
    put("holder", effects.linked)
    put("request", (row for row in effects.requests.items() if row[0] not in forgotten))
    put("request_again", (row for row in effects.requests.items() if row[0] in forgotten))
    put("profile_decision", effects.concerned)
    put("input", ((text(name),) for name in inputs))
    if effects.unlinked or effects.further or effects.history or effects.history_gone:
        _take_left(effects, put)
    if effects.guarded or effects.aliases:
        _take_rare(effects, last, put)
    if effects.batches or effects.people or effects.activity:
        _take_batches(effects, bodies, put)
    if effects.expired or effects.gone or effects.cleared or effects.nobody:
        _take_expired(effects, put)
    _take_upkeep(effects, put)
    return made


def _entries(bodies: Bodies, by: int, commit_id: bytes) -> Iterator[tuple[int, int, bytes | None, int, bytes, int]]:
    mark: bytes | None = commit_id
    for position, at_ms, body, count in bodies.packs:
        yield position + by, at_ms, mark, crc32(body), body, count
        mark = None


def _take_left(effects: Effects, put: Any) -> None:
    put("unlinked", effects.unlinked)
    put("history_gone", ((mpid, at, text(type_), text(value)) for mpid, at, type_, value in effects.history_gone))
    further = [(mpid, text(type_), text(value), at) for (mpid, type_, value), at in effects.further.items()]
    put("further_gone", (row[:3] for row in further if row[3] is None))
    put("further_identity", (row for row in further if row[3] is not None))
    put(
        "identity_history",
        (
            (row.mpid, row.ended, text(row.type), text(row.value), row.linked, text(row.why), row.moved_to)
            for row in effects.history
        ),
    )


def _take_rare(effects: Effects, last: int, put: Any) -> None:
    put("released", ((key, last) for key, guard in effects.guarded.items() if guard is None))
    guards = ((key, guard) for key, guard in effects.guarded.items() if guard is not None)
    put(
        "guarded_value",
        (
            (key, text(space), text(type_), text(value), text(why), at, False)
            for key, (space, type_, value, why, at) in guards
        ),
    )
    put("guard_decision", effects.guarding)
    put(
        "alias",
        (
            (
                at, text(space), row.source, row.destination, row.start_ms, row.end_ms, row.due_ms, text(row.scope),
                text(row.device), text(row.outcome), text(row.why), row.processed,
            )
            for at, (space, row) in effects.aliases.items()
        ),
    )  # fmt: skip


def _take_batches(effects: Effects, bodies: Bodies, put: Any) -> None:
    entries = dict(effects.entries)
    put("batch", _batches(effects.batches, entries, bodies.batches))
    put("person", ((mpid, encoded(person)) for mpid, person in effects.people.items()))
    put(
        "workspace_profile",
        (
            (mpid, text(workspace), known.stored_ms, encoded(known))
            for (mpid, workspace), known in effects.workspaces.items()
        ),
    )
    put(
        "device",
        ((at.mpid, text(at.workspace), text(at.device), encoded(device)) for at, device in effects.devices.items()),
    )
    put(
        "activity",
        (
            (
                row.mpid, text(row.workspace), row.at_ms, row.position, row.first_ms, text(row.input),
                text(row.device), row.events,
            )
            for row in effects.activity
        ),
    )  # fmt: skip
    put(
        "quarantined",
        (
            (text(row.workspace), row.position, text(row.input), row.at_ms, row.events, text(row.reason))
            for row in effects.quarantined
        ),
    )
    put("event_name", ((text(workspace), text(name)) for workspace, name in effects.event_names))


def _batches(
    records: dict[int, BatchRecord], entries: dict[int, Entry], bodies: list[bytes]
) -> Iterator[tuple[int, int | None, bytes, int, bytes]]:
    for (position, record), body in zip(records.items(), bodies, strict=True):
        entry = entries[position]
        mpid = entry.decision.mpid if record.batch is not None else None
        yield position, mpid, text(entry.input.partition("/")[0]), crc32(body), body


def _take_expired(effects: Effects, put: Any) -> None:
    last = effects.entries[-1][0]
    emptied = effects.expired.keys() | effects.cleared
    places = [(mpid, text(workspace)) for mpid, workspace in emptied]
    put("expired_profile", ((mpid, last) for mpid in {mpid for mpid, _ in emptied} | effects.nobody))
    put("left", ((row.mpid, text(row.workspace), row.at_ms, row.position) for row in effects.left))
    put("remainder_left", effects.remainders_left)
    put("expired_workspace", places)
    put("expired_devices", places)
    put("gone_person", ((mpid,) for mpid in effects.gone.keys() | effects.nobody))


def _take_upkeep(effects: Effects, put: Any) -> None:
    if not (effects.swept or effects.remainders or effects.gone or effects.discarded or effects.rewrites):
        return
    rewrites = effects.rewrites.items()
    put("rewritten", ((at, crc32(body), body) for at, body in rewrites if body is not None))
    put("deleted", ((at,) for at, body in rewrites if body is None))
    trimmed = effects.trimmed
    put("trimmed", ((r.mpid, text(r.workspace), r.at_ms, r.position) for r in trimmed if r.at_ms is not None))
    put("trimmed_some_time", ((r.mpid, text(r.workspace), r.position) for r in trimmed if r.at_ms is None))
    swept = effects.swept.items()
    put("cleared", ((text(what.removeprefix(_EVENTS)), at) for what, at in swept if what.startswith(_EVENTS)))
    put("trimmed_loose", ((position,) for _, position in effects.remainders))
    put("remainder", effects.remainders)
    for name in ("loosened", "gone_remainder", "loosened_whole"):
        put(name, effects.gone.items())
    put("discarded", ((position,) for position in effects.discarded))
    put("swept", ((text(what), through) for what, through in swept))
