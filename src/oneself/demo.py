"""The sample shop: a few people and a crowd, met on phones, in browsers, on a TV and by mail (docs/sample-shop.md).

Each step has a readable request id, so ``oneself why ana-signs-up`` explains it, and filling a folder twice
changes nothing the second time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from oneself.engine import Call, Engine, Outcome, delivery
from oneself.identity import AliasRequest, IdentityChange, Request
from oneself.profiles import Source

__all__ = ["Inputs", "fill"]

_CROWD = 150
_KIOSK_VISITORS = 24
_HOUR_MS: Final = 3_600_000

_GOODS: Final = (("green-tea", 4.5), ("black-tea", 3.9), ("oolong", 7.2), ("cup", 9.0), ("pot", 24.0))
"""What the shop sells, with its prices in euros."""


class Inputs(NamedTuple):
    """The inputs that the shop's data comes by: its web page, its app and its server; two may be the same."""

    web: Source
    app: Source
    server: Source


def _viewed(screen: str) -> dict[str, Any]:
    return {"event_type": "screen_view", "data": {"screen_name": screen}}


def _did(name: str, type_: str, **attributes: str) -> dict[str, Any]:
    data = {"event_name": name, "custom_event_type": type_, "custom_attributes": attributes}
    return {"event_type": "custom_event", "data": data}


def _handled(action: str, *goods: int, order: str | None = None) -> dict[str, Any]:
    """Return what was done with some goods, given by their places."""
    products = [{"id": _GOODS[at][0], "price": _GOODS[at][1], "quantity": 1} for at in goods]
    total = round(sum(_GOODS[at][1] for at in goods), 2)
    bought = {"transaction_id": order, "total_amount": total} if order else {}
    action_ = {"action": action, "products": products, **bought}
    return {"event_type": "commerce_event", "data": {"currency_code": "EUR", "product_action": action_}}


def _set(name: str, value: str | list[str] | None, *, deleted: bool = False) -> dict[str, Any]:
    data = {"user_attribute_name": name, "new": value, "deleted": deleted}
    return {"event_type": "user_attribute_change", "data": data}


class _Shop:
    """Makes the calls of the story, keeping the MPID that each device was last answered with."""

    def __init__(self, engine: Engine, scope: str, inputs: Inputs, now_ms: int) -> None:
        self._engine = engine
        self._scope = scope
        self._space = f"{scope}/production"
        self._inputs = inputs
        self._now_ms = now_ms
        self._current: dict[str, int | None] = {}

    async def _call(self, step: str, request: Request, *, server: bool = False) -> Outcome:
        input_ = self._inputs.server if server else self._inputs.web
        return await self._engine.submit(Call(self._space, input_.input, request, step))

    def _batch(self, step: str, hours_ago: float, events: tuple[dict[str, Any], ...], fields: dict[str, Any]) -> Any:
        """Return a batch whose events happened one second after the other."""
        at_ms = self.ago(hours_ago)
        for later, event in enumerate(events):
            event["data"] |= {
                "timestamp_unixtime_ms": at_ms + later * 1000,
                "source_message_id": f"{step}-{later + 1}",
            }
        return {"source_request_id": step, "timestamp_unixtime_ms": at_ms, "events": list(events), **fields}

    async def _send(self, source: Source, batch: Any, ip: str = "") -> None:
        await self._engine.submit(delivery(batch, source, self._now_ms, scope=self._scope, ip=ip))

    async def on_page(self, step: str, device: str, hours_ago: float, *events: dict[str, Any], **fields: Any) -> None:
        """Send what the web page saw on a device, as its SDK does."""
        fields |= {"mpid": self._current[device], "mp_deviceid": device}
        fields["device_info"] = {"platform": "web", "screen_width": 1280, "screen_height": 720}
        await self._send(self._inputs.web, self._batch(step, hours_ago, events, fields), "198.51.100.23")

    async def in_app(self, step: str, device: str, hours_ago: float, *events: dict[str, Any], **fields: Any) -> None:
        """Send what the app saw on a phone."""
        fields |= {"mpid": self._current[device], "mp_deviceid": device}
        fields["device_info"] = {"platform": "iOS", "device_model": "iPhone", "ios_idfv": device.upper()}
        fields["application_info"] = {"application_name": "Sample shop", "application_version": "3.1"}
        await self._send(self._inputs.app, self._batch(step, hours_ago, events, fields), "203.0.113.42")

    async def from_server(self, step: str, hours_ago: float, *events: dict[str, Any], **fields: Any) -> None:
        """Send what one of the shop's servers knows of somebody."""
        await self._send(self._inputs.server, self._batch(step, hours_ago, events, fields))

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

    def ago(self, hours: float) -> int:
        """Return the time so many hours ago, in unix ms."""
        return self._now_ms - round(hours * _HOUR_MS)

    async def change_email(self, step: str, mpid: int | None, old: str | None, new: str) -> None:
        """Change a user's e-mail address."""
        await self._call(step, Request("modify", mpid=mpid, changes=(IdentityChange("email", old, new),)))

    async def alias(self, step: str, source: int | None, destination: int | None) -> None:
        """Let a user see what was done before they logged in on a device."""
        if source and destination and source != destination:
            await self._call(step, Request("alias", alias=AliasRequest(source, destination)))


async def fill(engine: Engine, scope: str, inputs: Inputs, now_ms: int) -> int:
    """Play the sample shop's story through an engine; return how many decisions that made.

    ``scope`` is that of the inputs' workspace. What happens in the story happens in the weeks before ``now_ms``.
    """
    shop = _Shop(engine, scope, inputs, now_ms)
    before = engine.store.position
    await _people(shop)
    await _kiosk(shop)
    await _crowd(shop)
    return engine.store.position - before


async def _people(shop: _Shop) -> None:
    phone, laptop, tablet, tv = _devices("people", 4)
    await _ana(shop, laptop, phone, tv)
    await _ben_and_cora(shop, tablet)
    await _dan(shop, *_devices("dan", 1))
    await _eve(shop, *_devices("broken", 1))


async def _ana(shop: _Shop, laptop: str, phone: str, tv: str) -> None:
    await shop.visit("ana-browses", "identify", laptop)
    await shop.on_page("ana-looks-at-teas", laptop, 200, _viewed("Teas"), _did("Searched", "search", words="sencha"))
    ana = await shop.visit("ana-signs-up", "login", laptop, customerid="C-1001", email="ana@example.com")
    newsletter = {"consented": True, "timestamp_unixtime_ms": shop.ago(199), "document": "newsletter-2"}
    await shop.on_page(
        "ana-says-what-she-likes", laptop, 199, _set("$FirstName", "Ana"), _set("favourite", "green tea"),
        _set("interests", ["tea", "ceramics"]), _set("free_sample", "wanted"),
        consent_state={"gdpr": {"newsletter": newsletter}},
    )  # fmt: skip
    await shop.on_page("ana-buys", laptop, 198, _handled("add_to_cart", 0), _handled("purchase", 0, 3, order="A-1"))
    on_phone = await shop.visit("ana-opens-the-app", "identify", phone, ios_idfv=phone.upper())
    installed = {"application_transition_type": "application_initialized", "is_first_run": True}
    await shop.in_app(
        "ana-looks-around-in-the-app", phone, 50,
        {"event_type": "application_state_transition", "data": installed},
        {"event_type": "push_registration", "data": {"register": True, "registration_token": "ana-phone"}},
        _viewed("Oolong"),
    )  # fmt: skip
    await shop.visit("ana-logs-in-on-her-phone", "login", phone, customerid="C-1001", ios_idfv=phone.upper())
    await shop.in_app(
        "ana-changes-her-mind", phone, 49, _set("favourite", "oolong"), _set("free_sample", None, deleted=True)
    )  # fmt: skip
    await shop.alias("ana-keeps-her-app-history", on_phone, ana)
    await shop.visit("ana-logs-out", "logout", laptop)
    await shop.visit("ana-watches-tv", "identify", tv, roku_aid=tv)
    await shop.visit("ana-logs-in-on-tv", "login", tv, roku_aid=tv, customerid="C-1001")
    await shop.from_server(
        "the-shop-rates-ana", 20, user_identities={"customer_id": "C-1001"},
        user_attributes={"tier": "gold", "orders": 1, "favourite": "black tea"},
    )  # fmt: skip


async def _ben_and_cora(shop: _Shop, tablet: str) -> None:
    await shop.visit("family-tablet-starts", "identify", tablet)
    await shop.visit("ben-logs-in", "login", tablet, customerid="C-1002", email="ben@example.com")
    await shop.on_page("ben-buys-a-pot", tablet, 90, _viewed("Pots"), _handled("purchase", 4, order="B-1"))
    await shop.visit("ben-logs-out", "logout", tablet)
    await shop.visit("cora-logs-in", "login", tablet, customerid="C-1003", email="cora@example.com")
    await shop.on_page("cora-looks-at-cups", tablet, 89, _viewed("Cups"), _set("$FirstName", "Cora"))
    await shop.visit("cora-logs-out", "logout", tablet)
    await shop.visit("ben-returns", "login", tablet, customerid="C-1002")
    out = {"event_type": "opt_out", "data": {"is_opted_out": True}}
    sold = {"consented": True, "timestamp_unixtime_ms": shop.ago(88)}
    await shop.on_page("ben-opts-out", tablet, 88, out, consent_state={"ccpa": {"data_sale_opt_out": sold}})


async def _dan(shop: _Shop, device: str) -> None:
    await shop.mail("dan-writes-to-support", "dan@example.com")
    wrote = _did("Wrote to support", "other", subject="My pot is broken")
    await shop.from_server("dans-mail-is-noted", 70, wrote, user_identities={"email": "dan@example.com"})
    dan = await shop.visit("dan-signs-up", "login", device, customerid="C-1004", email="Dan@Example.com")
    await shop.on_page("dan-says-who-he-is", device, 60, _set("$FirstName", "Dan"), _set("favourite", "black tea"))
    await shop.change_email("dan-changes-his-address", dan, "dan@example.com", "daniel@example.com")


async def _eve(shop: _Shop, device: str) -> None:
    await shop.visit("broken-page-loads", "identify", device, customerid="undefined", email="null")
    await shop.visit("eve-on-a-broken-page", "login", device, customerid="C-1005", other="[object Object]")
    nameless = {"event_type": "screen_view", "data": {"screen_name": None}}
    await shop.on_page("the-broken-page-reports", device, 40, nameless, _viewed("Checkout"))


async def _kiosk(shop: _Shop) -> None:
    """More people log in at one kiosk than a value may be shared by."""
    (kiosk,) = _devices("kiosk", 1)
    for number in range(1, _KIOSK_VISITORS + 1):
        await shop.visit(f"kiosk-visitor-{number}-logs-in", "login", kiosk, customerid=f"K-{number}")
        await shop.visit(f"kiosk-visitor-{number}-logs-out", "logout", kiosk)


async def _crowd(shop: _Shop) -> None:
    for number, device in enumerate(_devices("crowd", _CROWD), 1):
        name, dice = f"shopper-{number}", random.Random(f"shopper {number}")
        hours_ago = 12 + 48 * dice.random() + number
        seen = dice.randrange(len(_GOODS))
        await shop.visit(f"{name}-visits", "identify", device)
        await shop.on_page(f"{name}-looks-around", device, hours_ago, _viewed("Home"), _handled("view_detail", seen))
        if number % 3:
            continue
        email = f"{name}@example.com"
        await shop.visit(f"{name}-signs-up", "login", device, customerid=f"S-{number}", email=email)
        bought = _handled("purchase", seen, order=f"S-{number}")
        await shop.on_page(f"{name}-buys", device, hours_ago - 1, bought, _set("favourite", _GOODS[seen][0]))
        if number % 2:
            await shop.visit(f"{name}-logs-out", "logout", device)


def _devices(name: str, count: int) -> Iterator[str]:
    """Yield device identifiers that are the same on every run."""
    source = random.Random(name)
    return (str(UUID(int=source.getrandbits(128), version=4)) for _ in range(count))
