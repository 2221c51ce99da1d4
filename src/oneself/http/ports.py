"""What the HTTP edge needs of the engine behind it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from oneself.engine.calls import Call, Outcome

__all__ = ["Engine"]


class Engine(Protocol):
    """Answers calls, durably."""

    @property
    def ready(self) -> bool:
        """Whether a call would be answered now."""

    @property
    def waiting(self) -> int:
        """How many calls wait for their answer."""

    def submit(self, call: Call) -> asyncio.Future[Outcome]:
        """Take a call in; raises ``Overloaded`` at once, and its future may raise ``StoreUnavailable``."""
