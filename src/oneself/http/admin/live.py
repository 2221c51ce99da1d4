"""Batches as they become durable, as server-sent events (docs/admin-api.md, "Live stream")."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Final, Literal

import msgspec

from oneself.engine import ENVIRONMENTS
from oneself.errors import OneselfError
from oneself.http.admin.access import NO_STORE, Access, Place, entries_at
from oneself.http.admin.batch_view import BatchView, Outcome, batch_view, is_of_device, outcome_of
from oneself.http.admin.feed import Arrival, Feed, Reader, TooSlow
from oneself.http.admin.query import MOST_MS, Query
from oneself.http.exchange import Exchange
from oneself.http.ports import Engine
from oneself.http.tokens import LIFETIME_SECONDS, Tokens
from oneself.http.wire import CORS, Header, HttpError, Reply, Stream
from oneself.identity import Create, Link
from oneself.profiles import EVENT_TYPES, Event

__all__ = ["LiveMessage", "LiveRoutes"]

HEARTBEAT_SECONDS: Final = 15.0
"""A quiet stream says this often that it is alive, and how far it has come."""

FARTHEST_BACK: Final = 10_000
"""A stream resumes from at most so many decisions ago."""

_CHECK_SECONDS: Final = 1.0
_AT_ONCE: Final = 32
_RESUME_AT_ONCE: Final = 100
_PIECE_BYTES: Final = 256 * 1024

_HEADERS: Final[list[Header]] = [
    (b"content-type", b"text/event-stream"),
    NO_STORE,
    (b"x-accel-buffering", b"no"),  # a proxy is not to collect it
    *CORS,
]

_encode = msgspec.json.Encoder().encode


class LiveError(msgspec.Struct, frozen=True):
    """Why a batch was refused or set aside whole."""

    code: str
    message: str


class LiveMessage(msgspec.Struct, frozen=True):
    """One inbound batch: what became of it, and what it brought.

    ``why`` is how its user was found (as in the journal's traces), ``created`` whether the user is new, ``linked``
    the types of the identities that became the user's. ``environment`` is null where the document does not tell it.
    Of a batch of which nothing is kept ``batch`` is null, and ``identities`` are what it would have gone by.
    ``document`` is one that was set aside whole, as it was sent.
    """

    position: int
    at_ms: int
    input: str
    kind: str
    environment: str | None
    outcome: Outcome
    mpid: str | None
    known: bool
    created: bool
    why: str
    linked: list[str]
    error: LiveError | None
    identities: dict[str, str | None]
    batch: BatchView | None
    document: Any


Why = Literal["too_slow", "stopping", "token", "unavailable", "time", "gap"]


class LiveNote(msgspec.Struct, frozen=True):
    """Why a stream ends (``end``), or that it leaves something out (``gap``)."""

    why: Why
    message: str


_MEANINGS: Final[dict[Why, str]] = {
    "too_slow": "The stream was read more slowly than batches came in. Resume from the last id, or filter more.",
    "stopping": "The server is stopping.",
    "token": "The token has expired or was revoked.",
    "unavailable": "The journal cannot be read now.",
    "time": "The time that was asked for is over.",
    "gap": "The stream cannot resume from so far back; it goes on from now.",
}


class _Watch(msgspec.Struct, frozen=True):
    """What of a workspace's batches a stream is to show; empty and None stand for everything."""

    place: Place
    input: str
    device: str
    environment: str
    type: str
    mpid: int | None

    def wants(self, arrival: Arrival) -> bool:
        """Tell whether a batch is wanted."""
        entry, record = arrival.entry, arrival.record
        if entry.input.partition("/")[0] != self.place.name:
            return False
        batch = None if record is None else record.batch
        return (
            self.input in ("", entry.input)
            and (self.environment in ("", environment_of(arrival) or self.environment))
            and (self.mpid is None or self.mpid == entry.decision.mpid)
            and (not self.device or is_of_device(self.device, batch, entry))
            and (not self.type or self.type in _types(arrival))
        )

    def wants_event(self, event: Event) -> bool:
        """Tell whether an event of a batch that is wanted is."""
        return self.type in ("", event.type)


class LiveRoutes:
    """Streams what comes in."""

    def __init__(self, access: Access, tokens: Tokens, engine: Engine, feed: Feed) -> None:
        self._access = access
        self._tokens = tokens
        self._engine = engine
        self._feed = feed

    async def live(self, exchange: Exchange) -> Reply | Stream:
        """Answer with batches of a workspace as they become durable."""
        place = await self._access.enter(exchange)
        query = Query(exchange, "input", "device", "environment", "type", "mpid", "seconds")
        device, mpid = query.text("device"), query.mpid("mpid")
        environment = query.choice("environment", ENVIRONMENTS)
        watch = _Watch(
            place,
            place.input_id(query.text("input")),
            device,
            environment or ("" if device or mpid is not None else "development"),
            query.choice("type", EVENT_TYPES),
            mpid,
        )
        seconds = query.number("seconds", 0, LIFETIME_SECONDS)
        after = _last_id(exchange)
        if exchange.scope["method"] == "HEAD":
            return Reply(200, list(_HEADERS), b"")
        reader = self._feed.join(place.caller.client)
        ends = None if seconds is None else time.monotonic() + seconds
        pieces = self._pieces(exchange, watch, reader, after, ends)
        return Stream(200, list(_HEADERS), pieces, reader.leave)

    async def _pieces(
        self, exchange: Exchange, watch: _Watch, reader: Reader, after: int | None, ends: float | None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the stream: what came since ``after``, what comes, and why it ends."""
        start = max(self._engine.store.position, self._feed.position)
        yield b": the live stream of Oneself\nid: %d\n\n" % (start if after is None else after)
        sent = 0  # every batch up to this position was shown, or is not wanted
        try:
            if after is not None:
                sent = start
                if start - after > FARTHEST_BACK:
                    yield _named("gap", "gap")
                else:
                    async for piece in self._since(watch, after, start):
                        yield piece
            async for piece in self._coming(exchange, watch, reader, sent, ends):
                yield piece
            why: Why = "stopping" if reader.ended else "time"
        except TooSlow:
            why = "too_slow"
        except HttpError:
            why = "token"
        except OneselfError:
            why = "unavailable"
        yield _named("end", why)

    async def _since(self, watch: _Watch, after: int, last: int) -> AsyncGenerator[bytes, None]:
        """Yield what came after a position, up to another, from the journal."""
        store = self._engine.store
        for first in range(after + 1, last + 1, _RESUME_AT_ONCE):
            span = range(first, min(first + _RESUME_AT_ONCE, last + 1))
            entries = {
                at: entry
                for at, entry in (await entries_at(store, span)).items()
                if entry.request.kind == "batch" and entry.input.startswith(f"{watch.place.name}/")
            }
            records = await store.batches(list(entries))
            for piece in _messages(watch, [Arrival(at, entry, records.get(at)) for at, entry in entries.items()]):
                yield piece
            await asyncio.sleep(0)

    async def _coming(
        self, exchange: Exchange, watch: _Watch, reader: Reader, sent: int, ends: float | None
    ) -> AsyncGenerator[bytes, None]:
        """Yield what comes in after a position, until the stream has to end."""
        spoken = time.monotonic()
        while not reader.ended:
            await self._tokens.verify(exchange.headers)
            now = time.monotonic()
            if ends is not None and now >= ends:
                return
            arrivals = [arrival for arrival in reader.take(_AT_ONCE) if arrival.position > sent]
            for piece in _messages(watch, arrivals):
                yield piece
                spoken = now
            if now - spoken >= HEARTBEAT_SECONDS:
                yield b": alive\nid: %d\n\n" % sent if sent else b": alive\n\n"
                spoken = now
            if arrivals:
                sent = arrivals[-1].position
                await asyncio.sleep(0)  # ingestion goes first
            else:
                left = _CHECK_SECONDS if ends is None else min(_CHECK_SECONDS, ends - now)
                await reader.wait(min(left, HEARTBEAT_SECONDS))


def _messages(watch: _Watch, arrivals: list[Arrival]) -> Iterator[bytes]:
    """Yield the batches that are wanted as events, many small ones in one piece."""
    piece = bytearray()
    for arrival in arrivals:
        if watch.wants(arrival):
            piece += b"id: %d\nevent: batch\ndata: %b\n\n" % (arrival.position, _encode(_message(watch, arrival)))
            if len(piece) >= _PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
    if piece:
        yield bytes(piece)


def _named(name: str, why: Why) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(LiveNote(why, _MEANINGS[why])))


def _message(watch: _Watch, arrival: Arrival) -> LiveMessage:
    position, entry, record = arrival
    decision = entry.decision
    batch = None if record is None else record.batch
    error = decision.error
    return LiveMessage(
        position=position,
        at_ms=entry.at_ms,
        input=entry.input,
        kind=watch.place.kinds.get(entry.input, ""),
        environment=environment_of(arrival),
        outcome=outcome_of(entry, record),
        mpid=None if decision.mpid is None else str(decision.mpid),
        known=decision.known,
        created=any(isinstance(change, Create) for change in decision.changes),
        why=decision.trace.why,
        linked=[change.type for change in decision.changes if isinstance(change, Link)],
        error=None if error is None else LiveError(error.code, error.message),
        identities=entry.request.identities,
        batch=None
        if record is None or batch is None
        else batch_view(position, decision.mpid, record, batch, watch.wants_event),
        document=None if record is None else record.document,
    )


def environment_of(arrival: Arrival) -> str | None:
    """Return the environment of a batch; None of a document that is no batch, which does not tell it."""
    entry = arrival.entry
    error = entry.decision.error
    return None if error is not None and error.code == "INVALID_BATCH" else entry.space.rpartition("/")[2]


def _types(arrival: Arrival) -> Iterator[Any]:
    """Yield the types of a batch's events, those too that were set aside."""
    record = arrival.record
    if record is None:
        return
    if record.batch is not None:
        for event in record.batch.events:
            yield event.type
    sent = [one.event for one in record.quarantined]
    if isinstance(record.document, dict) and isinstance(record.document.get("events"), list):
        sent = record.document["events"]
    for one in sent:
        if isinstance(one, dict):
            yield one.get("event_type")


def _last_id(exchange: Exchange) -> int | None:
    """Return the position up to which a client has seen everything; None where it does not say."""
    value = exchange.headers.get(b"last-event-id")
    if value is None:
        return None
    if not value.isdigit() or int(value[:20]) > MOST_MS:
        raise HttpError(400, "Last-Event-ID: it must be the id of an event of this stream.")
    return int(value)
