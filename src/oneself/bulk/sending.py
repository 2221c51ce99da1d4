"""Taking rows in by a running server: bulk requests, one after another, tried again as the server asks for it."""

from __future__ import annotations

import asyncio
import base64
import http.client
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from oneself.bulk.checkpoint import Counts
from oneself.bulk.importing import Taken
from oneself.bulk.intake import check_row, set_aside
from oneself.bulk.model import BulkError, Rejected
from oneself.config import Input
from oneself.engine import delivery
from oneself.profiles import BatchError, Source

__all__ = ["Client", "ServerTaker"]

_MAX_BATCHES: Final = 100
_MAX_BYTES: Final = 256 * 1024

_TIMEOUT_SECONDS: Final = 60
_TRIES: Final = 8
"""So often a request is sent to a server that does not answer, or says that it cannot work; then it is given up."""

_LONGEST_WAIT_SECONDS: Final = 60

_encoder = msgspec.json.Encoder()

Numbered = tuple[int, dict[str, Any]]


class _Sent(NamedTuple):
    """One batch on its way: its row's number, what it was made of, and its body."""

    number: int
    document: dict[str, Any]
    body: bytes


class Client:
    """Posts to one server over one connection that stays open, by Basic authentication.

    ``stopped`` ends waiting: a request that would be tried again is given up.
    """

    def __init__(self, url: str, caller: Input) -> None:
        """Prepare to post; raise ``BulkError`` where the URL is none of a server."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise BulkError(f"--url {url!r} is no address of a server; write http://HOST:PORT.")
        self.stopped = Event()
        self._url = url
        self._root = parts.path.rstrip("/")
        self._input = caller
        self._headers = {
            "Content-Type": "application/json",
            "Authorization": "Basic " + base64.b64encode(f"{caller.key}:{caller.secret}".encode()).decode(),
        }
        if parts.scheme == "https":
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS, context=ssl.create_default_context()
            )
        else:
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS)

    def post(self, path: str, body: bytes) -> tuple[int, str]:
        """Return the status and the message of an answer that another try would not change.

        Raises ``BulkError`` where the server cannot be reached, refuses the credentials, or stays unable to answer.
        """
        failures = 0
        while True:
            try:
                self._connection.request("POST", self._root + path, body, self._headers)
                answer = self._connection.getresponse()
                status, wait, text = answer.status, answer.getheader("Retry-After"), answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                status, wait, problem = 0, None, f"cannot be reached: {error or type(error).__name__}"
            else:
                problem = f"answers {status}: {_message(text)}"
            if status in (401, 403, 404):
                raise BulkError(f"{self._url} {problem} (as input {self._input.id}). Check --url and --config.")
            if 0 < status < 500 and status != 429:
                return status, _message(text)
            failures = 0 if status == 429 else failures + 1
            if failures == _TRIES or self.stopped.is_set():
                raise BulkError(f"{self._url} {problem}.")
            self.pause(_wait(wait, failures))

    def pause(self, seconds: float) -> None:
        """Wait before another try."""
        self.stopped.wait(seconds)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _wait(asked: str | None, failures: int) -> float:
    """Return how many seconds to wait: what the server asked for, else longer and longer, with some chance in it."""
    if asked is not None and asked.isascii() and asked.isdigit():
        return float(min(int(asked), _LONGEST_WAIT_SECONDS))
    return min(_LONGEST_WAIT_SECONDS, 0.5 * (1 << failures)) * random.uniform(0.5, 1)


def _message(body: bytes) -> str:
    """Return what an answer's body says is wrong."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        document = None
    message = document.get("message") if isinstance(document, dict) else None
    return message if isinstance(message, str) else body[:200].decode(errors="replace") or "nothing"


class ServerTaker:
    """Takes rows in through a server. It looks at each row itself first, since a bulk answer tells of none."""

    position = 0

    def __init__(
        self, client: Client, source: Source, *, historical: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        """Prepare to send rows of an input; ``clock`` gives unix seconds."""
        self._client = client
        self._source = source
        self._historical = historical
        self._path = "/v2/bulkevents/historical" if historical else "/v2/bulkevents"
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "oneself-send")  # one: rows arrive in their order

    def begin(self, rows: Sequence[Numbered], *, tabular: bool) -> Awaitable[Taken]:
        """Begin to send rows."""
        return asyncio.get_running_loop().run_in_executor(self._thread, self._take, rows, tabular)

    def close(self) -> None:
        """Wait for what is being sent, and close the connection."""
        self._thread.shutdown()
        self._client.close()

    def _take(self, rows: Sequence[Numbered], tabular: bool) -> Taken:
        received_ms = int(self._clock() * 1000)
        rejected: list[Rejected] = []
        aside: dict[int, list[Rejected]] = {}
        sound: list[_Sent] = []
        for number, document in rows:
            try:
                call = delivery(document, self._source, received_ms, scope="", historical=self._historical)
                if tabular:
                    check_row(call)
            except BatchError as error:
                rejected.append(Rejected(number, str(error), document))
            else:
                aside[number] = set_aside(number, call)
                sound.append(_Sent(number, document, _encoder.encode(document)))
        for request in _requests(sound):
            refused = self._send(request)
            rejected += refused
            for bad in refused:
                aside.pop(bad.number)
        rejected += (bad for bads in aside.values() for bad in bads)
        counts = Counts(
            taken=len(aside),
            rejected=len(rows) - len(aside),
            set_aside=sum(map(len, aside.values())),
        )
        return Taken(counts, rejected)

    def _send(self, request: Sequence[_Sent]) -> list[Rejected]:
        """Send batches in one request; where the server refuses it, find out which of them it is about."""
        status, message = self._client.post(self._path, b"[" + b",".join(sent.body for sent in request) + b"]")
        if status == 202:
            return []
        if len(request) == 1:
            return [Rejected(request[0].number, f"the server answers {status}: {message}", request[0].document)]
        middle = len(request) // 2
        return [*self._send(request[:middle]), *self._send(request[middle:])]


def _requests(batches: Sequence[_Sent]) -> Iterator[list[_Sent]]:
    """Yield batches as they fit into a request each; a large one goes alone."""
    request: list[_Sent] = []
    size = 2
    for batch in batches:
        if request and (len(request) == _MAX_BATCHES or size + len(batch.body) > _MAX_BYTES):
            yield request
            request, size = [], 2
        request.append(batch)
        size += len(batch.body) + 1
    if request:
        yield request
