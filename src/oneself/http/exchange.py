"""One request on its way through the edge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from oneself.http.auth import Caller, Gate
from oneself.http.body import BODY_LIMIT, read_body
from oneself.http.wire import Reply, Stream

__all__ = ["Exchange", "Handler", "Receive", "Scope", "Send", "forwarded"]

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

    async def admit(self, gate: Gate, limit: int = BODY_LIMIT) -> Caller:
        """Read the body and return the caller, whose key or signature is in the headers."""
        caller = gate.admit(self.headers)
        self.body = await read_body(self.headers, self.receive, limit)
        if caller is None:
            caller = self._verified(gate)
        self.caller = caller
        return caller

    async def admit_path(self, gate: Gate, key: str, limit: int = BODY_LIMIT) -> Caller:
        """Read the body and return the caller of a path that names a key."""
        caller = gate.admit_path(self.headers, key)
        self.body = await read_body(self.headers, self.receive, limit)
        if caller is None:
            caller = self._verified(gate)
            gate.check_path(caller, key)
        self.caller = caller
        return caller

    @property
    def sender(self) -> str:
        """The address that the request came from: as a proxy says, else the connection's; empty where unknown."""
        client = self.scope.get("client")
        first_lines = dict(reversed(self.scope["headers"]))  # a proxy may add a line of its own
        return forwarded(first_lines) or (client[0] if client else "")

    def _verified(self, gate: Gate) -> Caller:
        scope = self.scope
        return gate.verify(
            self.headers, scope["method"], scope["raw_path"], scope["query_string"], self.body
        )  # fmt: skip


def forwarded(headers: Mapping[bytes, bytes]) -> str:
    """Return the address that a proxy says a request came from, without a port; empty where none does."""
    said = headers.get(b"x-forwarded-for")
    if not said:
        return ""
    address = said.partition(b",")[0].strip().decode("latin-1")
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


Handler = Callable[[Exchange], Awaitable[Reply | Stream]]
"""Answers a request, or raises ``HttpError``."""
