"""What the edge hands to the engine, and what it gets back."""

from __future__ import annotations

import msgspec

from oneself.identity import Decision, Request

__all__ = ["Call", "Outcome"]


class Call(msgspec.Struct, frozen=True):
    """One authenticated, well-formed request.

    ``space`` is ``SCOPE/ENVIRONMENT``; ``input`` is ``WORKSPACE/INPUT`` and names the caller in the journal;
    with a ``request_id`` the call is idempotent by it and ``input``; ``read_only`` decides without writing.
    """

    space: str
    input: str
    request: Request
    request_id: str = ""
    read_only: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """The decision on a call: durable, unless it writes nothing by its nature (search, ``read_only``).

    ``position`` is its place in the journal, 0 where it has none; ``request`` is the request it was made for;
    ``repeated`` tells that the call had been answered before and this is that answer.
    """

    decision: Decision
    request: Request
    position: int = 0
    repeated: bool = False
