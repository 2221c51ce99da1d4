"""The load generator: a process of its own that costs a server's neighbour little (docs/benchmarks.md).

``python -m oneself.bench.load`` reads a ``LoadSpec`` as JSON from standard input and prints a ``LoadReport``.
Closed loop: every connection sends its next request when the last was answered. Paced: requests are due at a
fixed rate whatever the answers do, and a latency counts from the moment its request was due.
"""

from __future__ import annotations

import asyncio
import math
import resource
import subprocess
import sys
import traceback
from array import array
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle
from time import perf_counter
from typing import Any, cast

import msgspec

from oneself.bench.batches import Batches
from oneself.bench.mix import Cursor, IdentityMix
from oneself.bench.processes import cpu_seconds, machine_seconds
from oneself.bench.reads import Get, Reads

__all__ = ["LoadError", "LoadReport", "LoadSpec", "measure", "percentile", "run"]

_TICK = 0.001  # s between two looks at what is due, in a paced run
_LOOK = 0.02  # s between two looks at what happened, else
_PATIENCE = 5.0  # s to wait for the last answers


class LoadError(Exception):
    """A load run that gave no figures; the message says why."""


class LoadSpec(msgspec.Struct, frozen=True):
    """What to send where, for how long.

    ``work`` makes the requests, beginning at ``cursor``. ``rate`` is requests a second, None for the closed loop.
    Times are seconds; the warm-up is sent and not counted. Every answer must have the status ``status``, and
    ``expect`` in its body. ``pid`` is the server, whose CPU time is read over the counted time; 0 for none.
    Connections are dealt out in turns to ``port`` and ``more_ports``, those of ``more_pids``.
    """

    port: int
    seconds: float
    connections: int = 32
    warm_up: float = 0.5
    rate: float | None = None
    work: Get | IdentityMix | Batches | Reads = Get()
    cursor: Cursor = msgspec.field(default_factory=Cursor)
    seed: int = 1
    status: int = 200
    expect: str = ""
    host: str = "127.0.0.1"
    pid: int = 0
    more_ports: tuple[int, ...] = ()
    more_pids: tuple[int, ...] = ()


class LoadReport(msgspec.Struct, frozen=True):
    """What came back in the counted time.

    ``answered`` are the answers with the expected status and body; latencies are theirs, in ms.
    ``errors`` counts all else: by status, ``unexpected body``, ``unreadable``, ``lost`` (the connection went away
    with a request on it), ``unanswered`` (nothing within 5 s of the end). CPU times are microseconds a request;
    ``generator_busy`` is the part of one core that the generator used; ``server_cpu`` is None where it cannot
    be read. ``machine_cpu`` is what everything on the machine used together, None where it is not told.
    """

    seconds: float
    answered: int
    rate: float
    p50: float
    p90: float
    p99: float
    max: float
    errors: dict[str, int]
    generator_cpu: float
    generator_busy: float
    server_cpu: float | None
    cursor: Cursor
    machine_cpu: float | None = None


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile of sorted values, 0 where there are none.

    It is the smallest value that at least ``share`` (0 to 1) of all values do not exceed.
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


class _Tally:
    """Counts answers between ``begin`` and ``end`` (``perf_counter`` seconds)."""

    def __init__(self, spec: LoadSpec, begin: float) -> None:
        self.begin = begin
        self.end = begin + spec.seconds
        self.status = b"%d" % spec.status
        self.expect = spec.expect.encode()
        self.by_due = spec.rate is not None  # whether an answer is counted: by when it was due, or its arrival
        self.latencies = array("d")
        self.errors: Counter[str] = Counter()


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    __slots__ = ("due", "rest", "source", "tally", "transport")

    def __init__(self, source: _Source, tally: _Tally) -> None:
        self.source = source
        self.tally = tally
        self.transport: asyncio.Transport | None = None
        self.rest = b""
        self.due = 0.0  # when the request on it was due; 0 while there is none

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.source.idle(self, perf_counter())

    def send(self, request: bytes, due: float) -> None:
        assert self.transport is not None
        self.due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        head = data.find(b"\r\n\r\n") + 4
        if head < 4:
            self.rest = data
            return
        at = data.find(b"ontent-", 0, head)  # "Content-Length" is nearly always the first or second such header
        if data[at + 7 : at + 14].lower() != b"length:":
            at = data[:head].lower().find(b"ontent-length:")
        if at < 0:
            self._answered("unreadable")
            return
        length = int(data[at + 14 : data.find(b"\r", at)])
        if len(data) < head + length:
            self.rest = data
            return
        self.rest = b""
        if data[9:12] != self.tally.status:
            self._answered(data[9:12].decode("ascii", "replace"))
        else:
            self._answered("" if data.find(self.tally.expect, head) >= 0 else "unexpected body")

    def _answered(self, error: str) -> None:
        now, due, tally = perf_counter(), self.due, self.tally
        self.due = 0.0
        if tally.begin <= (due if tally.by_due else now) < tally.end:
            if error:
                tally.errors[error] += 1
            else:
                tally.latencies.append(now - due)
        if error == "unreadable":
            assert self.transport is not None
            self.transport.abort()
            return
        self.source.idle(self, now)

    def connection_lost(self, _exc: Exception | None) -> None:
        if self.due and not self.source.closing:
            self.tally.errors["lost"] += 1
        self.source.lost(self)


class _Source:
    """Says what a connection without a request sends next: closed loop."""

    def __init__(self, make: Callable[[], bytes], end: float) -> None:
        self.make = make
        self.end = end
        self.closing = False
        self.open: set[_Connection] = set()
        self.gone = 0

    def idle(self, connection: _Connection, now: float) -> None:
        self.open.add(connection)
        if now < self.end:
            connection.send(self.make(), now)

    def lost(self, connection: _Connection) -> None:
        self.open.discard(connection)
        self.gone += 1

    def tick(self) -> None:
        """Send what is due."""


class _Paced(_Source):
    """A fixed rate: what is due and finds no idle connection waits, and its waiting counts as latency."""

    def __init__(self, make: Callable[[], bytes], begin: float, end: float, rate: float) -> None:
        super().__init__(make, end)
        self.begin = begin
        self.rate = rate
        self.sent = 0
        self.free: deque[_Connection] = deque()

    def idle(self, connection: _Connection, now: float) -> None:
        self.open.add(connection)
        due = self.begin + self.sent / self.rate
        if due <= now and due < self.end:
            self.sent += 1
            connection.send(self.make(), due)
        else:
            self.free.append(connection)

    def tick(self) -> None:
        now = perf_counter()
        while self.free:
            due = self.begin + self.sent / self.rate
            if due > now or due >= self.end:
                return
            connection = self.free.popleft()
            if connection in self.open:
                self.sent += 1
                connection.send(self.make(), due)


async def measure(spec: LoadSpec) -> LoadReport:
    """Send a load from this process and report on it; raise ``LoadError`` where no connection can be made."""
    loop = asyncio.get_running_loop()
    broken: list[str] = []
    loop.set_exception_handler(lambda _, context: broken.append(_describe(context)))
    start = perf_counter()
    begin = start + spec.warm_up
    tally = _Tally(spec, begin)
    make, cursor = spec.work.begin(f"{spec.host}:{spec.port}", spec.cursor, spec.seed + spec.cursor.requests)
    source = _Source(make, tally.end) if spec.rate is None else _Paced(make, start, tally.end, spec.rate)

    ports = cycle((spec.port, *spec.more_ports))

    async def connect() -> None:
        await loop.create_connection(lambda: _Connection(source, tally), spec.host, next(ports))

    try:
        await asyncio.gather(*(connect() for _ in range(spec.connections)))
        begun = await _pass(source, spec, begin, connect)
        ended = await _pass(source, spec, tally.end, connect)
    except OSError as error:
        raise LoadError(f"cannot connect to {spec.host}:{spec.port}: {error}") from error
    await _last_answers(source, tally)
    if broken:
        raise LoadError(f"the load generator failed: {broken[0]}")
    cpu, server_cpu, machine_cpu = (after - before for before, after in zip(begun, ended, strict=True))
    ordered = sorted(tally.latencies)
    answered = len(ordered)
    return LoadReport(
        seconds=spec.seconds,
        answered=answered,
        rate=answered / spec.seconds,
        p50=percentile(ordered, 0.5) * 1e3,
        p90=percentile(ordered, 0.9) * 1e3,
        p99=percentile(ordered, 0.99) * 1e3,
        max=percentile(ordered, 1.0) * 1e3,
        errors=dict(tally.errors),
        generator_cpu=cpu / max(answered, 1) * 1e6,
        generator_busy=cpu / spec.seconds,
        server_cpu=None if math.isnan(server_cpu) else server_cpu / max(answered, 1) * 1e6,
        cursor=cursor,
        machine_cpu=None if math.isnan(machine_cpu) else machine_cpu / max(answered, 1) * 1e6,
    )


def _describe(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return "".join(traceback.format_exception(error)) if error else str(context.get("message"))


async def _pass(
    source: _Source, spec: LoadSpec, until: float, connect: Callable[[], Awaitable[None]]
) -> tuple[float, float, float]:
    """Let time pass, send what is due, and replace lost connections; return CPU seconds: own, servers', all."""
    while (left := until - perf_counter()) > 0:
        source.tick()
        for _ in range(source.gone):
            source.gone -= 1
            await connect()
        await asyncio.sleep(min(left, _TICK if spec.rate is not None else _LOOK))
    own = resource.getrusage(resource.RUSAGE_SELF)
    servers = sum(map(cpu_seconds, (spec.pid, *spec.more_pids)))
    return own.ru_utime + own.ru_stime, servers, machine_seconds()


async def _last_answers(source: _Source, tally: _Tally) -> None:
    for _ in range(int(_PATIENCE / _LOOK)):
        if not any(connection.due for connection in source.open):
            break
        await asyncio.sleep(_LOOK)
    source.closing = True
    unanswered = sum(1 for connection in source.open if connection.due)
    if unanswered:
        tally.errors["unanswered"] += unanswered
    for connection in list(source.open):
        if connection.transport is not None:
            connection.transport.abort()


def run(spec: LoadSpec) -> LoadReport:
    """Send a load from a process of its own and return its report; raise ``LoadError`` where there is none."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "oneself.bench.load"],
            input=msgspec.json.encode(spec),
            capture_output=True,
            timeout=spec.warm_up + spec.seconds + _PATIENCE + 60,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError("the load generator did not end in time") from error
    if done.returncode:
        raise LoadError(done.stderr.decode(errors="replace").strip() or "the load generator failed")
    return msgspec.json.decode(done.stdout, type=LoadReport)


def main() -> int:
    """Read a spec from standard input, print its report."""
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadSpec)
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        import uvloop

        loop_factory = uvloop.new_event_loop
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            report = runner.run(measure(spec))
    except LoadError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
