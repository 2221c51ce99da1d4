"""Profiles expire that nothing was heard of for as long as their workspace keeps them (docs/retention.md)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable

import structlog

from oneself.engine import Call
from oneself.identity import Expire, Request, Upkeep
from oneself.jobs.job import Job
from oneself.store import Idle

__all__ = ["ExpiryJob"]

_log = structlog.get_logger("oneself.jobs")

STEP = 300
"""So many rows are looked at in a step …"""

AT_ONCE = 100
"""… and so many profiles are decided by one entry of the journal."""


class ExpiryJob(Job):
    """Goes through all profiles slowly, in the order of their MPIDs, and has the idle ones expire.

    Whether one really does is decided with all that came until then, so data that arrives meanwhile keeps it.
    """

    name = "expiry"

    async def round(self) -> AsyncGenerator[None]:
        """Go through all profiles once."""
        lifetimes = {
            one.name: one.profile_lifetime_ms for one in self.work.config.workspaces if one.profile_lifetime_ms
        }
        after: tuple[int, str] | None = None
        expired = 0
        while lifetimes:
            now = self.work.clock()
            before = {workspace: now - lifetime for workspace, lifetime in lifetimes.items()}
            idle, after = await self.work.engine.store.idle(before, after, STEP)
            expired += await self._expire(idle, before)
            yield
            if after is None:
                break
        if expired:
            _log.info("profiles expired", count=expired)

    async def _expire(self, idle: Iterable[Idle], before: dict[str, int]) -> int:
        places: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        spaces = set(self.work.spaces)
        for row in idle:
            if row.space in spaces:  # else its scope is not configured any more, and nobody decides there
                places[row.space, row.workspace].append(row.mpid)
        calls = []
        for (space, workspace), mpids in places.items():
            for some in _some(mpids):
                upkeep = Upkeep((workspace,), before_ms=before[workspace], mpids=some)
                calls.append(Call(space, "/expiry", Request("expiry", upkeep=upkeep)))
        outcomes = await asyncio.gather(*map(self.work.engine.submit, calls))
        expired = sum(isinstance(change, Expire) for outcome in outcomes for change in outcome.decision.changes)
        if expired:
            self.work.counts.done["profiles_expired"] += expired
        return expired


def _some(mpids: list[int]) -> Iterable[tuple[int, ...]]:
    for begin in range(0, len(mpids), AT_ONCE):
        yield tuple(mpids[begin : begin + AT_ONCE])
