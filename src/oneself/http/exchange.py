"""One request on its way through the edge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from oneself.http.auth import Caller, Gate
from oneself.http.body import read_body
from oneself.http.wire import Reply

__all__ = ["Exchange", "Handler", "Receive", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Exchange:
    """A request, and what has been learnt of it: its caller and its body, once they are known."""

    __slots__ = ("body", "caller", "headers", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.caller: Caller | None = None
        self.body = b""

    async def admit(self, gate: Gate) -> Caller:
        """Read the body and return the caller, whose key or signature is in the headers."""
        caller = gate.admit(self.headers)
        self.body = await read_body(self.headers, self.receive)
        if caller is None:
            caller = self._verified(gate)
        self.caller = caller
        return caller

    async def admit_path(self, gate: Gate, key: str) -> Caller:
        """Read the body and return the caller of a path that names a key."""
        caller = gate.admit_path(self.headers, key)
        self.body = await read_body(self.headers, self.receive)
        if caller is None:
            caller = self._verified(gate)
            gate.check_path(caller, key)
        self.caller = caller
        return caller

    def _verified(self, gate: Gate) -> Caller:
        scope = self.scope
        return gate.verify(
            self.headers, scope["method"], scope["raw_path"], scope["query_string"], self.body
        )  # fmt: skip


Handler = Callable[[Exchange], Awaitable[Reply]]
"""Answers a request, or raises ``HttpError``."""
