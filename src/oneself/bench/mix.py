"""The mix of identity requests that the benchmarks send, as bytes on the wire and as requests to the core.

Of 100 requests 25 identify a new device and 45 a returning one, 20 log in (10 users on their own device,
5 users on a new device, 5 who sign up on a device seen before) and 10 log out (docs/benchmarks.md).
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec

from oneself.bench.population import NEW, Population, customer_id, device, email, mpid, uuid
from oneself.identity import Request

__all__ = ["SHARES", "Cursor", "IdentityMix", "Mix", "Wanted", "Wire", "basic", "core_request"]

_Share = Literal["new", "returning", "login", "login_new_device", "sign_up", "logout"]

SHARES: Final[dict[_Share, int]] = {
    "new": 25,
    "returning": 45,
    "login": 10,
    "login_new_device": 5,
    "sign_up": 5,
    "logout": 10,
}
"""How many of 100 requests are of each kind."""

_REQUESTS: Final = 1 << 48  # request ids are numbered from here, apart from devices

_SETTLED: Final = 500
"""A device counts as seen before when at least this many newer ones have been sent."""


class Cursor(msgspec.Struct):
    """How far a mix has gone through what it may use only once; the next run on the same server starts there.

    ``requests`` numbers the request ids, ``new`` the devices that were new, ``sign_ups`` and ``logouts`` the
    users that signed up and the devices that were logged out.
    """

    requests: int = 0
    new: int = 0
    sign_ups: int = 0
    logouts: int = 0


class Wanted(NamedTuple):
    """One request: ``customer`` and ``device`` are numbers of the population, ``customer`` -1 for none;
    ``previous`` is the MPID that the client had before, 0 for none."""

    kind: Literal["identify", "login", "logout"]
    customer: int
    device: int
    previous: int


class Mix:
    """An endless mix of requests over a stored population: same population, cursor and seed, same requests."""

    def __init__(self, population: Population, cursor: Cursor, seed: int) -> None:
        self._known = population.known
        self._profiles = population.profiles
        self.cursor = cursor
        self._random = random.Random(seed)
        self._order = [share for share, count in SHARES.items() for _ in range(count)]
        self._random.shuffle(self._order)

    def next(self) -> Wanted:
        """Return the next request."""
        cursor = self.cursor
        share = self._order[cursor.requests % 100]
        cursor.requests += 1
        if share == "new":
            return Wanted("identify", -1, self._new_device(), 0)
        if share == "returning":
            number = self._known + int(self._random.random() * (self._profiles - self._known))
            return Wanted("identify", -1, number, mpid(number))
        if share == "login":
            user = self._user()
            return Wanted("login", user, user, mpid(user))
        if share == "login_new_device":
            return Wanted("login", self._user(), self._new_device(), 0)
        if share == "sign_up":
            return self._sign_up()
        return self._logout()

    def _user(self) -> int:
        return int(self._random.random() * self._known)

    def _new_device(self) -> int:
        self.cursor.new += 1
        return NEW + self.cursor.new

    def _sign_up(self) -> Wanted:
        cursor = self.cursor
        if cursor.sign_ups + _SETTLED >= cursor.new:  # nobody new has been seen yet: a user signs in
            user = self._user()
            return Wanted("login", user, user, mpid(user))
        cursor.sign_ups += 1
        return Wanted("login", NEW + cursor.sign_ups, NEW + cursor.sign_ups, 0)

    def _logout(self) -> Wanted:
        """Log out each stored user once, then devices of this run: else a small store would gather profiles
        on few devices, and a large one would look cheap beside it."""
        cursor = self.cursor
        cursor.logouts += 1
        if cursor.logouts <= self._known:
            user = cursor.logouts * 7_368_787 % self._known  # a prime step visits users in no order
            return Wanted("logout", -1, user, mpid(user))
        seen = cursor.logouts - self._known
        return Wanted("logout", -1, NEW + seen if seen + _SETTLED < cursor.new else self._new_device(), 0)


class Wire:
    """Writes requests as HTTP/1.1 bytes, with bodies as the web SDK sends them."""

    def __init__(self, host: str, key: str, secret: str) -> None:
        head = (
            f" HTTP/1.1\r\nHost: {host}\r\nUser-Agent: oneself-bench\r\nAccept: text/plain;charset=UTF-8\r\n"
            f"Content-Type: application/json\r\nAuthorization: {basic(key, secret)}\r\nContent-Length: "
        )
        self._heads = {kind: f"POST /v1/{kind}{head}" for kind in ("identify", "login", "logout")}
        self._middle = f'","request_timestamp_ms":{time.time_ns() // 1_000_000},"context":null,"previous_mpid":'

    def encode(self, wanted: Wanted, number: int) -> bytes:
        """Return a whole request; ``number`` makes its ``request_id``."""
        kind, customer, device_, previous = wanted
        user = "" if customer < 0 else f'"customerid":"{customer_id(customer)}","email":"{email(customer)}",'
        previous_mpid = f'"{previous}"' if previous else "null"
        body = (
            '{"client_sdk":{"platform":"web","sdk_vendor":"mparticle","sdk_version":"2.68.0"},'
            f'"environment":"production","request_id":"{uuid(_REQUESTS + number)}{self._middle}{previous_mpid},'
            f'"known_identities":{{{user}"device_application_stamp":"{device(device_)}"}}}}'
        )
        return f"{self._heads[kind]}{len(body)}\r\n\r\n{body}".encode()


class IdentityMix(msgspec.Struct, frozen=True, tag="identity"):
    """The work of a load: the mix over a population, authenticated by ``key`` and ``secret``."""

    population: Population
    key: str
    secret: str

    def begin(self, host: str, cursor: Cursor, seed: int) -> tuple[Callable[[], bytes], Cursor]:
        """Return what makes the next request, and the cursor that it moves on."""
        mix = Mix(self.population, cursor, seed)
        wire = Wire(host, self.key, self.secret)
        return lambda: wire.encode(mix.next(), mix.cursor.requests), mix.cursor


def basic(key: str, secret: str) -> str:
    """Return an Authorization header for a key and its secret."""
    return f"Basic {base64.b64encode(f'{key}:{secret}'.encode()).decode()}"


def core_request(wanted: Wanted) -> Request:
    """Return a request as the core takes it."""
    identities: dict[str, str | None] = {}
    if wanted.customer >= 0:
        identities["customerid"] = customer_id(wanted.customer)
        identities["email"] = email(wanted.customer)
    identities["device_application_stamp"] = device(wanted.device)
    return Request(wanted.kind, identities, previous_mpid=wanted.previous or None)
