"""The workspaces of a client, their inputs, and what came of what these sent (docs/admin-api.md, "Workspaces")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from oneself.config import Config
from oneself.http.admin.access import READ, Access, answer
from oneself.http.admin.query import Query
from oneself.http.exchange import Exchange
from oneself.http.metrics import Ingested
from oneself.http.wire import Reply

__all__ = ["WorkspaceRoutes", "Workspaces"]


class InputStatus(msgspec.Struct, frozen=True):
    """An input and what became of the batches that it sent since the server started.

    They were ``taken``, ``kept`` without a profile (an input that may only read), ``dropped`` (of an unknown user, by
    an input that may only update), ``set_aside`` whole, or ``refused`` with an error. ``quarantined_events`` were
    set aside from batches that were taken or kept.
    """

    input: str
    name: str
    kind: str
    protection: str
    taken: int
    kept: int
    dropped: int
    set_aside: int
    refused: int
    quarantined_events: int


class WorkspaceStatus(msgspec.Struct, frozen=True):
    """A workspace and its inputs."""

    id: int
    name: str
    account: int
    organization: int
    scope: str
    inputs: list[InputStatus]


class Workspaces(msgspec.Struct, frozen=True):
    """The workspaces of a client, with the counts of so many ``workers``.

    ``since_ms`` is when the last of them began to count.
    """

    since_ms: int
    workers: int
    workspaces: list[WorkspaceStatus]


class WorkspaceRoutes:
    """Answers which workspaces there are; ``counted`` gives what became of batches in all workers."""

    def __init__(self, config: Config, access: Access, counted: Callable[[], Awaitable[Ingested]]) -> None:
        self._config = config
        self._access = access
        self._counted = counted

    async def workspaces(self, exchange: Exchange) -> Reply:
        """Answer the workspaces that a client may see."""
        caller = await self._access.caller(exchange, READ)
        Query(exchange)
        counted = await self._counted()
        seen = [
            WorkspaceStatus(
                one.id, one.name, one.account, one.organization, one.scope, self._inputs(one.name, counted)
            )
            for one in self._config.workspaces
            if one.name in caller.workspaces
        ]
        return answer(Workspaces(counted.since_ms, counted.workers, seen))

    def _inputs(self, workspace: str, counted: Ingested) -> list[InputStatus]:
        counts = counted.batches
        return [
            InputStatus(
                input=one.id,
                name=one.name,
                kind=one.kind,
                protection=one.protection,
                taken=counts[one.id, "taken"],
                kept=counts[one.id, "kept"],
                dropped=counts[one.id, "dropped"],
                set_aside=counts[one.id, "set_aside"],
                refused=counts[one.id, "refused"],
                quarantined_events=counted.events[one.id, "quarantined"],
            )
            for one in self._config.inputs
            if one.workspace == workspace
        ]
