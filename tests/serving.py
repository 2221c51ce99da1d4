"""A real `oneself serve` process for tests that go over HTTP.

    with serving(shop('strategy = "profile_link"'), tmp_path) as server:
        answer = server.identity("identify", {"email": "a@example.com"})

The process gets a free port and a data folder of its own, and is stopped when the block ends. When the block
fails, the end of its log is added to the error.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx

from engines import config_on, place_options
from oneself.identity import Create, Identity, Link, Unlink
from oneself.journal import Entry
from oneself.store import Place
from postgres_server import held

START_SECONDS = 30
STOP_SECONDS = 20
LOG_LINES = 60

_SHOP = """
[[workspace]]
id = 1001
name = "shop"
account = 10
organization = 1

[[input]]
workspace = "shop"
name = "server"
kind = "server"
key = "server-key"
secret = "server-secret"

[[input]]
workspace = "shop"
name = "web"
kind = "web"
key = "web-key"
secret = "web-secret"

[scope.shop]
"""


def shop(policy: str = "") -> str:
    """Return a configuration: one workspace, a server input, a web input, and ``policy`` as its scope's settings."""
    return _SHOP + policy + "\n"


class Key(NamedTuple):
    """The credentials of one input."""

    key: str
    secret: str


class Certificate(NamedTuple):
    """A certificate for 127.0.0.1 that signs itself: PEM files, and the base64 SHA-256 of its public key."""

    cert: Path
    private_key: Path
    key_hash: str

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        """Make one with the ``openssl`` command."""
        cert, private_key = folder / "cert.pem", folder / "key.pem"
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        _openssl("req", *kind, *subject, "-keyout", str(private_key), "-out", str(cert))
        public = _openssl("pkey", "-in", str(private_key), "-pubout", "-outform", "DER")
        return cls(cert, private_key, base64.b64encode(hashlib.sha256(public).digest()).decode())


def _openssl(*arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


@dataclass
class Server:
    """A running server: where it listens, where its data is, and the keys of its inputs by name."""

    port: int
    data: Path
    place: Place
    config: Path
    log: Path
    certificate: Certificate | None
    inputs: Mapping[str, Key]
    process: subprocess.Popen[bytes]
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        verify: ssl.SSLContext | bool = True
        if self.certificate:
            verify = ssl.create_default_context(cafile=str(self.certificate.cert))
        self.client = httpx.Client(base_url=self.base_url, verify=verify, timeout=20, trust_env=False)

    def let_files_grow(self, size: int) -> None:
        """Let the files of the server, and of the process that writes for it, grow to a size and no further."""
        started = [(at / "children").read_text() for at in Path(f"/proc/{self.process.pid}/task").iterdir()]
        for pid in (self.process.pid, *map(int, " ".join(started).split())):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    @contextlib.contextmanager
    def unable_to_write(self) -> Iterator[None]:
        """Let nothing be made durable while the block runs: the disk is full, or the database locked."""
        if self.place.database is not None:
            with held("SELECT * FROM journal_head FOR UPDATE", url=self.place.database):
                yield
            return
        self.let_files_grow((self.data / "journal.db-wal").stat().st_size)
        yield
        self.let_files_grow(resource.RLIM_INFINITY)

    @property
    def address(self) -> str:
        """``HOST:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """``http://HOST:PORT``, or https where the server has a certificate."""
        return f"{'https' if self.certificate else 'http'}://{self.address}"

    def post(self, path: str, body: Any, *, input: str = "server", **query: str) -> httpx.Response:
        """POST a JSON body as one of the inputs, by Basic authentication."""
        return self.client.post(path, json=body, auth=self.inputs[input], params=query)

    def identity(
        self, kind: str, identities: Mapping[str, str], *, input: str = "server", more: Any = None, **query: str
    ) -> Any:
        """Send an identify, login, logout or search request and return its 200 body; ``more`` adds to the body."""
        body = {"environment": "production", "request_id": str(uuid4()), "known_identities": identities}
        return _done(self.post(f"/v1/{kind}", body | (more or {}), input=input, **query))

    def look(self, identities: Mapping[str, str], *, previous_mpid: str | None = None) -> Any:
        """Ask whom these identities would find, and which of them it holds, without leaving a trace."""
        more = {"previous_mpid": previous_mpid}
        return self.identity("identify", identities, more=more, read_only="true", return_matches="true")

    def journal(self) -> list[Entry]:
        """Every decision so far, read while the server runs."""
        return asyncio.run(self._journal())

    async def _journal(self) -> list[Entry]:
        store = self.place.store(read_only=True)
        await store.open()
        try:
            return [entry async for _, entry in store.entries()]
        finally:
            await store.close()

    def held(self) -> dict[int, set[Identity]]:
        """What each profile holds by now: the fold of the journal's changes."""
        profiles: dict[int, set[Identity]] = {}
        for change in (change for entry in self.journal() for change in entry.decision.changes):
            if isinstance(change, Create):
                profiles[change.mpid] = set()
            elif isinstance(change, Link):
                profiles[change.mpid].add((change.type, change.value))
            elif isinstance(change, Unlink):
                profiles[change.mpid].remove((change.type, change.value))
        return profiles

    def modify(self, mpid: str, *changes: tuple[str, str | None, str | None], input: str = "server") -> Any:
        """Send a modify request of ``(type, old, new)`` changes and return its 200 body."""
        listed = [{"identity_type": type_, "old_value": old, "new_value": new} for type_, old, new in changes]
        body = {"environment": "production", "request_id": str(uuid4()), "identity_changes": listed}
        return _done(self.post(f"/v1/{mpid}/modify", body, input=input))

    def stop(self) -> int:
        """Ask the process to stop, wait until it has, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        return self.process.returncode

    def tail(self) -> str:
        """The last lines of what the process printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])


def _done(response: httpx.Response) -> Any:
    assert response.status_code == 200, f"{response.request.url}: {response.status_code} {response.text}"
    return response.json()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(
    config: str,
    folder: Path,
    *,
    certificate: Certificate | None = None,
    options: tuple[str, ...] = (),
    port: int = 0,
) -> Iterator[Server]:
    """Run `oneself serve` with a configuration (TOML text) while the block runs; ``folder`` takes its files.

    Without a ``port`` it gets a free one. A configuration that names a database has its data there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config_file, data, log, port = folder / "oneself.toml", folder / "data", folder / "serve.log", port or free_port()
    place: list[str] = []
    if not tomllib.loads(config).get("database"):
        config, place = config_on(config, data), place_options(data)
    config_file.write_text(config)
    command = [sys.executable, "-m", "oneself", "serve", "--config", str(config_file), *place]
    command += ["--port", str(port), *options]
    if certificate:
        command += ["--tls-cert", str(certificate.cert), "--tls-key", str(certificate.private_key)]
    inputs = {row["name"]: Key(row["key"], row["secret"]) for row in tomllib.loads(config).get("input", [])}
    with log.open("ab") as output:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ONESELF_")}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ)
    database = tomllib.loads(config).get("database")
    server = Server(port, data, Place(data, database), config_file, log, certificate, inputs, process)
    try:
        _wait_until_ready(server)
        yield server
        code = server.stop()
        assert code == 0, f"oneself serve ended with exit code {code}"
    except BaseException as error:
        error.add_note(f"The server's log ends with:\n{server.tail()}")
        raise
    finally:
        server.client.close()
        server.stop()


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise AssertionError(
                f"oneself serve ended with exit code {server.process.returncode} before it was ready"
            )
        with contextlib.suppress(httpx.TransportError):
            if server.client.get("/readyz").status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"oneself serve was not ready within {START_SECONDS} s")
