"""Group commit: a request waits with its neighbours while the store is busy, never for a timer (docs/engine.md)."""

from __future__ import annotations

import asyncio
import os
import random
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import cast, overload

import structlog

from oneself.engine.calls import Answer, Call, Delivery, Outcome
from oneself.engine.groups import Decided, Waiting, halves_of, moved, parts_of, tell, wanted_by
from oneself.engine.intake import EventNames, record_of, workspaces_of
from oneself.engine.planned import Since, entries_since, holds, undone_through, void
from oneself.engine.policies import ENVIRONMENTS, Governing, Policies
from oneself.errors import Conflict, OneselfError, Overloaded, StoreUnavailable
from oneself.identity import Create, Decision, Refusal, Trace, decide, prepare
from oneself.journal import BatchRecord, Entry
from oneself.store import Reading, Store, event_keys, rows_touched
from oneself.store.keys import batch_key, request_key

__all__ = ["ENVIRONMENTS", "Engine"]

_log = structlog.get_logger("oneself.engine")

MAX_GROUP = 256
"""A group closes at this many requests."""

QUIET_TURNS = 2
"""It begins once so many turns of the event loop, some 20 µs, brought no further call."""

MAX_WAITING = 4_096
"""With this many requests waiting, further ones are refused at once …"""

MAX_WAIT_SECONDS = 2.0
"""… and so they are when, at the present rate, one would wait longer than this."""

CONFLICT_SECONDS = 5.0
"""So long a group is decided again and again in whose way other servers come."""

SPLIT_AFTER = 2
"""After so many tries it goes on in halves: they see less, and so less comes in their way."""

_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.05

_INT64 = struct.Struct("q")
_DRAWN = 512


Listener = Callable[[int, Entry, BatchRecord | None], None]
"""Told of each batch that was taken in or dropped: its position, its entry and what is kept of it."""


def random_mpids() -> Iterator[int]:
    """Yield random signed 64-bit integers other than 0, drawn some hundred at a time."""
    while True:
        for (mpid,) in _INT64.iter_unpack(os.urandom(_INT64.size * _DRAWN)):
            if mpid:
                yield mpid


def clock_ms() -> int:
    """Return the time in unix ms."""
    return time.time_ns() // 1_000_000


class Engine:
    """Answers calls in groups over one store; every answer that is given is durable.

    ``scopes`` are the policies in force; newer versions that the store comes to have are taken over within a second.
    ``submit`` refuses early rather than let the queue grow without end.
    """

    def __init__(
        self,
        store: Store,
        scopes: Mapping[str, Governing],
        *,
        max_group: int = MAX_GROUP,
        max_waiting: int = MAX_WAITING,
        clock: Callable[[], int] = clock_ms,
        mpids: Callable[[], int] | None = None,
        on_group: Callable[[int, float, float], None] | None = None,
    ) -> None:
        self.store = store
        self.policies = Policies(store, scopes)
        self._spaces = self.policies.spaces
        self._max_group = max_group
        self._max_waiting = max_waiting
        self._clock = clock
        self._mpids = mpids or random_mpids().__next__
        self._on_group = on_group
        self.listeners: list[Listener] = []
        self._undone = 0  # through this position batches may have become somebody else's
        self._queue: list[Waiting] = []
        self._enough = 1  # so many waiting calls make a group now
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._stopping = False
        self._rate = 0.0  # calls of full groups answered a second, smoothed; 0 before the first such group
        self._trouble_until = 0.0

    async def start(self) -> None:
        """Begin to answer."""
        self.store.on_trouble = self._refuse_waiting
        self._worker = asyncio.create_task(self._work())
        self._follower = asyncio.create_task(self.policies.follow())

    async def stop(self) -> None:
        """Answer what was accepted, then end; calls from now on are refused."""
        self._stopping = True
        self._wake.set()
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.wait([self._follower])
            self._follower = None
        if self._worker is not None:
            await self._worker
            self._worker = None

    @property
    def ready(self) -> bool:
        """Whether a call would be answered now."""
        running = self._worker is not None and not self._worker.done() and not self._stopping
        return running and self.store.trouble is None and time.monotonic() >= self._trouble_until

    @property
    def waiting(self) -> int:
        """How many calls wait for a group."""
        return len(self._queue)

    @overload
    def submit(self, call: Call) -> asyncio.Future[Outcome]: ...

    @overload
    def submit(self, call: Call, answer: Answer) -> None: ...

    def submit(self, call: Call, answer: Answer | None = None) -> asyncio.Future[Outcome] | None:
        """Take a call in; the future gives its outcome, or raises ``StoreUnavailable`` with nothing done.

        An ``answer`` that is given is told instead. Raises ``Overloaded`` at once where the call would wait too
        long. A request is prepared here, before it joins a group, so that a bad one cannot fail its neighbours.
        """
        loop = self._admit()
        future: asyncio.Future[Outcome] | None = loop.create_future() if answer is None else None
        self._queue.append(self._waiting(call, cast(Answer, answer or future)))
        if len(self._queue) >= self._enough:
            self._wake.set()
        return future

    def submit_all(self, calls: Sequence[Call]) -> list[asyncio.Future[Outcome]]:
        """Take calls in that become durable as one, all or none; they go into one group, in their order."""
        if not calls:
            return []
        loop = self._admit()
        futures: list[asyncio.Future[Outcome]] = [loop.create_future() for _ in calls]
        taken = [self._waiting(call, future, more=True) for call, future in zip(calls, futures, strict=True)]
        taken[-1] = taken[-1]._replace(more=False)
        self._queue += taken
        if len(self._queue) >= self._enough:
            self._wake.set()
        return futures

    def _admit(self) -> asyncio.AbstractEventLoop:
        """Return the loop that answers, or raise where a call would wait too long."""
        waiting = len(self._queue)
        rate = self._rate
        if waiting >= self._max_waiting or (rate and waiting > self._max_group + rate * MAX_WAIT_SECONDS):
            raise Overloaded(1 + int(waiting / rate) if rate else 1)
        if self._worker is None or self._worker.done() or self._stopping:
            raise StoreUnavailable("The server is stopping or not started yet.", 1)
        trouble = self.store.trouble
        if trouble is not None:
            raise _unavailable(trouble)
        return self._worker.get_loop()

    def _refuse_waiting(self, trouble: OneselfError) -> None:
        """Answer those that wait for a group, since the store could not serve it now."""
        queue, self._queue = self._queue, []
        for waiting in queue:
            tell(waiting, _unavailable(trouble))

    def _waiting(self, call: Call, answer: Answer, *, more: bool = False) -> Waiting:
        governing = self._spaces[call.space]
        prepared = prepare(governing.policy, call.request)
        key = None
        if call.request_id and not call.read_only and call.request.kind != "search":
            key = (request_key if call.delivery is None else batch_key)(call.input, call.request_id)
        batch = call.delivery.batch if call.delivery is not None else None
        keys = [] if batch is None else event_keys(batch)
        return Waiting(call, prepared, governing.version, key, keys, answer, more)

    async def _work(self) -> None:
        """Decide group after group, each while the one before it is on its way to the disk.

        Until that is there, a group begins only when it is as large as the one before it: small ones cost more.
        """
        before: asyncio.Task[bool] | None = None
        while True:
            if len(self._queue) >= self._enough:
                await self._gather()
                if not self._queue:  # they were refused meanwhile
                    continue
                size = min(self._max_group, len(self._queue))
                while self._queue[size - 1].more:
                    size += 1
                group, self._queue = self._queue[:size], self._queue[size:]
                before = await self._run(group, before)
            elif self._stopping and not self._queue:
                break
            else:
                self._wake.clear()
                await self._wake.wait()
        if before is not None:
            await before

    async def _gather(self) -> None:
        """Take in what is just arriving: clients who were answered together ask again one after another."""
        quiet, waiting = 0, len(self._queue)
        while quiet < QUIET_TURNS and waiting < self._max_group:
            await asyncio.sleep(0)
            before, waiting = waiting, len(self._queue)
            quiet = quiet + 1 if waiting == before else 0

    async def _run(
        self, group: list[Waiting], before: asyncio.Task[bool] | None, since: float = 0.0, tries: int = 0
    ) -> asyncio.Task[bool] | None:
        """Decide a group and begin to make it durable; return the task that ends it, or the one before it.

        Where something unexpected stops it, each call goes alone, so that none fails its neighbours; only what was
        submitted together stays together. ``since`` is when it was decided first, and ``tries`` how often it was,
        where other servers came in its way.
        """
        started = since or time.perf_counter()
        try:
            decided = await self._decide(group)
            if before is not None and not await before:
                decided = await self._decide(group)  # what they saw did not become durable
            durable = self.store.begin(decided.reading)
        except OneselfError as error:
            self._fail(group, error)
        except Exception as error:
            parts = list(parts_of(group))
            if len(parts) > 1:
                for part in parts:
                    before = await self._run(part, before, since, tries)
            else:
                for waiting in group:
                    tell(waiting, error)
        else:
            self._enough = len(group)
            return asyncio.create_task(self._end(group, decided, durable, started, tries))
        return before

    async def _again(self, group: list[Waiting], since: float, tries: int) -> bool:
        """Decide a group again in whose way another server came, after a while; tell whether all of it is durable."""
        longest = min(_PAUSE_SECONDS * 2**tries, _LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(random.uniform(0, longest))
        durable = True
        for part in [group] if tries < SPLIT_AFTER else halves_of(group):
            ended = await self._run(part, None, since, tries)
            durable = ended is not None and await ended and durable
        return durable

    async def _decide(self, group: list[Waiting]) -> Decided:
        brought = [waiting.call.delivery for waiting in group if waiting.call.delivery is not None]
        seen = {workspace: await self.store.event_names(workspace) for workspace in workspaces_of(brought)}
        began = time.perf_counter()
        while True:
            margin = sum(len(waiting.call.request.changes) or 1 for waiting in group)
            reading = await self.store.read(*wanted_by(group), margin=margin)
            answered = {reading.answered[w.key] for w in group if w.key is not None and w.key in reading.answered}
            earlier = await self.store.entries_at(answered)
            now = self._clock()
            names = EventNames(seen)
            batches: list[tuple[int, Entry, BatchRecord | None]] = []
            outcomes = []
            if any(waiting.call.plan or waiting.call.trimming for waiting in group):
                calls = [waiting.call for waiting in group]
                self._undone = max(self._undone, await undone_through(self.store, calls))
                since = await entries_since(self.store, reading, calls)
            else:
                since = None
            for waiting in group:
                if waiting.call.delivery is None:
                    outcomes.append(self._outcome(waiting, reading, earlier, now, since))
                else:
                    outcomes.append(
                        self._taken(waiting, waiting.call.delivery, reading, earlier, now, names, batches)
                    )
            changes = [change for _, entry in reading.effects.entries for change in entry.decision.changes]
            created = [change.mpid for change in changes if isinstance(change, Create)]
            if len(set(created)) < len(created) or (created and await self.store.given(created)):
                continue  # one of 2^64 was drawn twice: decide again with others
            try:
                await self._keep_batches(reading, batches)
            except Conflict:
                if time.perf_counter() - began > CONFLICT_SECONDS:
                    raise
            else:
                return Decided(reading, outcomes, batches)

    async def _keep_batches(self, reading: Reading, batches: list[tuple[int, Entry, BatchRecord | None]]) -> None:
        """Put the batches that are kept into the rows that they touch."""
        kept = [(position, entry, record) for position, entry, record in batches if record is not None]
        if kept:
            await self.store.read_parts(reading, rows_touched(kept))
            for position, entry, record in kept:
                reading.keep_batch(position, entry, record)

    async def _end(
        self, group: list[Waiting], decided: Decided, durable: Awaitable[None], started: float, tries: int
    ) -> bool:
        """Answer a group when it is durable; tell whether it is."""
        failure: Exception | None = None
        began = time.perf_counter()
        try:
            await durable
        except Conflict as conflict:
            if time.perf_counter() - started < CONFLICT_SECONDS:
                return await self._again(group, started, tries + 1)
            failure = conflict
        except Exception as error:
            failure = error
        writing = time.perf_counter() - began
        self._enough = 1
        self._wake.set()
        if failure is not None:
            if not isinstance(failure, OneselfError):
                _log.error("a group could not be made durable", exc_info=failure)
                failure = StoreUnavailable("The server met an unexpected error.")
            self._fail(group, failure)
            return False
        self._trouble_until = 0.0
        if decided.reading.moved:
            decided = moved(decided)
        for waiting, outcome in zip(group, decided.outcomes, strict=True):
            tell(waiting, outcome)
        self._tell(decided.batches)
        seconds = time.perf_counter() - started
        if len(group) == self._max_group:  # smaller ones say nothing of how many could be answered
            rate = len(group) / seconds
            self._rate += 0.2 * (rate - self._rate) if self._rate else rate
        if self._on_group is not None:
            self._on_group(len(group), seconds, writing)
        return True

    def _tell(self, batches: list[tuple[int, Entry, BatchRecord | None]]) -> None:
        """Tell all listeners of batches that are durable; one that fails is no reason to stop."""
        for listener in self.listeners:
            for position, entry, record in batches:
                try:
                    listener(position, entry, record)
                except Exception as error:
                    _log.error("a listener to batches failed", exc_info=error)

    def _fail(self, group: list[Waiting], error: OneselfError) -> None:
        """Answer a group whose decisions could not be made durable: nothing of it was done."""
        failure = _unavailable(error)
        if not self._trouble_until:
            _log.warning("requests cannot be answered", reason=str(failure))
        self._trouble_until = time.monotonic() + failure.retry_after
        for waiting in group:
            tell(waiting, failure)

    def _outcome(
        self, waiting: Waiting, reading: Reading, earlier: Mapping[int, Entry], now: int, since: Since
    ) -> Outcome:
        call, key = waiting.call, waiting.key
        if key is not None and key in reading.answered:
            return _repeat(call, reading, earlier, reading.answered[key])
        plan, trimming = call.plan, call.trimming
        if plan is None:
            decision = decide(waiting.prepared, reading.views[call.space], now, self._mpids())
        else:
            decision = plan.decision
        if plan is not None and not holds(plan, call.space, waiting.prepared.policy, reading, since):
            return Outcome(void(), call.request)
        if trimming is not None and trimming.at < self._undone:
            return Outcome(void(), call.request)
        if call.read_only or call.request.kind == "search":
            if any(isinstance(change, Create) for change in decision.changes):
                decision.mpid = None
            return Outcome(decision, call.request)
        entry = Entry(now, call.space, call.input, waiting.version, call.request, decision, call.request_id)
        position = reading.keep(entry, key)
        if trimming is not None:
            reading.trim(trimming)
        if plan is not None:
            reading.rewrite(plan.rows)
            self._undone = position
        return Outcome(decision, call.request, position)

    def _taken(
        self,
        waiting: Waiting,
        brought: Delivery,
        reading: Reading,
        earlier: Mapping[int, Entry],
        now: int,
        names: EventNames,
        batches: list[tuple[int, Entry, BatchRecord | None]],
    ) -> Outcome:
        """Decide whose a batch is and what of it is kept; add it to ``batches``."""
        call, key = waiting.call, waiting.key
        if key is not None and key in reading.answered:
            return _repeat(call, reading, earlier, reading.answered[key])
        record: BatchRecord | None = None
        if brought.batch is None:
            decision = Decision(Trace("refused"), error=Refusal(400, "INVALID_BATCH", brought.reason))
        else:
            decision = decide(waiting.prepared, reading.views[call.space], now, self._mpids())
        if decision.error is not None:
            if not brought.refuse:
                record = BatchRecord(document=brought.document, reason=decision.error.message)
        elif brought.batch is not None and decision.trace.why != "user_unknown":
            record = record_of(brought, brought.batch, waiting.keys, reading.answered, names)
        entry = Entry(now, call.space, call.input, waiting.version, call.request, decision, call.request_id)
        position = reading.keep(entry, key)
        if record is not None and record.batch is not None:
            keys = waiting.keys if record.batch is brought.batch else event_keys(record.batch)
            reading.claim_events(keys, position)
            if decision.mpid is not None:
                reading.arrive(call.space, decision.mpid, record.batch.source.workspace, record.batch.received_ms)
        batches.append((position, entry, record))
        return Outcome(decision, call.request, position)


def _unavailable(error: OneselfError) -> StoreUnavailable:
    return error if isinstance(error, StoreUnavailable) else StoreUnavailable(str(error))


def _repeat(call: Call, reading: Reading, earlier: Mapping[int, Entry], position: int) -> Outcome:
    """Give the answer that the request id had before, which may have been in this very group."""
    entry = earlier.get(position) or next(entry for at, entry in reading.effects.entries if at == position)
    if entry.request.kind != call.request.kind:
        message = f"request_id: it was used before, for a request of another kind ({entry.request.kind})."
        decision = Decision(Trace("refused"), error=Refusal(400, "BAD_REQUEST", message))
        return Outcome(decision, call.request)
    return Outcome(entry.decision, entry.request, position, repeated=True)
