"""What the edge hands to the engine, and what it gets back."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from oneself.identity import Decision, Request
from oneself.profiles import Batch, Quarantined
from oneself.store import Plan, Trimming

__all__ = ["Answer", "Call", "Delivery", "Outcome"]


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """What a batch brings: as it was sent, and as it was read.

    ``batch`` is None where the document is no batch, and ``reason`` then says why. ``refuse`` answers a batch
    that cannot be used with an error, instead of setting it aside. ``ip`` and ``historical`` are those that it
    was read with; ``max_event_names`` is the workspace's limit, 0 for none.
    """

    document: Any
    batch: Batch | None
    quarantined: tuple[Quarantined, ...] = ()
    reason: str = ""
    refuse: bool = False
    ip: str = ""
    historical: bool = False
    max_event_names: int = 0


class Call(msgspec.Struct, frozen=True, gc=False):
    """One authenticated, well-formed request.

    ``space`` is ``SCOPE/ENVIRONMENT``; ``input`` is ``WORKSPACE/INPUT`` and names the caller in the journal;
    with a ``request_id`` the call is idempotent by it and ``input``; ``read_only`` decides without writing.
    A ``delivery`` comes with requests of the kind ``batch``, a ``trimming`` with those of the kind ``retention``, a
    ``plan`` with those of the kinds ``undo`` and ``split``.
    """

    space: str
    input: str
    request: Request
    request_id: str = ""
    read_only: bool = False
    delivery: Delivery | None = None
    trimming: Trimming | None = None
    plan: Plan | None = None


class Answer(Protocol):
    """Who waits for an outcome: a future, or whatever can be told of it in the same way."""

    def done(self) -> bool:
        """Tell whether nobody waits any longer."""

    def set_result(self, outcome: Outcome, /) -> None:
        """Take the outcome."""

    def set_exception(self, error: Exception, /) -> None:
        """Take the reason why there is none."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The decision on a call: durable, unless it writes nothing by its nature (search, ``read_only``).

    ``position`` is its place in the journal, 0 where it has none; ``request`` is the request it was made for;
    ``repeated`` tells that the call had been answered before and this is that answer.
    """

    decision: Decision
    request: Request
    position: int = 0
    repeated: bool = False
