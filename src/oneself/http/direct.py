"""Answering hot requests straight from the connection: no ASGI messages, no task, one write.

A request goes this way only where nothing about it is out of the ordinary. Every other one, and so every rule
about what is out of the ordinary, stays with the application. Most clients send the same headers again and again:
those that were read once, and found to be ordinary, are known by their bytes from then on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

from oneself.engine.calls import Call, Outcome
from oneself.http.auth import Caller, Gate
from oneself.http.exchange import forwarded
from oneself.http.wire import Header, HttpError, Reply

__all__ = ["Ask", "Direct", "DirectCycle", "Front", "HotRoute", "ReadRoute", "raw_reply"]

_MOST_BYTES: Final = 32 * 1024
"""Longer bodies go the other way, where reading is paused while they wait."""

_MOST_REMEMBERED: Final = 4_096
_LONGEST_REMEMBERED: Final = 2_048

_UNUSUAL: Final = frozenset({b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"})
_STATUS_LINES: Final = {one.value: f"HTTP/1.1 {one.value} {one.phrase}".encode() for one in HTTPStatus}

_header_line: Final = b": ".join

Ask = Callable[[Caller, bytes, str], tuple[Call, Callable[[Outcome], Reply]]]
"""Reads a body, given its caller and the address it came from; gives the call, and what makes the reply."""


class _Submit(Protocol):
    """Takes a call in and has its outcome told to ``answer``."""

    def __call__(self, call: Call, answer: DirectCycle, /) -> object: ...


class HotRoute(NamedTuple):
    """What answers a hot path: ``fail`` makes the reply of an error, ``record`` counts status and seconds.

    ``caller`` is the one whose public key the path has, None where the headers tell.
    """

    ask: Ask
    submit: _Submit
    fail: Callable[[BaseException, bytes], Reply]
    record: Callable[[int, float], None]
    caller: Caller | None = None


class ReadRoute(NamedTuple):
    """What answers GETs that only look something up; ``begins`` is how their paths begin.

    ``answer`` takes the target and the headers, and gives None where the application has to be asked.
    """

    begins: bytes
    answer: Callable[[bytes, Mapping[bytes, bytes]], Reply | None]
    record: Callable[[int, float], None]


class Direct(NamedTuple):
    """A request that can be answered straight from its connection; ``ip`` is what a proxy says of its sender."""

    route: HotRoute
    caller: Caller
    ip: str = ""


class _Head(NamedTuple):
    """What ordinary headers say: the body's length, and the caller, None where they show no credentials."""

    length: int
    caller: Caller | None
    ip: str


class Front:
    """Tells which requests can be answered straight from their connection. ``routes`` are whole paths of POSTs."""

    def __init__(self, routes: Mapping[bytes, HotRoute], reads: Sequence[ReadRoute], gate: Gate) -> None:
        self._routes = routes
        self._reads = {b"GET " + route.begins: route for route in reads}
        self._begins = tuple(self._reads)
        self._gate = gate
        self._heads: dict[bytes, tuple[Direct, int]] = {}
        self._read_heads: dict[bytes, dict[bytes, bytes]] = {}

    def admit(self, url: bytes, headers: list[Header], arrived: bytes) -> Direct | None:
        """Return what answers a POST with these headers, None where the application has to look at it.

        ``arrived`` is the data that the request began with; its headers are remembered where it has them whole.
        """
        route = self._routes.get(url)
        if route is None:
            return None
        head = self._read(dict(headers), len(headers))
        if head is None:
            return None
        direct = _direct(route, head)
        if direct is not None:
            self._remember(arrived, len(headers), direct, head.length)
        return direct

    def recall(self, data: bytes) -> tuple[Direct, bytes] | None:
        """Return what answers a whole request whose headers were admitted before, and its body."""
        end = data.find(b"\r\n\r\n")
        known = self._heads.get(data[:end])
        if known is None or len(data) - end - 4 != known[1]:
            return None
        return known[0], data[end + 4 :]

    def admit_read(self, headers: list[Header], arrived: bytes) -> None:
        """Remember the headers of a GET whose answer may be asked for again straight from the connection."""
        if not arrived.startswith(self._begins):
            return
        found = dict(headers)
        if len(found) != len(headers) or b"content-length" in found or not _UNUSUAL.isdisjoint(found):
            return
        lines = _header_lines(arrived, len(headers))
        if lines and arrived.endswith(b"\r\n\r\n"):
            if len(self._read_heads) >= _MOST_REMEMBERED:
                self._read_heads.clear()
            self._read_heads[lines] = found

    def read(self, data: bytes) -> tuple[ReadRoute, Reply] | None:
        """Answer a whole GET whose headers were seen before; None where the application has to be asked."""
        line = data.find(b"\r\n")
        headers = self._read_heads.get(data[line:-4])
        if headers is None or data[line - 9 : line] != b" HTTP/1.1" or data[-4:] != b"\r\n\r\n":
            return None
        target = data[4 : line - 9]
        for begins, route in self._reads.items():
            if data.startswith(begins):
                reply = route.answer(target, headers)
                return None if reply is None else (route, reply)
        return None

    def _read(self, found: Mapping[bytes, bytes], count: int) -> _Head | None:
        length = found.get(b"content-length", b"0")
        if not length.isdigit() or not 0 < int(length) <= _MOST_BYTES or len(found) != count:
            return None
        if not _UNUSUAL.isdisjoint(found):
            return None
        caller = None
        if b"authorization" in found or b"x-mp-key" in found or b"x-mp-signature" in found:
            try:
                caller = self._gate.admit(found)
            except HttpError:
                return None
            if caller is None:
                return None
        return _Head(int(length), caller, forwarded(found))

    def _remember(self, arrived: bytes, count: int, direct: Direct, length: int) -> None:
        """Remember what answers a request that begins as this one did, whose body has some length."""
        lines = _header_lines(arrived, count)
        if lines:
            if len(self._heads) >= _MOST_REMEMBERED:
                self._heads.clear()
            self._heads[arrived[: arrived.find(lines) + len(lines)]] = direct, length


def _direct(route: HotRoute, head: _Head) -> Direct | None:
    """Return what answers a request with such headers; who names a key in the path shows no other credentials."""
    if route.caller is not None:
        return Direct(route, route.caller, head.ip) if head.caller is None else None
    return None if head.caller is None else Direct(route, head.caller, head.ip)


def _header_lines(arrived: bytes, count: int) -> bytes:
    """Return the bytes of a request's headers; empty where each line is not one of ``count`` headers."""
    line, end = arrived.find(b"\r\n"), arrived.find(b"\r\n\r\n")
    lines = arrived[line:end] if 0 <= line < end <= _LONGEST_REMEMBERED else b""
    return lines if lines.count(b"\n") == count == lines.count(b"\r\n") else b""


class _NoEvent:
    """Stands in for the event that an ASGI application would wait for."""

    def set(self) -> None:
        """Nobody waits."""


_NO_EVENT: Final = _NoEvent()


class DirectCycle:
    """One hot request on its way, with the attributes that uvicorn's protocol expects of its own cycles.

    The engine tells it the outcome as it would tell a future. ``headers`` go before those of the reply;
    ``finished`` is called when the answer is written.
    """

    __slots__ = (
        "_began",
        "_caller",
        "_finished",
        "_headers",
        "_ip",
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
        finished: Callable[[], None],
    ) -> None:
        self._route, self._caller, self._ip = direct
        self._transport = transport
        self._headers = headers
        self._finished = finished
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
        route = self._route
        try:
            call, self._reply = route.ask(self._caller, self.body, self._ip or _peer(self._transport))
            route.submit(call, self)
        except Exception as error:
            self.set_exception(error)

    def cancel(self) -> None:
        """Answer now that there was no time to; what the engine does with the request is not changed."""
        if not self.more_body and not self.response_complete:
            self.set_exception(asyncio.CancelledError())

    # -- what the engine calls ------------------------------------------------------------------------------------

    def done(self) -> bool:
        """Tell whether the request is answered, or its client has gone."""
        return self.response_complete or self.disconnected

    def set_result(self, outcome: Outcome) -> None:
        """Answer with what was decided."""
        try:
            reply = self._reply(outcome)
        except Exception as error:
            reply = self._route.fail(error, self.body)
        self._write(reply)

    def set_exception(self, error: BaseException) -> None:
        """Answer with why nothing was decided."""
        self._write(self._route.fail(error, self.body))

    def _write(self, reply: Reply) -> None:
        if self.disconnected:
            return
        self.response_started = self.response_complete = True
        self._transport.write(_wire.written(reply, self._headers, keep_alive=self.keep_alive))
        self._route.record(reply.status, time.perf_counter() - self._began)
        if not self.keep_alive:
            self._transport.close()
        self._finished()


def raw_reply(reply: Reply, headers: list[Header], *, keep_alive: bool) -> bytes:
    """Return an answer as it goes over the wire; ``headers`` go before its own."""
    lines = [_STATUS_LINES[reply.status], *map(_header_line, headers), *map(_header_line, reply.headers)]
    if not keep_alive:
        lines.append(b"connection: close")
    lines += (b"", reply.body)
    return b"\r\n".join(lines)


class _Wire:
    """Puts answers together, and has the last one at hand: within a second many are the same."""

    def __init__(self) -> None:
        self._last: tuple[Reply | None, list[Header], bytes] = (None, [], b"")

    def written(self, reply: Reply, headers: list[Header], *, keep_alive: bool) -> bytes:
        """Return an answer as it goes over the wire; neither it nor the headers that go before its own may change."""
        if not keep_alive:
            return raw_reply(reply, headers, keep_alive=False)
        last, before, raw = self._last
        if reply is not last or headers is not before:
            raw = raw_reply(reply, headers, keep_alive=True)
            self._last = reply, headers, raw
        return raw


_wire: Final = _Wire()


def _peer(transport: asyncio.Transport) -> str:
    """Return the address at the other end of a connection; empty where there is none."""
    peer = transport.get_extra_info("peername")
    return peer[0] if peer else ""
