"""What a user did, the latest first (docs/admin-api.md, "Timeline")."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import msgspec

from oneself.http.admin.access import Access, Place, answer
from oneself.http.admin.batch_view import BatchView, batch_view
from oneself.http.admin.query import MOST_MS, Cursor, Query, cursor_text, path_mpid
from oneself.http.exchange import Exchange
from oneself.http.ports import Engine
from oneself.http.wire import HttpError, Reply
from oneself.journal import BatchRecord
from oneself.profiles import EVENT_TYPES, Event
from oneself.store import Activity, Moment, timeline

__all__ = ["TimelinePage", "TimelineRoutes"]

MOST_BATCHES: Final = 100
BATCHES: Final = 20
"""Batches in one answer, where no limit is given."""

MOST_ROWS: Final = 5_000
"""One request looks at so many batches' rows …"""

MOST_READ: Final = 500
"""… and reads so many batches; then it answers with what it has, and a cursor."""

MOST_EVENTS: Final = 2_000
"""An answer ends after the batch with which it has so many events."""

_ROWS_AT_ONCE: Final = 250
_READ_AT_ONCE: Final = 25


class TimelinePage(msgspec.Struct, frozen=True):
    """Batches, the latest first; ``next`` is to be sent as ``before`` for those that follow, null at the end.

    A page may be short, or empty, and have a ``next``: then so much had to be looked through for so little.
    """

    batches: list[BatchView]
    next: str | None


class _Filter(msgspec.Struct, frozen=True):
    """What of a timeline is wanted; empty stands for everything."""

    window: tuple[int, int]
    input: str
    device: str
    type: str
    name: str

    def may_have(self, row: Activity) -> bool:
        """Tell whether a batch may have something that is wanted, by its row alone."""
        return self.input in ("", row.input) and (row.events > 0 or not (self.type or self.name))

    def wants(self, moment: Moment, event: Event) -> bool:
        """Tell whether an event of a batch is wanted."""
        return (
            self.window[0] <= event.at_ms <= self.window[1]
            and self.type in ("", event.type)
            and self.name in ("", event.name)
            and moment.shows(event.at_ms)
        )


class _Page:
    """A page that is being filled: what it has, what it has cost, and where it stopped."""

    def __init__(self, before: Cursor | None, limit: int) -> None:
        self.limit = limit
        self.before = before
        self.batches: list[BatchView] = []
        self.events = 0
        self.looked_at = 0
        self.read = 0
        self.ended = False

    def take(self, moment: Moment, record: BatchRecord | None, wanted: _Filter) -> None:
        """Add a batch, unless it is no longer kept or has nothing that is wanted."""
        row, alias = moment.activity, moment.alias
        self.before = Cursor(row.at_ms, row.position)
        self.read += 1
        batch = None if record is None or record.trimmed else record.batch
        if record is None or batch is None:
            return
        wants = partial(wanted.wants, moment)
        if any(map(wants, batch.events)) or (not batch.events and not wanted.type and not wanted.name):
            through = None if alias is None else alias.position
            view = batch_view(row.position, row.mpid, record, batch, wants, through)
            self.batches.append(view)
            self.events += len(view.events)

    @property
    def full(self) -> bool:
        """Whether it is to be answered now."""
        return (
            len(self.batches) >= self.limit
            or self.events >= MOST_EVENTS
            or self.looked_at >= MOST_ROWS
            or self.read >= MOST_READ
        )


class TimelineRoutes:
    """Answers what a user did."""

    def __init__(self, access: Access, engine: Engine) -> None:
        self._access = access
        self._engine = engine

    async def timeline(self, exchange: Exchange) -> Reply:
        """Answer batches of a user with the events in them that are wanted."""
        place = await self._access.enter(exchange)
        query = Query(exchange, "from", "to", "input", "type", "device", "name", "limit", "before")
        start, end = query.moment("from"), query.moment("to", end=True)
        window = -MOST_MS if start is None else start, MOST_MS if end is None else end
        if window[0] > window[1]:
            raise HttpError(400, "from (in the query): it is after to.")
        wanted = _Filter(
            window,
            place.input_id(query.text("input")),
            query.text("device"),
            query.choice("type", EVENT_TYPES),
            query.text("name"),
        )
        page = _Page(query.cursor("before"), query.number("limit", 1, MOST_BATCHES) or BATCHES)
        mpid = path_mpid(exchange)
        await self._access.profile(place, mpid)
        while not page.ended and not page.full:
            await self._fill(page, place, mpid, wanted)
            await asyncio.sleep(0)  # others wait too
        following = None if page.ended or page.before is None else cursor_text(page.before)
        return answer(TimelinePage(page.batches, following))

    async def _fill(self, page: _Page, place: Place, mpid: int, wanted: _Filter) -> None:
        """Look through the next batches of a timeline; put what is wanted of them on the page."""
        store = self._engine.store
        before = None if page.before is None else (page.before.at_ms, page.before.position)
        moments = await timeline(
            store, mpid, place.name, before=before, limit=_ROWS_AT_ONCE, window=wanted.window, device=wanted.device
        )
        candidates = [moment for moment in moments if wanted.may_have(moment.activity)]
        for at in range(0, len(candidates), _READ_AT_ONCE):
            group = candidates[at : at + _READ_AT_ONCE]
            records = await store.batches([moment.activity.position for moment in group])
            for moment in group:
                page.take(moment, records.get(moment.activity.position), wanted)
                if page.full:
                    return
        page.looked_at += len(moments)
        page.ended = len(moments) < _ROWS_AT_ONCE
        if moments:
            last = moments[-1].activity
            page.before = Cursor(last.at_ms, last.position)
