"""The sample shop: a few people and a crowd, met on phones, in browsers, on a TV and by mail (docs/sample-shop.md).

Each step has a readable request id, so ``oneself why ana-signs-up`` explains it, and filling a folder twice
changes nothing the second time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal
from uuid import UUID

from oneself.engine import Call, Engine, Outcome
from oneself.identity import AliasRequest, IdentityChange, Request

__all__ = ["fill"]

_CROWD = 150
_KIOSK_VISITORS = 24


class _Shop:
    """Makes the calls of the story, keeping the MPID that each device was last answered with."""

    def __init__(self, engine: Engine, space: str, web: str, server: str) -> None:
        self._engine = engine
        self._space = space
        self._web = web
        self._server = server
        self._current: dict[str, int | None] = {}

    async def _call(self, step: str, request: Request, *, server: bool = False) -> Outcome:
        input_ = self._server if server else self._web
        return await self._engine.submit(Call(self._space, input_, request, step))

    async def visit(
        self, step: str, kind: Literal["identify", "login", "logout"], device: str, **identities: str
    ) -> int | None:
        """Resolve on a device, as a web page or an app does."""
        sent: dict[str, str | None] = {**identities, "device_application_stamp": device}
        outcome = await self._call(step, Request(kind, sent, previous_mpid=self._current.get(device)))
        self._current[device] = outcome.decision.mpid
        return outcome.decision.mpid

    async def mail(self, step: str, address: str) -> None:
        """Resolve the sender of a support mail, as the help desk's server does."""
        await self._call(step, Request("identify", {"email": address}), server=True)

    async def change_email(self, step: str, mpid: int | None, old: str | None, new: str) -> None:
        """Change a user's e-mail address."""
        await self._call(step, Request("modify", mpid=mpid, changes=(IdentityChange("email", old, new),)))

    async def alias(self, step: str, source: int | None, destination: int | None) -> None:
        """Let a user see what was done before they logged in on a device."""
        if source and destination and source != destination:
            await self._call(step, Request("alias", alias=AliasRequest(source, destination)))


async def fill(engine: Engine, space: str, web: str, server: str) -> int:
    """Play the sample shop's story through an engine; return how many requests it has.

    ``web`` and ``server`` are the ids of the inputs (``WORKSPACE/INPUT``) the requests are to come from.
    """
    shop = _Shop(engine, space, web, server)
    before = engine.store.position
    await _people(shop)
    await _kiosk(shop)
    await _crowd(shop)
    return engine.store.position - before


async def _people(shop: _Shop) -> None:
    phone, laptop, tablet, tv = _devices("people", 4)
    await shop.visit("ana-browses", "identify", laptop)
    ana = await shop.visit("ana-signs-up", "login", laptop, customerid="C-1001", email="ana@example.com")
    on_phone = await shop.visit("ana-opens-the-app", "identify", phone, ios_idfv=phone.upper())
    await shop.visit("ana-logs-in-on-her-phone", "login", phone, customerid="C-1001", ios_idfv=phone.upper())
    await shop.alias("ana-keeps-her-app-history", on_phone, ana)
    await shop.visit("ana-logs-out", "logout", laptop)
    await shop.visit("ana-watches-tv", "identify", tv, roku_aid=tv)
    await shop.visit("ana-logs-in-on-tv", "login", tv, roku_aid=tv, customerid="C-1001")

    await shop.visit("family-tablet-starts", "identify", tablet)
    await shop.visit("ben-logs-in", "login", tablet, customerid="C-1002", email="ben@example.com")
    await shop.visit("ben-logs-out", "logout", tablet)
    await shop.visit("cora-logs-in", "login", tablet, customerid="C-1003", email="cora@example.com")
    await shop.visit("cora-logs-out", "logout", tablet)
    await shop.visit("ben-returns", "login", tablet, customerid="C-1002")

    await shop.mail("dan-writes-to-support", "dan@example.com")
    (dans,) = _devices("dan", 1)
    dan = await shop.visit("dan-signs-up", "login", dans, customerid="C-1004", email="Dan@Example.com")
    await shop.change_email("dan-changes-his-address", dan, "dan@example.com", "daniel@example.com")

    (broken,) = _devices("broken", 1)
    await shop.visit("broken-page-loads", "identify", broken, customerid="undefined", email="null")
    await shop.visit("eve-on-a-broken-page", "login", broken, customerid="C-1005", other="[object Object]")


async def _kiosk(shop: _Shop) -> None:
    """More people log in at one kiosk than a value may be shared by."""
    (kiosk,) = _devices("kiosk", 1)
    for number in range(1, _KIOSK_VISITORS + 1):
        await shop.visit(f"kiosk-visitor-{number}-logs-in", "login", kiosk, customerid=f"K-{number}")
        await shop.visit(f"kiosk-visitor-{number}-logs-out", "logout", kiosk)


async def _crowd(shop: _Shop) -> None:
    for number, device in enumerate(_devices("crowd", _CROWD), 1):
        name = f"shopper-{number}"
        await shop.visit(f"{name}-visits", "identify", device)
        if number % 3:
            continue
        email = f"{name}@example.com"
        await shop.visit(f"{name}-signs-up", "login", device, customerid=f"S-{number}", email=email)
        if number % 2:
            await shop.visit(f"{name}-logs-out", "logout", device)


def _devices(name: str, count: int) -> Iterator[str]:
    """Yield device identifiers that are the same on every run."""
    source = random.Random(name)
    return (str(UUID(int=source.getrandbits(128), version=4)) for _ in range(count))
