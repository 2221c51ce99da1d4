"""What the HTTP edge needs of the engine behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, overload

from oneself.engine.calls import Answer, Call, Outcome
from oneself.engine.engine import Listener
from oneself.engine.policies import Policies
from oneself.store import Store

__all__ = ["Engine"]


class Engine(Protocol):
    """Answers calls, durably."""

    @property
    def store(self) -> Store:
        """Where everything is kept; the edge reads there what needs no decision."""

    @property
    def policies(self) -> Policies:
        """The policies in force."""

    @property
    def ready(self) -> bool:
        """Whether a call would be answered now."""

    @property
    def waiting(self) -> int:
        """How many calls wait for their answer."""

    @property
    def listeners(self) -> list[Listener]:
        """Told of every batch that was taken in or dropped; add to it what is to be told, too."""

    @overload
    def submit(self, call: Call) -> asyncio.Future[Outcome]: ...

    @overload
    def submit(self, call: Call, answer: Answer) -> None: ...

    def submit(self, call: Call, answer: Answer | None = None) -> asyncio.Future[Outcome] | None:
        """Take a call in; raises ``Overloaded`` at once, and its future may raise ``StoreUnavailable``.

        With an ``answer`` that is told the outcome, there is no future.
        """

    def submit_all(self, calls: Sequence[Call]) -> list[asyncio.Future[Outcome]]:
        """Take calls in that become durable as one, all or none."""
