"""One connection: uvicorn's protocol, and the bounds on what a client may send and how long it may take.

The bounds on time are kept by ``Connection.check``, which the server calls for every connection now and then;
no request has a timer of its own.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from oneself.http.direct import Direct, DirectCycle, Front, raw_reply
from oneself.http.exchange import Receive, Scope, Send
from oneself.http.wire import HttpError, error_reply

__all__ = ["Connection", "Limits", "Watch"]

_MOST_PIPELINED: Final = 64


class Limits(msgspec.Struct, frozen=True):
    """What one client may use. ``body_bytes`` counts what is read and thrown away, too."""

    header_bytes: int
    body_bytes: int
    header_seconds: float
    body_seconds: float
    idle_seconds: float
    stuck_seconds: float
    connections: int


class Watch:
    """What all connections of a server share: their limits, the time as of the last check, whether it stops."""

    def __init__(self, limits: Limits, now: float) -> None:
        self.limits = limits
        self.now = now
        self.stopping = False


_FIRST, _HEADERS, _BODY, _ANSWER, _NEXT = range(5)
"""What a connection waits for: its first request, the rest of a request's headers or body, its answer, another."""


class Connection(HttpToolsProtocol):
    """A connection that is cut off when its client is too slow or sends too much.

    ``stage`` is what is waited for, ``since`` when that began, ``taken`` how many bytes of the present request
    came after those with which it began.
    """

    def __init__(
        self, watch: Watch, config: Config, server_state: ServerState, loop: asyncio.AbstractEventLoop
    ) -> None:  # fmt: skip
        super().__init__(config, server_state, {}, loop)
        self._front: Front | None = getattr(self.app, "front", None)
        self._arrived = b""
        self.watch = watch
        self.stage = _FIRST
        self.since = watch.now
        self.taken = 0
        self._arriving = 0
        self._began = False
        self._upgrading = False
        self._stuck_since: float | None = None
        self._crowded = False

    # -- what uvicorn's protocol calls ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; a connection too many is answered, but does no work."""
        super().connection_made(transport)
        self._crowded = len(self.connections) > self.watch.limits.connections

    def data_received(self, data: bytes) -> None:
        """Take what arrived; give up on what is no HTTP or too much."""
        self._unset_keepalive_if_required()
        if self._front is not None and self._is_idle():
            if data.startswith(b"GET "):
                if self._read_directly(data):
                    return
            else:
                found = self._front.recall(data)
                if found is not None:
                    self._begin_direct(found[0], True)
                    self.taken = 0
                    self._complete_direct(found[1])
                    return
            self._arrived = data
        while data and not self.transport.is_closing():
            self._began = False
            self._arriving = self.taken + len(data)
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._as_without_upgrade() + data[upgrade.args[0] :]
                continue
            except httptools.HttpParserError:
                self._give_up(400, "The request is not HTTP.")
                return
            self.taken = 0 if self._began else self._arriving
            limits = self.watch.limits
            if self.taken > limits.header_bytes and self.stage is _HEADERS:
                self._give_up(431, _too_many(limits))
            elif self.taken > limits.body_bytes + limits.header_bytes:
                self._give_up(413, f"body: it is larger than {limits.body_bytes} bytes.")
            return

    def _is_idle(self) -> bool:
        """Tell whether what arrives next begins a request that can be answered at once."""
        return (
            (self.stage is _NEXT or self.stage is _FIRST)
            and not (self._crowded or self.watch.stopping or self.flow.write_paused)
            and (self.cycle is None or self.cycle.response_complete)
        )

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.stage = _HEADERS
        self.since = self.watch.now
        self.taken = 0
        if self._began:
            self._arrived = b""  # it did not begin the data
        self._began = True

    def on_headers_complete(self) -> None:
        """Start answering a request, unless its headers or the connections are too many."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("this server is no proxy")
            self._upgrading = True
            return
        refusal = None
        if self._crowded:
            refusal = HttpError(503, "Too many connections are open; try again.", retry_after=1)
        elif self._arriving > self.watch.limits.header_bytes < self._header_bytes():
            refusal = HttpError(431, _too_many(self.watch.limits))
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise ValueError("too many requests wait on this connection")
        if refusal is None:
            if not self._go_direct():
                super().on_headers_complete()
        else:
            app, self.app = self.app, _Refuse(refusal)
            try:
                super().on_headers_complete()
            finally:
                self.app = app
        if self._crowded or self.watch.stopping:
            self.cycle.keep_alive = False
        self.headers = []  # what comes after a chunked body is no header of the request
        self.stage = _BODY
        self.since = self.watch.now

    def _go_direct(self) -> bool:
        """Begin a hot request that can be answered straight from here; tell whether it is one."""
        cycle, parser = self.cycle, self.parser
        if (cycle is not None and not cycle.response_complete) or self.flow.write_paused or self._front is None:
            return False
        method, keep_alive = parser.get_method(), parser.should_keep_alive()
        if parser.get_http_version() != "1.1":
            return False
        if method == b"GET" and keep_alive and self._arrived:
            self._front.admit_read(self.headers, self._arrived)
        if method != b"POST":
            return False
        direct = self._front.admit(self.url, self.headers, self._arrived if keep_alive else b"")
        if direct is None:
            return False
        self._begin_direct(direct, keep_alive)
        return True

    def _read_directly(self, data: bytes) -> bool:
        """Answer a look-up that arrived whole, if that can be done from here; tell whether it was."""
        assert self._front is not None
        began = time.perf_counter()
        found = self._front.read(data)
        if found is None:
            return False
        route, reply = found
        self.transport.write(raw_reply(reply, self.server_state.default_headers, keep_alive=True))
        route.record(reply.status, time.perf_counter() - began)
        self.server_state.total_requests += 1
        self.taken = 0
        self.stage = _NEXT
        self.since = self.watch.now
        return True

    def _begin_direct(self, direct: Direct, keep_alive: bool) -> None:
        headers = self.server_state.default_headers
        self.cycle = DirectCycle(direct, self.transport, headers, keep_alive, self._direct_done)  # type: ignore[assignment]

    def _complete_direct(self, body: bytes) -> None:
        """Answer a hot request that arrived as one."""
        cycle = cast(DirectCycle, self.cycle)
        cycle.body = body
        cycle.more_body = False
        self.stage = _ANSWER
        self.since = self.watch.now
        cycle.begin()

    def cancel_direct(self) -> None:
        """Answer a hot request that cannot be waited for any longer."""
        if isinstance(self.cycle, DirectCycle):
            self.cycle.cancel()

    def _direct_done(self) -> None:
        if self.pipeline:
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self.stage = _NEXT
        self.since = self.watch.now

    def on_message_complete(self) -> None:
        """End a request; its answer may have been sent before."""
        if self._upgrading:
            return
        super().on_message_complete()
        if isinstance(self.cycle, DirectCycle):
            self.stage = _ANSWER
            self.since = self.watch.now
            self.cycle.begin()
            return
        self.stage = _NEXT if self.cycle.response_complete else _ANSWER
        self.since = self.watch.now

    def on_response_complete(self) -> None:
        """Be ready for the next request, unless this one is still arriving."""
        super().on_response_complete()
        if self.stage is _ANSWER and self.cycle.response_complete:  # it is not when this was an earlier request's
            self.stage = _NEXT
            self.since = self.watch.now

    # -- bounds ----------------------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Cut the client off where it takes too long to send, or to take its answers."""
        limits = self.watch.limits
        if self.flow.write_paused or self.transport.is_closing():
            if self._stuck_since is None:
                self._stuck_since = now
            elif now - self._stuck_since > limits.stuck_seconds:
                self.transport.abort()
            return
        self._stuck_since = None
        if self.flow.read_paused:  # then it is the client that waits
            self.since = now
            return
        waited = now - self.since
        if self.stage is _HEADERS and waited > limits.header_seconds:
            if self.cycle is None or self.cycle.response_complete:
                self._give_up(408, f"The headers took longer than {limits.header_seconds:g} seconds.")
        elif self.stage is _BODY and waited > limits.body_seconds:
            self._give_up(408, f"body: it took longer than {limits.body_seconds:g} seconds to arrive.")
        elif (self.stage is _NEXT and waited > limits.idle_seconds) or (
            self.stage is _FIRST and waited > limits.header_seconds
        ):
            self.transport.close()

    def _as_without_upgrade(self) -> bytes:
        """Return the headers that were just read, without the upgrade that they ask for.

        The parser takes what follows an upgrade for another protocol. Ours goes on with the request's body, and
        must not read that as a request of its own.
        """
        self._upgrading = False
        line = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        headers = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([line, *headers, b"", b""])

    def _header_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _give_up(self, status: int, message: str) -> None:
        """Answer a request that never became whole, if an answer can be told to be its own, and close."""
        cycle = self.cycle
        arriving = self.stage is _BODY  # then the cycle is that of this very request
        unanswered = cycle is not None and not cycle.response_complete
        silent = cycle.response_started or bool(self.pipeline) if arriving else unanswered
        if not silent:
            self.transport.write(_raw(HttpError(status, message)))
        if unanswered:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()


class _Refuse:
    """An application that answers one request with an error."""

    def __init__(self, error: HttpError) -> None:
        self._reply = error_reply(error)

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        reply = self._reply
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body})


def _too_many(limits: Limits) -> str:
    return f"The headers are larger than {limits.header_bytes} bytes."


def _raw(error: HttpError) -> bytes:
    """Return an error's answer as bytes, with which the connection ends."""
    reply = error_reply(error)
    lines: list[Any] = [b"HTTP/1.1 %d %s" % (reply.status, HTTPStatus(reply.status).phrase.encode())]
    lines += [name + b": " + value for name, value in [*reply.headers, (b"connection", b"close")]]
    return b"\r\n".join([*lines, b"", reply.body])
