"""Old data goes: request ids, the events of batches, and batches that no profile is made of (docs/retention.md)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator

import structlog

from oneself.engine import Call
from oneself.identity import Request, Upkeep
from oneself.jobs.job import Job, Work
from oneself.store import REQUESTS, Trimming, events_of

__all__ = ["RetentionJob"]

_log = structlog.get_logger("oneself.jobs")

DAY_MS = 86_400_000

REQUESTS_KEPT_MS = 60 * DAY_MS
"""Request, batch and event ids are known for this long, or for as long as the first events that go, …"""

REQUESTS_KEPT_AT_LEAST_MS = DAY_MS
"""… but at least for this long; and no event goes before its id."""

STEP = 200
"""So many batches are looked at in a step: what it writes then delays a group by a few milliseconds."""

KEYS = 5_000
"""So many forgotten keys are looked at in a step."""

FEW = 100
"""Of so many entries each is looked at before their ids are forgotten."""

QUIET = 10_000
"""A pass over so many entries without anything to do is noted, so that it is not repeated after a restart."""


class RetentionJob(Job):
    """Takes its events from every batch that was received longer ago than its workspace keeps them.

    How far it came is journalled with each step, for each workspace by itself.
    """

    name = "retention"

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self._dropped = -1  # requests through this position are deleted

    async def round(self) -> AsyncGenerator[None]:
        """Go as far as the data is old enough now."""
        if not self.work.config.workspaces:
            return
        await self._forget()
        yield
        for through, workspaces in await self._passes():
            async for _ in self._trim(through, workspaces):
                yield
        async for _ in self._discard():
            yield
        async for _ in self._drop():
            yield

    async def _forget(self) -> None:
        kept = [one.data_retention_ms for one in self.work.config.workspaces if one.data_retention_ms]
        kept_ms = max(REQUESTS_KEPT_AT_LEAST_MS, min([REQUESTS_KEPT_MS, *kept]))
        store = self.work.engine.store
        through = await store.position_at(self.work.clock() - kept_ms)
        if await self._has_ids(await store.swept(REQUESTS), through):
            await self._ask(Request("forget", upkeep=Upkeep(through=through)))

    async def _has_ids(self, after: int, through: int) -> bool:
        """Tell whether there may be ids to forget, so that upkeep alone does not bring about more of it for ever."""
        if through - after > FEW:
            return True
        for position in range(after + 1, through + 1):
            entry = await self.work.engine.store.entry(position)
            if entry is not None and (entry.request_id or entry.request.kind == "batch"):
                return True
        return False

    async def _passes(self) -> list[tuple[int, tuple[str, ...]]]:
        """Return the workspaces whose batches are to lose events, and through which position, those alike at once."""
        store, now = self.work.engine.store, self.work.clock()
        forgotten = await store.swept(REQUESTS)
        alike: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
        for one in self.work.config.workspaces:
            if one.data_retention_ms:
                through = min(await store.position_at(now - one.data_retention_ms), forgotten)
                alike[await store.swept(events_of(one.name)), through].append(one.name)
        return [(through, tuple(sorted(names))) for (at, through), names in alike.items() if at < through]

    async def _trim(self, through: int, workspaces: tuple[str, ...]) -> AsyncGenerator[None]:
        store = self.work.engine.store
        done = at = await store.swept(events_of(workspaces[0]))
        batches = events = 0
        while at < through:
            trimming = await store.trimming(workspaces, at, through, STEP)
            at = trimming.through
            if trimming.batches or at - done >= QUIET:
                await self._note(workspaces, done, trimming)
                done, batches, events = at, batches + trimming.batches, events + trimming.events
            yield
        if batches:
            _log.info("events deleted", workspaces=workspaces, batches=batches, events=events, through=done)

    async def _note(self, workspaces: tuple[str, ...], after: int, trimming: Trimming) -> None:
        upkeep = Upkeep(workspaces, after, trimming.through, trimming.batches, trimming.events, trimming.names)
        await self._ask(Request("retention", upkeep=upkeep), trimming)
        counts = self.work.counts.done
        counts["batches_trimmed"] += trimming.batches
        counts["events_deleted"] += trimming.events

    async def _discard(self) -> AsyncGenerator[None]:
        after = 0
        while positions := await self.work.engine.store.discardable(after, STEP):
            await self._ask(Request("discard", upkeep=Upkeep(positions=tuple(positions))))
            self.work.counts.done["batches_discarded"] += len(positions)
            after = positions[-1]
            yield

    async def _drop(self) -> AsyncGenerator[None]:
        store = self.work.engine.store
        through = await store.swept(REQUESTS)
        if through <= self._dropped:
            return
        key: bytes | None = b""
        while key is not None:
            key = await store.drop_forgotten(key, KEYS)
            yield
        self._dropped = through

    async def _ask(self, request: Request, trimming: Trimming | None = None) -> None:
        space = f"{self.work.config.workspaces[0].scope}/production"
        await self.work.engine.submit(Call(space, "/retention", request, trimming=trimming))
