"""Answering hot requests straight from the connection: no ASGI messages, no task, one write.

A request goes this way only where nothing about it is out of the ordinary. Every other one, and so every rule
about what is out of the ordinary, stays with the application.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from oneself.engine.calls import Outcome
from oneself.http.auth import Caller, Gate
from oneself.http.wire import Header, HttpError, Reply

__all__ = ["Ask", "Direct", "DirectCycle", "HotRoute", "admit_direct"]

_MOST_BYTES: Final = 32 * 1024
"""Longer bodies go the other way, where reading is paused while they wait."""

_UNUSUAL: Final = frozenset({b"content-encoding", b"transfer-encoding", b"expect"})
_STATUS_LINES: Final = {200: b"HTTP/1.1 200 OK\r\n", 202: b"HTTP/1.1 202 Accepted\r\n"}

Ask = Callable[[Caller, bytes], tuple[asyncio.Future[Outcome], Callable[[Outcome], Reply]]]
"""Submits a request; gives its outcome to be, and what makes a reply of that."""


class HotRoute(NamedTuple):
    """What answers a hot path: ``fail`` makes the reply of an error, ``record`` counts status and seconds."""

    ask: Ask
    fail: Callable[[BaseException, bytes], Reply]
    record: Callable[[int, float], None]


class Direct(NamedTuple):
    """A request that can be answered straight from its connection."""

    route: HotRoute
    caller: Caller


def admit_direct(route: HotRoute, headers: list[Header], gate: Gate) -> Direct | None:
    """Return what answers a request with these headers, None where the application has to look at it."""
    found = dict(headers)
    length = found.get(b"content-length", b"0")
    if not length.isdigit() or not 0 < int(length) <= _MOST_BYTES or len(found) != len(headers):
        return None
    if not _UNUSUAL.isdisjoint(found):
        return None
    try:
        caller = gate.admit(found)
    except HttpError:
        return None
    return None if caller is None else Direct(route, caller)


class _NoEvent:
    """Stands in for the event that an ASGI application would wait for."""

    def set(self) -> None:
        """Nobody waits."""


_NO_EVENT: Final = _NoEvent()


class DirectCycle:
    """One hot request on its way, with the attributes that uvicorn's protocol expects of its own cycles.

    ``headers`` go before those of the reply; ``done`` is called when the answer is written.
    """

    __slots__ = (
        "_answer",
        "_began",
        "_caller",
        "_done",
        "_headers",
        "_reply",
        "_route",
        "_transport",
        "body",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
    )

    def __init__(
        self,
        direct: Direct,
        transport: asyncio.Transport,
        headers: list[Header],
        keep_alive: bool,
        done: Callable[[], None],
    ) -> None:
        self._route, self._caller = direct
        self._transport = transport
        self._headers = headers
        self._done = done
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self.message_event = _NO_EVENT

    def begin(self) -> None:
        """Ask, now that the body is whole."""
        self._began = time.perf_counter()
        try:
            self._answer, self._reply = self._route.ask(self._caller, self.body)
        except Exception as error:
            self._write(self._route.fail(error, self.body))
        else:
            self._answer.add_done_callback(self._answered)

    def cancel(self) -> None:
        """Answer now that there was no time to; what the engine does with the request is not changed."""
        if not self.more_body and not self.response_complete:
            self._answer.cancel()

    def _answered(self, answer: asyncio.Future[Outcome]) -> None:
        try:
            reply = self._reply(answer.result())
        except (Exception, asyncio.CancelledError) as error:
            reply = self._route.fail(error, self.body)
        self._write(reply)

    def _write(self, reply: Reply) -> None:
        if self.disconnected:
            return
        lines = [_STATUS_LINES.get(reply.status) or b"HTTP/1.1 %d \r\n" % reply.status]
        for name, value in (*self._headers, *reply.headers):
            lines += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines += (b"\r\n", reply.body)
        self.response_started = self.response_complete = True
        self._transport.write(b"".join(lines))
        self._route.record(reply.status, time.perf_counter() - self._began)
        if not self.keep_alive:
            self._transport.close()
        self._done()
