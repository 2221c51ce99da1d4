"""The load generator counts every answer, and tells what was wrong of which (docs/benchmarks.md)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from oneself.bench import load
from oneself.bench.load import LoadError, LoadReport, LoadSpec, measure, percentile
from oneself.bench.processes import free_port

DATABASE = os.environ.get("ONESELF_BENCH_DATABASE", "postgresql://postgres@127.0.0.1:5432/test")
SCHEMA = f"oneself_rival_test_{os.getpid()}"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nright"


class Scripted:
    """An HTTP server in a thread that answers its n-th request (from 1) with ``script(n)``.

    A list is sent piece by piece; an empty answer closes the connection; None leaves it without one.
    """

    def __init__(self, script: Callable[[int], bytes | list[bytes] | None]) -> None:
        self.script = script
        self.served = 0
        self.heads: list[bytes] = []
        self.port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Scripted:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                self.served += 1
                answer = self.script(self.served)
                for piece in [answer] if isinstance(answer, bytes) else answer or []:
                    writer.write(piece)
                    await asyncio.sleep(0)
                if answer == b"":
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()


def loaded(server: Scripted, **more: Any) -> LoadReport:
    """Load a server for a moment, from this process, and return the report."""
    settings = {"seconds": 0.2, "warm_up": 0.0, "connections": 4, "expect": "right"} | more
    return asyncio.run(measure(LoadSpec(server.port, **settings)))


def test_every_answer_is_counted_but_those_on_their_way_at_the_end():
    with Scripted(lambda _: OK) as server:
        report = loaded(server)
    assert 0 < report.answered <= server.served <= report.answered + 4
    assert report.rate == report.answered / report.seconds
    assert report.errors == {}
    assert 0 < report.p50 <= report.p90 <= report.p99 <= report.max


def test_the_warm_up_is_sent_and_not_counted():
    with Scripted(lambda _: OK) as server:
        report = loaded(server, warm_up=0.2)
    assert server.served > report.answered + 4


def test_answers_that_are_not_as_they_should_be_are_errors_by_kind():
    def script(number: int) -> bytes:
        if number % 5 == 1:
            return b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
        return OK.replace(b"right", b"wrong") if number % 5 == 2 else OK

    with Scripted(script) as server:
        report = loaded(server, connections=1)
    assert report.errors["503"] == pytest.approx(server.served / 5, abs=1)
    assert report.errors["unexpected body"] == pytest.approx(server.served / 5, abs=1)
    assert 0 <= server.served - report.answered - sum(report.errors.values()) <= 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([OK[:10], OK[10:40], OK[40:-2], OK[-2:]], id="in pieces"),
        pytest.param(
            OK.replace(b"Content-Type", b"content-encoding").lower().replace(b"http", b"HTTP"), id="lower case"
        ),
        pytest.param(b"HTTP/1.1 200 \r\nx-content-: 9\r\ncontent-length: 5\r\n\r\nright", id="look-alike header"),
    ],
)
def test_answers_are_read_however_they_come(answer: bytes | list[bytes]):
    with Scripted(lambda _: answer) as server:
        report = loaded(server)
    assert report.errors == {}
    assert report.answered >= server.served - 4 > 0


def test_a_lost_connection_is_an_error_and_is_replaced():
    with Scripted(lambda number: b"" if number == 3 else OK) as server:
        report = loaded(server, connections=1)
    assert report.errors == {"lost": 1}
    assert report.answered > 2


def test_an_answer_of_unknown_length_is_an_error():
    with Scripted(lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") as server:
        report = loaded(server)
    assert report.answered == 0
    assert set(report.errors) == {"unreadable"}


def test_requests_that_are_never_answered_are_errors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(load, "_PATIENCE", 0.1)
    with Scripted(lambda _: None) as server:
        report = loaded(server)
    assert report.errors == {"unanswered": 4}


def test_a_paced_run_sends_just_what_is_due():
    with Scripted(lambda _: OK) as server:
        report = loaded(server, rate=200.0, seconds=0.5)
    assert server.served == report.answered == 100


def test_waiting_for_a_free_connection_counts_as_latency():
    """While the first answer takes 0.3 s, later requests wait: they are late from the moment they were due."""

    def script(number: int) -> bytes:
        if number == 1:
            threading.Event().wait(0.3)
        return OK

    with Scripted(script) as server:
        report = loaded(server, rate=50.0, seconds=0.3, connections=1)
    assert report.answered == 15
    assert report.max >= 300
    assert report.p50 >= 100  # the eighth of 15 requests was due after at most 0.16 s


def test_a_server_that_is_not_there_fails_the_run():
    with pytest.raises(LoadError, match="cannot connect"):
        load.run(LoadSpec(free_port(), 0.1))


def test_the_generator_runs_as_a_process_and_reads_the_servers_cpu_time():
    with Scripted(lambda _: OK) as server:
        report = load.run(LoadSpec(server.port, 0.2, 2, 0.0, expect="right", pid=os.getpid()))
    assert 0 < report.answered <= server.served
    assert report.generator_cpu > 0
    assert report.server_cpu is None or report.server_cpu >= 0
    assert server.heads[0].startswith(b"GET /healthz HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50), (0.9, 90), (0.99, 99), (0.999, 100), (1.0, 100), (0.0, 1), (0.011, 2)]
)
def test_percentiles_are_nearest_rank(share: float, value: float):
    assert percentile(range(1, 101), share) == value


def test_a_percentile_of_few_values_is_one_of_them():
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([], 0.5) == 0.0
