"""What was set aside, and taking it in again (docs/admin-api.md, "Quarantine")."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET

from oneself.config import Config
from oneself.engine import Call, delivery
from oneself.engine.sources import sources_of
from oneself.http.admin.access import ADMIN, Access, Place, answer, entries_at
from oneself.http.admin.batch_view import Outcome, QuarantinedView, quarantined_views
from oneself.http.admin.query import MOST_MS, Query, path_position
from oneself.http.body import read_body
from oneself.http.documents import check_nul, decoded
from oneself.http.exchange import Exchange
from oneself.http.ports import Engine
from oneself.http.wire import HttpError, Reply
from oneself.identity.names import USER_TYPES
from oneself.journal import BatchRecord, Entry
from oneself.profiles import Batch, BatchError
from oneself.store import REQUESTS, QuarantinedBatch, owner_of
from oneself.store.keys import batch_key

__all__ = ["QuarantineItem", "QuarantinePage", "QuarantineRoutes", "Replayed"]

MOST_ROWS: Final = 100
ROWS: Final = 20
"""Rows in one answer, where no limit is given."""

MOST_LOOKED_AT: Final = 5_000
"""One request looks through so many rows for those of an input."""

MOST_ATTEMPTS: Final = 100
"""A batch may be taken in again so many times without success."""

_TOO_OLD: Final = (
    "it is older than request ids are remembered, so that nobody can tell whether it was taken in again already; "
    "send it as a batch of its input"
)
_ROWS_AT_ONCE: Final = 250
_STAMP: Final = "device_application_stamp"


class QuarantineRow(msgspec.Struct, frozen=True):
    """A batch that was set aside whole, or ``events`` of one; ``reason`` is that of the batch or its first event."""

    position: int
    input: str
    at_ms: int
    whole: bool
    events: int
    reason: str


class QuarantinePage(msgspec.Struct, frozen=True):
    """What was set aside, the latest first; ``next`` is to be sent as ``before`` for the rest, null at the end."""

    rows: list[QuarantineRow]
    next: int | None


class Attempt(msgspec.Struct, frozen=True):
    """One time that something was taken in again: when, what became of it, and the batch's place in the journal."""

    position: int
    at_ms: int
    outcome: Outcome
    reason: str


class QuarantineItem(msgspec.Struct, frozen=True):
    """Something that was set aside, with its reasons.

    ``document`` is what a replay takes in: the batch as it was sent, or one that has the events that were set aside
    and what their batch said of user, device and application. It is null where the batch was too large to be kept.
    """

    position: int
    input: str
    kind: str
    at_ms: int
    mpid: str | None
    whole: bool
    reason: str
    events: list[QuarantinedView]
    document: Any
    attempts: list[Attempt]


class Replayed(msgspec.Struct, frozen=True):
    """What became of a replay.

    ``accepted``: ``position`` is the new batch's, ``events`` of it were taken in, and those in ``quarantined`` were
    set aside again, under that position. ``already_replayed``: an earlier replay was, and nothing was done.
    ``set_aside``: it cannot be used, for the ``reason``, and stays where it is; ``dropped``: the input may only
    update, and the user is unknown. The last two may be tried again.
    """

    outcome: Literal["accepted", "already_replayed", "set_aside", "dropped"]
    position: int | None = None
    mpid: str | None = None
    events: int = 0
    quarantined: list[QuarantinedView] = []
    reason: str = ""


class _Aside(NamedTuple):
    """What was set aside: its place in the journal, and what is there."""

    position: int
    entry: Entry
    record: BatchRecord


class QuarantineRoutes:
    """Answers what was set aside, and takes it in again."""

    def __init__(self, config: Config, access: Access, engine: Engine) -> None:
        self._access = access
        self._engine = engine
        self._sources = sources_of(config)

    async def rows(self, exchange: Exchange) -> Reply:
        """Answer what was set aside in a workspace."""
        place = await self._access.enter(exchange, ADMIN)
        query = Query(exchange, "before", "limit", "input")
        before = query.number("before", 1, MOST_MS) or MOST_MS
        limit = query.number("limit", 1, MOST_ROWS) or ROWS
        input_ = place.input_id(query.text("input"))
        rows: list[QuarantinedBatch] = []
        looked_at, found = 0, _ROWS_AT_ONCE
        while found == _ROWS_AT_ONCE and len(rows) < limit and looked_at < MOST_LOOKED_AT:
            chunk = await self._engine.store.quarantined(place.name, before=before, limit=_ROWS_AT_ONCE)
            found = len(chunk)
            looked_at += found
            for row in chunk:
                before = row.position
                if input_ in ("", row.input):
                    rows.append(row)
                    if len(rows) == limit:
                        break
            await asyncio.sleep(0)
        ended = len(rows) < limit and found < _ROWS_AT_ONCE
        return answer(QuarantinePage([_row(row) for row in rows], None if ended else before))

    async def item(self, exchange: Exchange) -> Reply:
        """Answer one thing that was set aside."""
        place = await self._access.enter(exchange, ADMIN)
        Query(exchange)
        position, entry, record = aside = await self._find(place, path_position(exchange))
        mpid = owner_of(record, entry.decision.mpid)
        return answer(
            QuarantineItem(
                position,
                entry.input,
                place.kinds.get(entry.input, ""),
                entry.at_ms,
                None if mpid is None else str(mpid),
                record.batch is None,
                record.reason,
                quarantined_views(record.quarantined),
                _document(aside),
                await self._attempts(aside),
            )
        )

    async def replay(self, exchange: Exchange) -> Reply:
        """Take in again what was set aside, as it was or as the body has it, and answer what became of it."""
        place = await self._access.enter(exchange, ADMIN)
        Query(exchange)
        position = path_position(exchange)
        edited = await _body(exchange, place.workspace.max_batch_bytes)
        aside = await self._find(place, position)
        if position <= await self._engine.store.swept(REQUESTS):
            return answer(Replayed("set_aside", reason=_TOO_OLD))
        attempts = await self._attempts(aside)
        if attempts and attempts[-1].outcome in ("taken", "kept"):
            return answer(Replayed("already_replayed", attempts[-1].position))
        if len(attempts) == MOST_ATTEMPTS:
            reason = f"it was tried {MOST_ATTEMPTS} times; send it as a batch of its input"
            return answer(Replayed("set_aside", reason=reason))
        try:
            call = self._call(place, aside, edited, len(attempts) + 1)
        except BatchError as error:
            if edited is not UNSET:
                raise HttpError(400, str(error)) from None
            return answer(Replayed("set_aside", reason=str(error)))
        bad = quarantined_views(call.delivery.quarantined) if call.delivery else []
        if edited is UNSET and aside.record.batch is not None and len(bad) == len(aside.record.quarantined):
            return answer(Replayed("set_aside", quarantined=bad, reason=bad[0].reason))  # nothing of it is of use
        return answer(await self._taken_in(call))

    async def _taken_in(self, call: Call) -> Replayed:
        """Take a batch in and say what became of it."""
        outcome = await self._engine.submit(call)
        decision = outcome.decision
        mpid = None if decision.mpid is None else str(decision.mpid)
        if decision.error is not None:
            return Replayed("set_aside", reason=decision.error.message)
        if decision.trace.why == "user_unknown":
            return Replayed("dropped", reason="The input may only update, and nobody has these identities.")
        if outcome.repeated:  # somebody else was just faster
            return Replayed("already_replayed", outcome.position, mpid)
        record = (await self._engine.store.batches([outcome.position])).get(outcome.position)
        if record is None or record.batch is None:
            raise HttpError(503, "What was taken in cannot be read back.", retry_after=1)
        return Replayed(
            "accepted", outcome.position, mpid, len(record.batch.events), quarantined_views(record.quarantined)
        )  # fmt: skip

    def _call(self, place: Place, aside: _Aside, edited: Any, attempt: int) -> Call:
        """Return the call that takes a batch in again by its input's present settings; raise ``BatchError``.

        It counts as arrived when it first did. Its request id lets one of all replays succeed, once.
        """
        input_ = aside.entry.input
        source = self._sources.get(input_)
        if source is None:
            raise BatchError("", f"the input {input_} is no longer configured")
        document = _document(aside) if edited is UNSET else edited
        if edited is UNSET and document is None:
            raise BatchError("", "it was too large to be kept; send a smaller one as the body of the replay")
        if not isinstance(document, dict):
            raise BatchError("", "a batch must be an object")
        document = {**document, "source_request_id": _request_id(aside.position, attempt)}
        batch = aside.record.batch
        return delivery(
            document,
            source,
            aside.entry.at_ms if batch is None else batch.received_ms,
            scope=place.workspace.scope,
            refuse=True,
            max_event_names=place.workspace.max_event_names,
        )

    async def _find(self, place: Place, position: int) -> _Aside:
        """Return what was set aside at a position; raise ``HttpError`` 404 where nothing was, in this workspace."""
        store = self._engine.store
        entry = await store.entry(position) if position <= store.position else None
        if entry is not None and entry.input.startswith(f"{place.name}/"):
            record = (await store.batches([position])).get(position)
            if record is not None and (record.quarantined or record.batch is None):
                return _Aside(position, entry, record)
        raise HttpError(404, "Nothing was set aside at this position, or it is no longer kept.")

    async def _attempts(self, aside: _Aside) -> list[Attempt]:
        """Return the replays so far, in their order; only the last one may have brought something in."""
        store = self._engine.store
        ids = [_request_id(aside.position, attempt) for attempt in range(1, MOST_ATTEMPTS + 1)]
        keys = [batch_key(aside.entry.input, id_) for id_ in ids]
        answered = (await store.read({}, keys)).answered
        positions = [answered[key] for key in keys if key in answered]
        entries = await entries_at(store, positions)
        return [_attempt(position, entries[position]) for position in positions if position in entries]


def _row(row: QuarantinedBatch) -> QuarantineRow:
    return QuarantineRow(row.position, row.input, row.at_ms, not row.events, row.events, row.reason)


def _attempt(position: int, entry: Entry) -> Attempt:
    """Return a replay as its entry tells of it, which is kept for good."""
    decision = entry.decision
    if decision.error is not None:
        return Attempt(position, entry.at_ms, "refused", decision.error.message)
    if decision.trace.why == "user_unknown":
        return Attempt(position, entry.at_ms, "dropped", "")
    return Attempt(position, entry.at_ms, "kept" if decision.mpid is None else "taken", "")


def _request_id(position: int, attempt: int) -> str:
    return f"replay:{position}" if attempt == 1 else f"replay:{position}:{attempt}"


async def _body(exchange: Exchange, limit: int) -> Any:
    """Return the document in a request's body; ``UNSET`` where there is no body."""
    headers = exchange.headers
    if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
        return UNSET
    exchange.body = await read_body(headers, exchange.receive, limit)
    document = decoded(exchange.body, 400)
    try:
        check_nul(exchange.body, document)
    except BatchError as error:
        raise HttpError(400, str(error)) from None
    return document


def _document(aside: _Aside) -> Any:
    """Return the document that a replay takes in, None where it is not kept."""
    record = aside.record
    if record.batch is None:
        return record.document
    events = [one.event for one in record.quarantined]
    return {"events": events, **_circumstances(record.batch, owner_of(record, aside.entry.decision.mpid))}


def _circumstances(batch: Batch, mpid: int | None) -> dict[str, Any]:
    """Return what a batch said of its user, device and application, as a document.

    The user is the one that was found then. What changed the profile is left out, since it has been taken in.
    """
    said: dict[str, Any] = {"environment": batch.environment, "mp_deviceid": batch.device or None}
    if mpid is None:
        mpid = batch.mpid
    if mpid is None:
        device = {type_: value for type_, value in batch.identities.items() if type_ not in USER_TYPES}
        said["mp_deviceid"] = device.pop(_STAMP, None)
        said["user_identities"] = {t: value for t, value in batch.identities.items() if t in USER_TYPES}
        said["device_info"] = device
    else:
        said["mpid"] = str(mpid)  # a web page has no exact number for it
    said |= {"application_info": batch.application_info, "context": batch.context, "sdk_version": batch.sdk_version}
    return {name: value for name, value in said.items() if value}
