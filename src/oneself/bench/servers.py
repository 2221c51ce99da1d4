"""The two servers of every benchmark: Oneself on a filled folder, and the bare endpoint (docs/benchmarks.md)."""

from __future__ import annotations

import re
import secrets
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from oneself.bench.batches import Batches
from oneself.bench.load import LoadReport, LoadSpec, run
from oneself.bench.mix import Cursor, IdentityMix
from oneself.bench.processes import free_port, serving
from oneself.bench.reads import Get, Reads
from oneself.store.embedded.store import FLUSH_SECONDS

__all__ = [
    "BARE_SHARE",
    "IDENTITY_KEY",
    "SERVER_KEY",
    "WEB_KEY",
    "LoadOptions",
    "Process",
    "Server",
    "bare",
    "batch_outcomes",
    "oneself",
    "profile",
    "together",
    "token",
    "write_config",
]

BARE_SHARE: Final = 0.5
"""The bare endpoint is loaded for this share of the time of a load."""

IDENTITY_KEY = "bench"
SERVER_KEY = "bench-server"
WEB_KEY = "bench-web"

_CLIENT = "bench-client"
_WARM_UP = 0.5  # s, of a server that stores nothing
_CONFIG = """
[[workspace]]
id = 1
name = "default"
account = 1
organization = 1

[[input]]
workspace = "default"
name = "bench"
kind = "server"
key = "bench"
secret = "{secret}"

[[input]]
workspace = "default"
name = "server"
kind = "server"
key = "bench-server"
secret = "{secret}"

[[input]]
workspace = "default"
name = "web"
kind = "web"
key = "bench-web"

[[api_client]]
client_id = "bench-client"
client_secret = "{secret}"
workspaces = ["default"]
permissions = ["profile:read"]

[scope.default]
strategy = "default"
"""


class Process(NamedTuple):
    """One process of several that serve the same data."""

    port: int
    pid: int


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How servers are loaded.

    ``seconds`` is the counted time of a load. ``settle`` is the time before it that is not counted, and of rest
    after it: long enough for the store to write its tables at least once. ``folder`` is where data folders are made.
    """

    seconds: float = 8.0
    settle: float = FLUSH_SECONDS + 1.0
    connections: int = 32
    rounds: int = 3
    folder: Path | None = None
    seed: int = 1


class Server:
    """A server under measurement: where it is, the ``secret`` of its inputs, and how far its loads have gone.

    ``others`` are processes that serve the same data.
    """

    def __init__(self, port: int, pid: int, secret: str = "", others: Sequence[Process] = ()) -> None:
        self.port = port
        self.pid = pid
        self.secret = secret
        self.others = others
        self.cursor = Cursor()

    @property
    def ports(self) -> list[int]:
        """The ports of all its processes."""
        return [self.port, *(other.port for other in self.others)]

    def load(
        self,
        work: Get | IdentityMix | Batches | Reads,
        options: LoadOptions,
        rate: float | None = None,
        *,
        status: int = 200,
        expect: str = "",
        stores: bool = True,
        share: float = 1.0,
        processes: int = 1,
    ) -> LoadReport:
        """Load the server for a ``share`` of the time; where it ``stores`` nothing, nothing has to settle.

        Each of the first ``processes`` that serve its data gets as many connections.
        """
        others = self.others[: processes - 1]
        assert len(others) == processes - 1, "so many processes do not run"
        spec = LoadSpec(
            self.port,
            options.seconds * share,
            options.connections * processes,
            options.settle if stores else min(options.settle, _WARM_UP),
            rate,
            work,
            self.cursor,
            options.seed,
            status,
            expect,
            pid=self.pid,
            more_ports=tuple(other.port for other in others),
            more_pids=tuple(other.pid for other in others),
        )
        report = run(spec)
        self.cursor = report.cursor
        return report


def write_config(folder: Path, secret: str, database: str | None = None) -> Path:
    """Write the benchmarks' configuration, with the URL of a database if there is one, and return its path."""
    config = folder / "oneself.toml"
    config.touch(0o600)
    named = "" if database is None else f"database = {msgspec.json.encode(database).decode()}\n"
    config.write_text(named + _CONFIG.format(secret=secret))
    return config


@contextmanager
def oneself(folder: Path) -> Iterator[Server]:
    """Serve ``folder / "data"``."""
    port, secret = free_port(), secrets.token_urlsafe()
    config = write_config(folder, secret)
    command = [sys.executable, "-m", "oneself", "serve", "--config", str(config), "--data", str(folder / "data")]
    command += ["--port", str(port)]
    with serving(command, f"http://127.0.0.1:{port}/readyz", folder / "log") as pid:
        yield Server(port, pid, secret)


@contextmanager
def together(folder: Path, database: str, processes: int) -> Iterator[Server]:
    """Serve a database by several processes, each on a port of its own."""
    secret = secrets.token_urlsafe()
    config = write_config(folder, secret, database)
    with ExitStack() as stack:
        made = []
        for number in range(processes):
            port = free_port()
            command = [sys.executable, "-m", "oneself", "serve", "--config", str(config), "--port", str(port)]
            ready = f"http://127.0.0.1:{port}/readyz"
            made.append(Process(port, stack.enter_context(serving(command, ready, folder / f"log-{number}"))))
        yield Server(*made[0], secret, made[1:])


@contextmanager
def bare(folder: Path, answer: bytes | None = None) -> Iterator[Server]:
    """Serve the bare endpoint, with a JSON document as its answer, else with an identity's."""
    port = free_port()
    command = [sys.executable, "-m", "oneself.bench.bare", str(port)]
    if answer is not None:
        path = folder / "answer.json"
        path.write_bytes(answer)
        command.append(str(path))
    with serving(command, f"http://127.0.0.1:{port}/", folder / "bare.log") as pid:
        yield Server(port, pid, secrets.token_urlsafe())


def token(server: Server) -> str:
    """Return a token for the Profile API."""
    asked = {"grant_type": "client_credentials", "client_id": _CLIENT, "client_secret": server.secret}
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/oauth/token", msgspec.json.encode(asked))
    told: dict[str, str] = msgspec.json.decode(_asked(request))
    return told["access_token"]


def profile(server: Server, path: str, bearer: str) -> bytes:
    """Return the Profile API's answer at a path."""
    headers = {"Authorization": f"Bearer {bearer}"}
    return _asked(urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers))


def batch_outcomes(server: Server) -> Counter[str]:
    """Return what became of a server's batches so far, as its processes count them themselves."""
    outcomes: Counter[str] = Counter()
    for port in server.ports:
        told = _asked(urllib.request.Request(f"http://127.0.0.1:{port}/metrics")).decode()
        for outcome, count in re.findall(r'^oneself_batches_total\{.*outcome="(\w+)"\} (\S+)$', told, re.MULTILINE):
            outcomes[outcome] += int(float(count))
    return outcomes


def _asked(request: urllib.request.Request) -> bytes:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=30) as answer:
        body: bytes = answer.read()
    return body
