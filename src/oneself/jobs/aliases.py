"""Aliases take effect when they are due (docs/alias.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import structlog

from oneself.engine import Call
from oneself.identity import Request
from oneself.jobs.job import Job

__all__ = ["AliasJob"]

_log = structlog.get_logger("oneself.jobs")

STEP = 100
"""So many aliases are decided at once."""


class AliasJob(Job):
    """Has the aliases decided that are due, longest due first, a second after they are at the latest."""

    name = "aliases"
    pause_seconds = 0.0
    rest_seconds = 1.0

    async def round(self) -> AsyncGenerator[None]:
        """Have those decided that are due now."""
        engine, clock, spaces = self.work.engine, self.work.clock, self.work.spaces
        while due := await engine.store.due_aliases(clock(), STEP, spaces=spaces):
            calls = [Call(space, "/alias", Request("alias_process", position=row.position)) for space, row in due]
            outcomes = await asyncio.gather(*engine.submit_all(calls))
            ended = [outcome.decision for outcome in outcomes if outcome.decision.error is None]
            for decision in ended:
                self.work.counts.done[decision.trace.why] += 1
            _log.info("aliases decided", due=len(due), ended=len(ended))
            yield
            if not ended:  # a clock went back: what was due is not
                return
