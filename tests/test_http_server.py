"""What one client may use of a server, and how it stops; on real sockets (docs/http.md, "Limits")."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from http_edge import BASIC, KEY, KINDS, StrawEngine, ask, edge, resolving, served
from oneself.engine.calls import Call, Outcome
from oneself.errors import Overloaded, StoreUnavailable
from raw_client import BODY, GET, HEADERS, Client, post
from serving import Certificate


def assert_last(client: Client, status: int) -> None:
    """The next answer has a status, all headers that a page needs, and is the last one."""
    got, headers, body = client.answer()
    assert got == status
    assert headers["access-control-allow-origin"] == "*"
    assert json.loads(body)["StatusCode"] == status
    assert client.rest() == b""


def assert_cut_off(client: Client, data: bytes, *, every: float = 0) -> None:
    """The server closes the connection while a client goes on sending."""
    for _ in range(20_000 if not every else 200):
        try:
            client.send(data)
        except ConnectionError:
            return
        except TimeoutError:
            continue
        time.sleep(every)
    pytest.fail("the server took it all")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(edge(), max_header_bytes=2_000, max_body_bytes=300_000) as port:
        yield port


@pytest.fixture
def hasty() -> Iterator[int]:
    """A server without patience."""
    with served(edge(), header_seconds=0.4, body_seconds=0.4, idle_seconds=1, stuck_seconds=0.4) as port:
        yield port


# -- ordinary use --------------------------------------------------------------------------------------------------


def test_many_requests_on_one_connection(port: int) -> None:
    with Client(port) as client:
        for _ in range(3):
            assert client.send(post()).status() == 200
            assert client.send(GET).status() == 200
            assert client.send(post(b"{")).status() == 400
            assert client.send(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n12345").status() == 404


SHORT_WAY_BODIES = [
    resolving(),
    resolving({"customer_id": "c-1", "email": None}, request_id="r-1", previous_mpid="7"),
    resolving({}),
    resolving({"email": "a\0b"}),
    resolving({"emial": "x"}, request_id="r-2"),
    {"environment": "moon"},
    [],
]


def without_chance(body: bytes) -> Any:
    """Return a JSON body without the request id that an error makes up."""
    document = json.loads(body)
    if len(document.get("RequestId", "")) == 36:
        del document["RequestId"]
    return document


@pytest.mark.parametrize("headers", [KEY, BASIC, {"x-mp-key": "nobody"}, {}], ids=["key", "basic", "wrong", "none"])
@pytest.mark.parametrize("failure", [None, Overloaded(3), StoreUnavailable("Full."), KeyError("ada@example.com")])
def test_a_connection_answers_as_the_application_does(headers: dict[str, str], failure: Exception | None) -> None:
    """Ordinary requests take a short way past the application, and nobody can tell."""
    engine = StrawEngine()
    engine.failure = failure
    app = edge(engine)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    with served(app) as port, Client(port) as client:
        for kind in KINDS:
            for body in SHORT_WAY_BODIES:
                text = json.dumps(body).encode()
                head = b"POST /v1/%s HTTP/1.1\r\n%scontent-length: %d\r\n\r\n" % (kind.encode(), lines, len(text))
                status, got_headers, got = client.send(head + text).answer()
                long_way = ask(app, "POST", f"/v1/{kind}", text, headers)
                assert status == long_way.status
                assert without_chance(got) == without_chance(long_way.body)
                del got_headers["date"]
                assert got_headers.keys() == long_way.headers.keys()


def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    with Client(port) as client:
        client.send(post() + GET + post(b"{") + post() + GET)
        assert [client.status() for _ in range(5)] == [200, 200, 400, 200, 200]


def test_a_request_may_come_byte_by_byte(port: int) -> None:
    with Client(port) as client:
        for at in range(len(post())):
            client.send(post()[at : at + 1])
        assert client.status() == 200


def test_a_chunked_body_is_read_and_what_follows_it_is_no_header(port: int) -> None:
    request = b"POST /v1/identify HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntrailer: x-mp-key\r\n"
    chunks = b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY)
    with Client(port) as client:
        assert client.send(request + b"x-mp-key: web-key\r\n\r\n" + chunks + b"\r\n").status() == 200
        assert client.send(request + b"\r\n" + chunks + b"x-mp-key: web-key\r\n\r\n").status() == 401


def test_continue_is_said_only_to_a_body_that_is_wanted(port: int) -> None:
    head = b"POST /v1/identify HTTP/1.1\r\n" + HEADERS + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n"
    with Client(port) as client:
        client.send(head % len(BODY))
        assert client.status() == 100
        assert client.send(BODY).status() == 200
    with Client(port) as client:
        assert client.send(head % 10_000_000).status() == 413


@pytest.mark.parametrize("to", [b"h2c", b"websocket", b"TLS/1.0"])
def test_upgrades_are_ignored(port: int, to: bytes) -> None:
    more = b"connection: upgrade, http2-settings\r\nupgrade: %s\r\nhttp2-settings: AAMAAABk\r\n" % to
    with Client(port) as client:
        client.send(post(more=more) + post() + b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + more + b"\r\n" + GET)
        assert [client.status() for _ in range(4)] == [200] * 4
        assert client.send(GET).status() == 200


def test_http_1_0_closes(port: int) -> None:
    with Client(port) as client:
        assert client.send(b"GET /healthz HTTP/1.0\r\n\r\n").status() == 200
        assert client.rest() == b""


def test_the_server_does_not_say_what_it_is(port: int) -> None:
    with Client(port) as client:
        _, headers, _ = client.send(GET).answer()
        assert "server" not in headers
        assert "date" in headers


def test_absolute_targets_and_queries(port: int) -> None:
    with Client(port) as client:
        assert client.send(b"GET http://x/healthz?a=b HTTP/1.1\r\nhost: x\r\n\r\n").status() == 200
        assert client.send(b"GET /v1/identify?read_only=%zz HTTP/1.1\r\nhost: x\r\n\r\n").status() == 405


# -- what is no HTTP -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"FROB /healthz HTTP/1.1\r\n\r\n",
        b"GET healthz HTTP/1.1\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx: a\x00b\r\n\r\n",
        b"POST /v1/identify HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST /v1/identify HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/identify HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v1/identify HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/identify HTTP/1.1\r\n" + HEADERS + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(port: int, data: bytes) -> None:
    with Client(port) as client:
        assert_last(client.send(data), 400)
    with Client(port) as client:
        assert client.send(GET).status() == 200
        assert_last(client.send(data), 400)


def test_what_follows_a_right_request_does_not_take_its_answer(port: int) -> None:
    with Client(port) as client:
        client.send(post() + b"nonsense\r\n\r\n")
        left = client.rest()
    assert left == b"" or left.startswith(b"HTTP/1.1 200")
    assert b" 400 " not in left


# -- sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 2_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"x: a\r\n" * 400 + b"\r\n",
        b"GET /healthz?" + b"a" * 2_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_headers_have_a_limit(port: int, head: bytes) -> None:
    with Client(port) as client:
        status, headers, body = client.send(head).answer()
        assert status == 431
        assert headers["access-control-allow-origin"] == "*"
        assert "2000 bytes" in json.loads(body)["message"]
        assert client.send(GET).status() == 200


@pytest.mark.parametrize("line", [b"x: " + b"a" * 100 + b"\r\n", b"a" * 103])
def test_headers_that_never_end_are_cut_off(port: int, line: bytes) -> None:
    with Client(port) as client:
        client.send(b"GET /healthz HTTP/1.1\r\n" + (b"" if line.endswith(b"\n") else b"x: "))
        assert_cut_off(client, line)


def test_a_large_request_before_does_not_count(port: int) -> None:
    with Client(port) as client:
        client.send(post(BODY + b" " * 100_000) + post()[:30])
        time.sleep(0.05)
        client.send(post()[30:])
        assert [client.status(), client.status()] == [200, 200]


def test_a_large_body_is_answered_and_the_connection_goes_on(port: int) -> None:
    with Client(port) as client:
        assert client.send(post(b"x" * 200_000)).status() == 413
        assert client.send(post()).status() == 200


@pytest.mark.parametrize("length", [b"content-length: 10000000\r\n", b"transfer-encoding: chunked\r\n"])
def test_what_is_thrown_away_is_bounded_too(port: int, length: bytes) -> None:
    with Client(port) as client:
        client.send(b"POST /v1/identify HTTP/1.1\r\n" + HEADERS + length + b"\r\n")
        if b"chunked" in length:
            client.send(b"989680\r\n")
            time.sleep(0.05)
        assert_cut_off(client, b"x" * 5_000)
    with Client(port) as client:
        assert client.send(GET).status() == 200


def test_too_many_pipelined_requests_are_not_kept(port: int) -> None:
    with Client(port) as client:
        client.send(post() * 500)
        assert client.rest().count(b"HTTP/1.1 200") < 100


# -- time ----------------------------------------------------------------------------------------------------------


def test_a_connection_that_says_nothing_is_closed(hasty: int) -> None:
    with Client(hasty) as client:
        assert client.rest() == b""


def test_headers_must_come_soon(hasty: int) -> None:
    with Client(hasty) as client:
        assert_last(client.send(b"GET /healthz HTTP/1.1\r\nx: "), 408)


def test_headers_must_come_soon_even_if_they_drip(hasty: int) -> None:
    with Client(hasty) as client:
        client.send(b"GET /healthz HTTP/1.1\r\nx: ")
        assert_cut_off(client, b"a", every=0.05)


def test_a_body_must_come_soon(hasty: int) -> None:
    with Client(hasty) as client:
        assert_last(client.send(post()[:-1]), 408)


def test_a_body_must_come_soon_even_if_it_was_answered(hasty: int) -> None:
    with Client(hasty) as client:
        client.send(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n1")
        assert client.status() == 404
        assert client.rest() == b""


def test_an_idle_connection_is_closed(hasty: int) -> None:
    with Client(hasty) as client:
        assert client.send(GET).status() == 200
        assert client.rest() == b""


def test_a_client_that_takes_no_answers_is_cut_off(hasty: int) -> None:
    with Client(hasty) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        request = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 32
        client.socket.settimeout(0.2)
        assert_cut_off(client, request, every=0.05)


class SlowEngine(StrawEngine):
    """Answers after a while."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.asked = threading.Event()

    def outcome(self, call: Call) -> asyncio.Future[Outcome]:
        done = super().outcome(call)
        later: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(self.seconds, lambda: later.done() or later.set_result(done.result()))
        self.asked.set()
        return later


def test_the_server_may_take_longer_than_the_client_may() -> None:
    with served(edge(SlowEngine(1.5)), header_seconds=0.3, body_seconds=0.3) as port, Client(port) as client:
        assert client.send(post() + post()[:40]).status() == 200


# -- many connections ----------------------------------------------------------------------------------------------


def test_connections_have_a_limit() -> None:
    with served(edge(), max_connections=3) as port:
        clients = [Client(port) for _ in range(3)]
        assert [client.send(GET).status() for client in clients] == [200, 200, 200]
        with Client(port) as client:
            status, headers, _ = client.send(post()).answer()
            assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
            assert headers["access-control-allow-origin"] == "*"
            assert client.rest() == b""
        clients[0].socket.close()
        for _ in range(100):
            with Client(port) as client:
                if client.send(GET).status() == 200:
                    break
            time.sleep(0.02)
        else:
            pytest.fail("no place became free")
        for client in clients:
            client.socket.close()


# -- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("tls"))


def test_tls(certificate: Certificate) -> None:
    with served(edge(), tls_cert=certificate.cert, tls_key=certificate.private_key, header_seconds=0.5) as port:
        context = ssl.create_default_context(cafile=str(certificate.cert))
        with httpx.Client(verify=context, trust_env=False, base_url=f"https://127.0.0.1:{port}") as client:
            assert client.post("/v1/identify", json=resolving(), headers=KEY).status_code == 200
            assert client.post("/v1/identify", content=b"x" * 10_000_000, headers=KEY).status_code == 413
            assert client.get("/healthz").status_code == 200
        with Client(port) as plain:  # plain HTTP to a TLS port, and a handshake that never comes
            plain.send(GET)
            assert b"200" not in plain.rest()
        with Client(port) as silent:
            assert silent.rest() == b""


def test_a_wrong_certificate_is_told(tmp_path: Path, certificate: Certificate) -> None:
    with pytest.raises(FileNotFoundError), served(edge(), tls_cert=tmp_path / "x", tls_key=certificate.private_key):
        pass
    with pytest.raises(ssl.SSLError), served(edge(), tls_cert=certificate.private_key, tls_key=certificate.cert):
        pass


def test_an_address_that_is_taken_is_told(port: int) -> None:
    with pytest.raises(OSError, match="address already in use"), served(edge(), port=port):
        pass


# -- stopping ------------------------------------------------------------------------------------------------------


def stopping(engine: SlowEngine, grace: int) -> tuple[int, dict[str, str], bytes]:
    """Send a request, stop the server while it is answered, and return the answer."""
    answers: list[Any] = []
    with served(edge(engine), grace_seconds=grace) as port:
        client = Client(port)
        idle = Client(port)
        assert idle.send(GET).status() == 200
        client.send(post())
        assert engine.asked.wait(10)
        reader = threading.Thread(target=lambda: answers.append(client.answer()))
        reader.start()
    reader.join(30)
    assert idle.rest() == b""
    assert client.rest() == b""
    client.socket.close()
    idle.socket.close()
    with pytest.raises(ConnectionRefusedError):
        Client(port)
    answer: tuple[int, dict[str, str], bytes] = answers[0]
    return answer


def test_a_stop_answers_what_was_accepted() -> None:
    status, headers, _ = stopping(SlowEngine(0.5), grace=10)
    assert status == 200
    assert headers["connection"] == "close"


def test_a_stop_waits_no_longer_than_the_grace_time() -> None:
    status, headers, _ = stopping(SlowEngine(60), grace=1)
    assert status == 503
    assert headers["retry-after"] == "1"


PROGRAM = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from http_edge import edge
from oneself.http import ServerSettings, serve
asyncio.run(serve(edge(), ServerSettings(port=0), on_bound=lambda port: print(port, flush=True)))
print("closed", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_and_lets_its_caller_go_on(number: signal.Signals) -> None:
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with Client(int(process.stdout.readline())) as client:
            assert client.send(GET).status() == 200
            process.send_signal(number)
            assert process.wait(20) == 0
        assert process.stdout.read() == "closed\n"
