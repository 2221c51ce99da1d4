"""The workspaces of a client, their inputs, and what came of what these sent (docs/admin-api.md, "Workspaces")."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from oneself.config import Config
from oneself.http.admin.access import READ, Access, answer
from oneself.http.admin.batch_view import Outcome, outcome_of
from oneself.http.admin.query import Query
from oneself.http.exchange import Exchange
from oneself.http.wire import Reply
from oneself.journal import BatchRecord, Entry

__all__ = ["Tally", "WorkspaceRoutes", "Workspaces"]


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
    """The workspaces of a client; ``since_ms`` is when the server began to count."""

    since_ms: int
    workspaces: list[WorkspaceStatus]


class Tally:
    """Counts what becomes of batches; give ``note`` to an engine's listeners."""

    def __init__(self) -> None:
        self.batches: Counter[tuple[str, Outcome]] = Counter()
        self.events: Counter[str] = Counter()

    def note(self, _position: int, entry: Entry, record: BatchRecord | None) -> None:
        """Count one batch."""
        self.batches[entry.input, outcome_of(entry, record)] += 1
        if record is not None and record.quarantined:
            self.events[entry.input] += len(record.quarantined)


class WorkspaceRoutes:
    """Answers which workspaces there are. ``clock`` gives unix seconds."""

    def __init__(self, config: Config, access: Access, tally: Tally, clock: Callable[[], float]) -> None:
        self._config = config
        self._access = access
        self._tally = tally
        self._since_ms = int(clock() * 1000)

    async def workspaces(self, exchange: Exchange) -> Reply:
        """Answer the workspaces that a client may see."""
        caller = await self._access.caller(exchange, READ)
        Query(exchange)
        seen = [
            WorkspaceStatus(one.id, one.name, one.account, one.organization, one.scope, self._inputs(one.name))
            for one in self._config.workspaces
            if one.name in caller.workspaces
        ]
        return answer(Workspaces(self._since_ms, seen))

    def _inputs(self, workspace: str) -> list[InputStatus]:
        counts = self._tally.batches
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
                quarantined_events=self._tally.events[one.id],
            )
            for one in self._config.inputs
            if one.workspace == workspace
        ]
