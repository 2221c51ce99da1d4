"""Group commit: a request waits with its neighbours while the store is busy, never for a timer (docs/engine.md)."""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import NamedTuple

import structlog

from oneself.engine.calls import Call, Outcome
from oneself.engine.policies import Governing
from oneself.errors import OneselfError, Overloaded, StoreUnavailable
from oneself.identity import Create, Decision, Prepared, Refusal, Trace, decide, prepare
from oneself.journal import Entry
from oneself.store import Reading, Store, Wanted
from oneself.store.keys import request_key

__all__ = ["Engine"]

_log = structlog.get_logger("oneself.engine")

ENVIRONMENTS = ("production", "development")

MAX_GROUP = 256
"""A group closes at this many requests."""

MAX_WAITING = 4_096
"""With this many requests waiting, further ones are refused at once …"""

MAX_WAIT_SECONDS = 2.0
"""… and so they are when, at the present rate, one would wait longer than this."""


_INT64 = struct.Struct("q")
_DRAWN = 512


class _Waiting(NamedTuple):
    call: Call
    prepared: Prepared
    version: int
    key: bytes | None
    answer: asyncio.Future[Outcome]


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

    ``scopes`` are the policies in force. ``submit`` refuses early rather than let the queue grow without end.
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
        on_group: Callable[[int, float], None] | None = None,
    ) -> None:
        self.store = store
        self._spaces = {f"{scope}/{env}": rules for scope, rules in scopes.items() for env in ENVIRONMENTS}
        self._max_group = max_group
        self._max_waiting = max_waiting
        self._clock = clock
        self._mpids = mpids or random_mpids().__next__
        self._on_group = on_group
        self._queue: list[_Waiting] = []
        self._enough = 1  # so many waiting calls make a group now
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._stopping = False
        self._rate = 0.0  # calls of full groups answered a second, smoothed; 0 before the first such group
        self._trouble_until = 0.0

    async def start(self) -> None:
        """Begin to answer."""
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Answer what was accepted, then end; calls from now on are refused."""
        self._stopping = True
        self._wake.set()
        if self._worker is not None:
            await self._worker
            self._worker = None

    @property
    def ready(self) -> bool:
        """Whether a call would be answered now."""
        running = self._worker is not None and not self._worker.done() and not self._stopping
        return running and time.monotonic() >= self._trouble_until

    @property
    def waiting(self) -> int:
        """How many calls wait for a group."""
        return len(self._queue)

    def submit(self, call: Call) -> asyncio.Future[Outcome]:
        """Take a call in; the future gives its outcome, or raises ``StoreUnavailable`` with nothing done.

        Raises ``Overloaded`` at once where the call would wait too long. A request is prepared here, before it
        joins a group, so that a bad one cannot fail its neighbours.
        """
        waiting = len(self._queue)
        rate = self._rate
        if waiting >= self._max_waiting or (rate and waiting > self._max_group + rate * MAX_WAIT_SECONDS):
            raise Overloaded(1 + int(waiting / rate) if rate else 1)
        if self._worker is None or self._worker.done() or self._stopping:
            raise StoreUnavailable("The server is stopping or not started yet.", 1)
        governing = self._spaces[call.space]
        prepared = prepare(governing.policy, call.request)
        writes = not call.read_only and call.request.kind != "search"
        key = request_key(call.input, call.request_id) if writes and call.request_id else None
        answer: asyncio.Future[Outcome] = self._worker.get_loop().create_future()
        self._queue.append(_Waiting(call, prepared, governing.version, key, answer))
        if waiting + 1 >= self._enough:
            self._wake.set()
        return answer

    async def _work(self) -> None:
        """Decide group after group, each while the one before it is on its way to the disk.

        Until that is there, a group begins only when it is as large as the one before it: small ones cost more.
        """
        before: asyncio.Task[bool] | None = None
        while True:
            if len(self._queue) >= self._enough:
                group, self._queue = self._queue[: self._max_group], self._queue[self._max_group :]
                before = await self._run(group, before)
            elif self._stopping and not self._queue:
                break
            else:
                self._wake.clear()
                await self._wake.wait()
        if before is not None:
            await before

    async def _run(self, group: list[_Waiting], before: asyncio.Task[bool] | None) -> asyncio.Task[bool] | None:
        """Decide a group and begin to make it durable; return the task that ends it, or the one before it.

        Where something unexpected stops it, each call goes alone, so that none fails its neighbours.
        """
        started = time.perf_counter()
        try:
            reading, outcomes = await self._decide(group)
            if before is not None and not await before:
                reading, outcomes = await self._decide(group)  # what they saw did not become durable
            durable = self.store.begin(reading)
        except OneselfError as error:
            self._fail(group, error)
        except Exception as error:
            if len(group) > 1:
                for waiting in group:
                    before = await self._run([waiting], before)
            elif not group[0].answer.done():
                group[0].answer.set_exception(error)
        else:
            self._enough = len(group)
            return asyncio.create_task(self._end(group, outcomes, durable, started))
        return before

    async def _decide(self, group: list[_Waiting]) -> tuple[Reading, list[Outcome]]:
        while True:
            margin = sum(len(waiting.call.request.changes) or 1 for waiting in group)
            reading = await self.store.read(*_wanted(group), margin=margin)
            earlier = {at: await self.store.entry(at) for at in set(reading.answered.values())}
            now = self._clock()
            outcomes = [self._outcome(waiting, reading, earlier, now) for waiting in group]
            changes = [change for _, entry in reading.effects.entries for change in entry.decision.changes]
            created = [change.mpid for change in changes if isinstance(change, Create)]
            if len(set(created)) == len(created) and not (created and await self.store.existing(created)):
                return reading, outcomes
            # one of 2^64 was drawn twice: decide again with others

    async def _end(
        self, group: list[_Waiting], outcomes: list[Outcome], durable: Awaitable[None], started: float
    ) -> bool:
        """Answer a group when it is durable; tell whether it is."""
        failure: Exception | None = None
        try:
            await durable
        except Exception as error:
            failure = error
        self._enough = 1
        self._wake.set()
        if failure is not None:
            if not isinstance(failure, OneselfError):
                _log.error("a group could not be made durable", exc_info=failure)
                failure = StoreUnavailable("The server met an unexpected error.")
            self._fail(group, failure)
            return False
        self._trouble_until = 0.0
        for waiting, outcome in zip(group, outcomes, strict=True):
            if not waiting.answer.done():  # its client may have gone
                waiting.answer.set_result(outcome)
        seconds = time.perf_counter() - started
        if len(group) == self._max_group:  # smaller ones say nothing of how many could be answered
            rate = len(group) / seconds
            self._rate += 0.2 * (rate - self._rate) if self._rate else rate
        if self._on_group is not None:
            self._on_group(len(group), seconds)
        return True

    def _fail(self, group: list[_Waiting], error: OneselfError) -> None:
        """Answer a group whose decisions could not be made durable: nothing of it was done."""
        failure = error if isinstance(error, StoreUnavailable) else StoreUnavailable(str(error))
        if not self._trouble_until:
            _log.warning("requests cannot be answered", reason=str(failure))
        self._trouble_until = time.monotonic() + failure.retry_after
        for waiting in group:
            if not waiting.answer.done():
                waiting.answer.set_exception(failure)

    def _outcome(self, waiting: _Waiting, reading: Reading, earlier: dict[int, Entry | None], now: int) -> Outcome:
        call, key = waiting.call, waiting.key
        if key is not None and key in reading.answered:
            return _repeat(call, reading, earlier, reading.answered[key])
        decision = decide(waiting.prepared, reading.views[call.space], now, self._mpids())
        if call.read_only or call.request.kind == "search":
            if any(isinstance(change, Create) for change in decision.changes):
                decision.mpid = None
            return Outcome(decision, call.request)
        entry = Entry(now, call.space, call.input, waiting.version, call.request, decision, call.request_id)
        return Outcome(decision, call.request, reading.keep(entry, key))


def _wanted(group: list[_Waiting]) -> tuple[dict[str, Wanted], list[bytes]]:
    """Return what a group must see of each space, and the request keys it must know the answers of."""
    spaces: dict[str, Wanted] = {}
    keys = []
    for waiting in group:
        wanted = spaces.get(waiting.call.space)
        if wanted is None:
            wanted = spaces[waiting.call.space] = Wanted()
        wanted.identities.update(waiting.prepared.identities)
        wanted.mpids.update(waiting.prepared.mpids)
        if waiting.key is not None:
            keys.append(waiting.key)
    return spaces, keys


def _repeat(call: Call, reading: Reading, earlier: dict[int, Entry | None], position: int) -> Outcome:
    """Give the answer that the request id had before, which may have been in this very group."""
    entry = earlier.get(position) or next(entry for at, entry in reading.effects.entries if at == position)
    if entry.request.kind != call.request.kind:
        message = f"request_id: it was used before, for a request of another kind ({entry.request.kind})."
        decision = Decision(Trace("refused"), error=Refusal(400, "BAD_REQUEST", message))
        return Outcome(decision, call.request)
    return Outcome(entry.decision, entry.request, position, repeated=True)
