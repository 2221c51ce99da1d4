"""Clients that fight over few identities on several servers, and an account of what each of them saw, and when.

A client that is told to come back (503, 429), or is told nothing, asks again with the same request id, of any server.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from serving import shop

POLICY = """
strategy = "profile_conversion"
priority = ["customerid", "email", "other", "device_application_stamp"]
login = ["customerid", "email"]
unique = ["customerid", "email"]
max_known_profiles_per_value = 3
max_values_per_profile = 12
alias_delay = 0
"""
CONFIG = shop(POLICY)
"""A shop whose users soon share devices, whose values soon are guarded, and where anonymous users become known."""

CLIENTS = 24
PATIENCE_SECONDS = 40
"""So long a client asks again for the answer to its last request."""

_ANSWER_SECONDS = 20
_READS = ("search", "read_only")
_BACK_LATER = frozenset({0, 429, 503})
_CREDENTIALS = base64.b64encode(b"server-key:server-secret").decode()


class Sent(NamedTuple):
    """A request and what came of it; times are of this process' monotonic clock.

    ``sent`` is when it was sent first (of one that only reads: last), ``answered`` when its answer came, None where
    none did: ``status`` is then 0.
    """

    request_id: str
    kind: str
    path: str
    body: dict[str, Any]
    sent: float
    answered: float | None
    status: int
    answer: dict[str, Any]

    @property
    def reads(self) -> bool:
        """Whether it leaves no trace."""
        return self.kind in _READS


class Fight:
    """Clients at work while the block runs; at its end each has the answer to its last request, or gave up.

    ``account`` has every request, ``refused`` counts the 503 (and other) answers that clients did not leave it at,
    with 0 for connections that were lost.
    """

    def __init__(self, ports: Sequence[int], name: str, seed: object, clients: int = CLIENTS) -> None:
        self.account: list[Sent] = []
        self.refused: Counter[int] = Counter()
        self.refusals_without_retry_after = 0
        self._ports = ports
        self._name = name
        self._seed = seed
        self._clients = clients
        self._count = 0
        self._mpids: list[str] = []
        self._recent: list[tuple[str, str, str, dict[str, Any]]] = []
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Fight:
        self._tasks = [asyncio.create_task(self._fight(number)) for number in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await asyncio.gather(*self._tasks)

    async def answers(self, count: int) -> None:
        """Wait until so many more requests are answered."""
        goal = len(self.account) + count
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.account) < goal:
                await asyncio.sleep(0.01)

    async def _fight(self, number: int) -> None:
        dice = random.Random(f"{self._seed} {self._name} {number}")
        connections: dict[int, Connection] = {}
        try:
            while not self._over.is_set():
                await self._send(dice, connections, *self._next(dice))
        finally:
            for connection in connections.values():
                connection.close()

    async def _send(
        self, dice: random.Random, connections: dict[int, Connection], id_: str, kind: str, path: str,
        body: dict[str, Any],
    ) -> None:  # fmt: skip
        first, end = time.monotonic(), None
        while True:
            port = dice.choice(self._ports)
            connection = connections.setdefault(port, Connection(port))
            began = time.monotonic()
            status, answer, headers = await connection.post(path, body)
            if status not in _BACK_LATER:
                sent = began if kind in _READS else first
                self.account.append(Sent(id_, kind, path, body, sent, time.monotonic(), status, answer))
                if status == 200 and "mpid" in answer and answer["mpid"] is not None:
                    self._learn(dice, answer["mpid"])
                return
            self.refused[status] += 1
            if status == 503 and int(headers.get("retry-after", "0")) < 1:
                self.refusals_without_retry_after += 1
            if self._over.is_set():
                end = end or time.monotonic() + PATIENCE_SECONDS
                if time.monotonic() > end:
                    self.account.append(Sent(id_, kind, path, body, first, None, 0, {}))
                    return
            await asyncio.sleep(dice.uniform(0.02, 0.2))

    def _learn(self, dice: random.Random, mpid: str) -> None:
        if mpid not in self._mpids:
            self._mpids.append(mpid)
            if len(self._mpids) > 12:
                self._mpids.pop(dice.randrange(12))

    def _next(self, dice: random.Random) -> tuple[str, str, str, dict[str, Any]]:
        """Return a request: its id, kind, path and body; some are those that others sent just now."""
        if self._recent and dice.random() < 0.08:
            return dice.choice(self._recent)
        self._count += 1
        id_ = f"{self._name}-{self._count}"
        kind = dice.choices(
            ("identify", "login", "logout", "modify", "search", "read_only", "batch", "alias"),
            (28, 24, 8, 14, 8, 6, 12, 3),
        )[0]
        made = id_, kind, *self._request(dice, kind, id_)
        if kind not in _READS:
            self._recent = [*self._recent[-15:], made]
        return made

    def _request(self, dice: random.Random, kind: str, id_: str) -> tuple[str, dict[str, Any]]:
        if kind == "batch":
            return "/v2/events", self._batch(dice, id_)
        if kind == "alias" and len(self._mpids) > 1:
            source, destination = dice.sample(self._mpids, 2)
            data = {"source_mpid": source, "destination_mpid": destination}
            return "/v1/identity/server-key/Alias", _body(id_, data=data)
        if kind == "modify" and self._mpids:
            listed = [change for change in (_change(dice) for _ in range(dice.randrange(1, 3))) if change]
            changes = listed or [{"identity_type": "other", "old_value": None, "new_value": "o1"}]
            return f"/v1/{dice.choice(self._mpids)}/modify", _body(id_, identity_changes=changes)
        if kind in ("modify", "alias", "read_only"):
            flags = "?read_only=true" if kind == "read_only" else ""
            return f"/v1/identify{flags}", _body("" if flags else id_, known_identities=_identities(dice))
        known = _identities(dice, login=kind == "login")
        return f"/v1/{kind}", _body("" if kind == "search" else id_, known_identities=known)

    def _batch(self, dice: random.Random, id_: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "environment": "production",
            "source_request_id": id_,
            "user_attributes": {f"a{dice.randrange(3)}": f"v{dice.randrange(5)}"},
            "events": [
                {
                    "event_type": "custom_event",
                    "data": {
                        "event_name": f"Event {dice.randrange(30)}",
                        "custom_event_type": "navigation",
                        "source_message_id": f"{id_} {number}",
                    },
                }
                for number in range(dice.randrange(1, 3))
            ],
        }
        if self._mpids and dice.random() < 0.3:
            return body | {"mpid": int(dice.choice(self._mpids))}
        who = ("customer_id", "customerid") if dice.random() < 0.6 else ("other", "other")
        return body | {"user_identities": {who[0]: _value(dice, who[1])}}


def _body(id_: str, **more: Any) -> dict[str, Any]:
    named = {"request_id": id_} if id_ else {}
    return {"environment": "production", **named, **more}


def _value(dice: random.Random, type_: str) -> str:
    return f"{type_[:1]}{dice.randrange({'customerid': 6, 'email': 6, 'other': 10}.get(type_, 5))}"


def _identities(dice: random.Random, *, login: bool = False) -> dict[str, str]:
    known = {"device_application_stamp": _value(dice, "device_application_stamp")} if dice.random() < 0.8 else {}
    if login or dice.random() < 0.3:
        type_ = "customerid" if dice.random() < 0.7 else "email"
        known[type_] = _value(dice, type_)
    if not known or dice.random() < 0.2:
        known["other"] = _value(dice, "other")
    return known


def _change(dice: random.Random) -> dict[str, Any] | None:
    type_ = dice.choices(("customerid", "email", "other"), (3, 3, 2))[0]
    old = _value(dice, type_) if dice.random() < 0.4 else None
    new = _value(dice, type_) if dice.random() < 0.8 else None
    return None if old is None and new is None else {"identity_type": type_, "old_value": old, "new_value": new}


class Connection:
    """A connection to a server that is made, and made again, when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: object) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Send a request; return the status, the body and the headers of its answer, status 0 where none came."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                return await _exchange(*self._streams, path, body)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.close()
            return 0, {}, {}

    def close(self) -> None:
        """Let go of it."""
        if self._streams is not None:
            with suppress(OSError):
                self._streams[1].transport.abort()
            self._streams = None


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: object
) -> tuple[int, dict[str, Any], dict[str, str]]:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {_CREDENTIALS}\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    answer = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(lines[0].split()[1]), json.loads(answer) if answer else {}, headers
