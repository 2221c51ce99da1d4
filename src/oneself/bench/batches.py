"""Batches of events as the benchmarks send them, by the web SDK's path and by the one for servers.

A batch has the parts and the order of those that the web SDK sends. Of 100, by either path, 20 are new users'; the
others are returning users', whom a web page always names by MPID, and a server half the time (docs/benchmarks.md).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import msgspec

from oneself.bench.mix import Cursor, basic
from oneself.bench.population import NEW, customer_id, email, uuid
from oneself.bench.reads import one_at_a_time
from oneself.bench.users import BUSY, CROWDED, Users, attribute_name, stamp

__all__ = [
    "EVENTS",
    "SHARES",
    "Batches",
    "Sender",
    "batch_text",
    "message_id",
    "request_id",
    "session",
    "stored_batch",
]

_Share = Literal["new", "by_mpid", "by_identities"]

SHARES: Final[dict[str, dict[_Share, int]]] = {
    "web": {"new": 20, "by_mpid": 80},
    "server": {"new": 20, "by_mpid": 40, "by_identities": 40},
}
"""How many of 100 batches of each channel come from whom."""

EVENTS: Final = 3
"""In a batch of a load."""

_IDS: Final = 1 << 50  # request ids are numbered from here …
_MESSAGES: Final = 1 << 56  # … and events from here
_MOST_EVENTS: Final = 64
_NAMES: Final = ("Product viewed", "Added to cart", "Search", "Filter changed", "Video played", "Coupon copied")
_SCREENS: Final = ("Home", "Catalogue", "Product", "Cart", "Checkout", "Account")
_SHOWN: Final = 5  # attributes of a returning user that a web page repeats with each batch
_TAIL: Final = (
    '"application_info":{"application_version":"5.21.0","application_name":"Shop","package":"com.example.shop"},'
    '"device_info":{"platform":"web","screen_width":1280,"screen_height":720},"consent_state":null,'
    '"integration_attributes":{}}'
)


class Sender(NamedTuple):
    """Whose batch: ``place`` is that of the device among the user's own, ``mpid`` 0 where none is sent.

    ``known`` users' batches have a customer id and an e-mail address.
    """

    number: int
    place: int
    mpid: int
    known: bool


class Batches(msgspec.Struct, frozen=True, tag="batches"):
    """The work of a load: POST batches of three events by a ``channel``, with an input's ``key`` and ``secret``.

    ``aim`` is whose: a ``mix`` of returning and new users, one ``ordinary`` returning user's after the other, some
    in a row, or those of the ``busy`` or the ``crowded`` user alone.
    """

    users: Users
    channel: Literal["web", "server"]
    key: str
    secret: str = ""
    aim: Literal["mix", "ordinary", "busy", "crowded"] = "mix"

    def begin(self, host: str, cursor: Cursor, seed: int) -> tuple[Callable[[], bytes], Cursor]:
        """Return what makes the next request, and the cursor that it moves on."""
        head = self._head(host)
        choose = self._chooser(cursor, random.Random(seed))

        def make() -> bytes:
            sender = choose()
            body = batch_text(
                self.users, sender, cursor.requests, time.time_ns() // 1_000_000, EVENTS, web=self.channel == "web"
            )
            cursor.requests += 1
            return f"{head}{len(body)}\r\n\r\n{body}".encode()

        return make, cursor

    def _head(self, host: str) -> str:
        if self.channel == "web":
            start, kind = f"POST /v3/JS/{self.key}/events", "text/plain;charset=UTF-8"
        else:
            start = "POST /v2/events"
            kind = f"application/json\r\nAuthorization: {basic(self.key, self.secret)}"
        return (
            f"{start} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: oneself-bench\r\nAccept: */*\r\n"
            f"Content-Type: {kind}\r\nContent-Length: "
        )

    def _chooser(self, cursor: Cursor, draw: random.Random) -> Callable[[], Sender]:
        users = self.users

        def returning(number: int, devices: int) -> Sender:
            return Sender(number, int(draw.random() * devices), users.mpid(number), known=True)

        if self.aim == "ordinary":
            return lambda: returning(one_at_a_time(cursor, users.profiles), users.devices)
        if self.aim != "mix":
            number, devices = (BUSY, 1) if self.aim == "busy" else (CROWDED, users.crowd)
            return lambda: returning(number, devices)
        order = [share for share, count in SHARES[self.channel].items() for _ in range(count)]
        draw.shuffle(order)

        def mixed() -> Sender:
            share = order[cursor.requests % 100]
            if share == "new":
                cursor.new += 1
                return Sender(NEW + cursor.new, 0, 0, known=self.channel == "server")
            one = returning(int(draw.random() * users.profiles), users.devices)
            return one if share == "by_mpid" else one._replace(mpid=0)

        return mixed


def batch_text(
    users: Users, sender: Sender, number: int, at_ms: int, events: int, *, web: bool, look: int | None = None
) -> str:
    """Return a batch as JSON, in ASCII; ``number`` makes its ids and those of its events, at most 64.

    What else is in it varies with ``look``, which is ``number`` unless it is given. A returning user changes one
    attribute: by an event, and on the way of servers in the map, too.
    """
    assert events <= _MOST_EVENTS
    look = number if look is None else look
    place = look % max(1, users.attributes)
    name, value = attribute_name(place), f"changed {look}"
    mpid = "null" if not sender.mpid else f'"{sender.mpid}"' if web else sender.mpid
    known = f'{{"customer_id":"{customer_id(sender.number)}","email":"{email(sender.number)}","other_id_2":null}}'
    shown = f'"{name}":"{value}"'
    if web and sender.known:
        shown = ",".join(f'"{attribute_name(one)}":"as shown"' for one in range(_SHOWN) if one != place) + "," + shown
    session_id = session(sender.number)
    written = []
    for place in range(events):
        common = (
            f'"custom_flags":{{}},"timestamp_unixtime_ms":{at_ms - 10 * (events - place)},'
            f'"session_uuid":"{session_id}","session_start_unixtime_ms":{at_ms - 90_000},"location":null,'
            f'"source_message_id":"{message_id(number, place)}","active_time_on_site_ms":{look % 90_000}'
        )
        written.append(_WRITERS[place % 3](look, common, name, value))
    return (
        f'{{"source_request_id":"{request_id(number)}","mpid":{mpid},"timestamp_unixtime_ms":{at_ms},'
        f'"environment":"production","events":[{",".join(written)}],'
        f'"mp_deviceid":"{stamp(sender.number, sender.place)}","sdk_version":"2.68.0",'
        f'"user_attributes":{{{shown}}},"user_identities":{known if sender.known else "null"},{_TAIL}'
    )


def _screen_view(look: int, common: str, _name: str, _value: str) -> str:
    return (
        f'{{"event_type":"screen_view","data":{{"screen_name":"{_SCREENS[look % 6]}",'
        f'"custom_attributes":{{"from":"menu","position":{look % 20}}},{common}}}}}'
    )


def _custom_event(look: int, common: str, _name: str, _value: str) -> str:
    return (
        f'{{"event_type":"custom_event","data":{{"custom_event_type":"navigation",'
        f'"event_name":"{_NAMES[look % 6]}","custom_attributes":{{"sku":"sku-{look % 5000}",'
        f'"price":{look % 300 + 0.5},"in_stock":true}},{common}}}}}'
    )


def _attribute_change(_look: int, common: str, name: str, value: str) -> str:
    return (
        f'{{"event_type":"user_attribute_change","data":{{"user_attribute_name":"{name}","new":"{value}",'
        f'"old":null,"deleted":false,"is_new_attribute":false,"custom_attributes":null,{common}}}}}'
    )


_WRITERS: Final[tuple[Callable[[int, str, str, str], str], ...]] = (_screen_view, _custom_event, _attribute_change)


def request_id(number: int) -> str:
    """Return the id of a batch."""
    return uuid(_IDS + number)


def message_id(number: int, place: int) -> str:
    """Return the id of an event of a batch."""
    return uuid(_MESSAGES + number * _MOST_EVENTS + place)


def session(number: int) -> str:
    """Return the session of a user."""
    return uuid(number ^ 0x1111).upper()


def stored_batch(users: Users, sender: Sender, number: int, at_ms: int) -> dict[str, Any]:
    """Return the batch by which a stored user became known, decoded; a user's first device sends all attributes."""
    text = batch_text(users, sender, number, at_ms, users.events, web=False, look=0)
    document: dict[str, Any] = msgspec.json.decode(text)
    document["user_attributes"] = users.values(sender.number) if not sender.place else {}
    return document
