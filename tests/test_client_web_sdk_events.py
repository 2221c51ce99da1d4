"""The web SDK sends events from a real browser; the profile and the timeline hold exactly that (docs/clients.md)."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from oneself.profiles import Event
from reading_back import (
    events_of,
    identities_of,
    profile_of,
    readable_shop,
    records_of,
    set_aside,
    shown_events,
    timeline,
    until,
)
from serving import Certificate, Server, free_port, serving
from web_pages import EVENTS, Browser, Device, complaints, event_name

BOTH_ENGINES = True

ADA = {"customerid": "c-1", "email": "ada@example.com"}
CONSENT_MS = int(time.time() * 1000) - 60_000
NAVIGATION, SEARCH = 1, 3


@pytest.fixture
def server(certificate: Certificate, tmp_path: Path) -> Iterator[Server]:
    with serving(readable_shop(), tmp_path / "server", certificate=certificate) as server:
        yield server


def log(device: Device, name: str, attributes: dict[str, Any] | None = None, kind: int = NAVIGATION) -> None:
    device.sdk("logEvent", name, kind, attributes or {})


def names_of(events: list[Event]) -> list[str]:
    return [event_name({"event_type": event.type, "data": event.data}) for event in events]


def assert_kept_as_sent(server: Server, sent: list[dict[str, Any]]) -> None:
    """Everything that the browser's own record says was sent is on the timeline of its user, letter by letter."""
    for batch in sent:
        [kept] = [one for one in timeline(server, batch["mpid"]) if one.request_id == batch["source_request_id"]]
        assert [{"event_type": event.type, "data": event.data} for event in kept.events] == batch["events"]
        assert kept.device == batch["mp_deviceid"]
        assert kept.sdk_version == batch["sdk_version"]
        assert kept.device_info == batch["device_info"]
        assert (kept.ip, kept.environment) == ("127.0.0.1", batch["environment"])
        assert kept.ignored == ()
    for mpid in {batch["mpid"] for batch in sent}:
        events = [event for batch in sent if batch["mpid"] == mpid for event in batch["events"]]
        shown = {event["data"]["source_message_id"]: event for event in shown_events(server, mpid)}
        assert [shown[event["data"]["source_message_id"]] for event in events] == events


# -- everything that a page sends ----------------------------------------------------------------------------------


def test_what_a_page_sends_is_what_is_known(browser: Browser, page: str, server: Server) -> None:
    laptop = browser.device("laptop")
    visitor = laptop.open(page, server)["body"]["mpid"]
    log(laptop, "Visited", {"from": "a friend", "seconds": 2.5, "first": True})
    laptop.sdk("logPageView", "Teas", {"sort": "price"})
    customer = laptop.call("login", ADA)["body"]["mpid"]
    assert customer == visitor

    log(laptop, "Searched", {"for": "tea 🍵", "hits": 3}, SEARCH)
    laptop.sdk("logError", "no tea left", {"shelf": "7"})
    laptop.call(
        "buy", [["Tea", "p-1", 4.5, 2], ["Cup", "p-2", 3]], {"Id": "t-1", "Revenue": 12, "Tax": 1.2}, {"gift": "no"}
    )
    laptop.call("promote", ["promo-1", "banner", "Tea week", 1])
    laptop.user("setUserAttribute", "drink", "coffee")
    laptop.user("setUserAttribute", "drink", "tea")
    laptop.user("setUserAttribute", "$City", "Oslo")
    laptop.user("setUserAttribute", "visits", 12)
    laptop.user("setUserAttributeList", "sizes", ["s", "m"])
    laptop.user("setUserAttribute", "mood", "good")
    laptop.user("setUserTag", "mood")
    laptop.user("setUserTag", "vip")  # of a tag that is new the SDK sends no event: it is on the map alone
    laptop.user("setUserAttribute", "gone", "soon")
    laptop.user("removeUserAttribute", "gone")
    laptop.call("consent", {"Analytics": [True, CONSENT_MS, "v3", "page", "h-1"]}, [False, CONSENT_MS])
    log(laptop, "Agreed")
    laptop.uploaded("Agreed", "sizes", "gone")

    signed_out = laptop.call("logout")["body"]["mpid"]
    laptop.sdk("setOptOut", True)
    log(laptop, "Never said")  # while opted out the SDK sends nothing
    laptop.sdk("setOptOut", False)
    log(laptop, "Looked around")
    laptop.uploaded("Looked around")
    assert laptop.call("login", {"customerid": "c-1"})["body"]["mpid"] == customer
    log(laptop, "Came back")
    laptop.sdk("setOptOut", True)
    laptop.uploaded("Came back")
    laptop.settle()
    sent = laptop.uploaded("opt_out")

    assert {batch["mpid"] for batch in sent} == {customer, signed_out}
    assert_kept_as_sent(server, sent)
    assert set_aside(server) == []
    assert complaints(laptop, "Event logging is currently disabled") == []

    events = events_of(server, customer)
    assert sorted(names_of(events)) == sorted([
        "session_start", "application_state_transition", "Visited", "Teas", "user_identity_change",
        "user_identity_change", "Searched", "Error", "purchase", "commerce_event", "drink", "drink", "$City",
        "visits", "sizes", "mood", "mood", "gone", "gone", "Agreed", "opt_out", "Came back",
    ])  # fmt: skip
    known = dict(zip(names_of(events), events, strict=True))
    assert known["Visited"].data["custom_attributes"] == {"from": "a friend", "seconds": 2.5, "first": True}
    assert known["Searched"].data["custom_attributes"] == {"for": "tea 🍵", "hits": 3}
    assert known["Error"].data["custom_attributes"]["m"] == "no tea left"
    bought = known["purchase"].data["product_action"]
    assert (bought["transaction_id"], bought["total_amount"], bought["tax_amount"]) == ("t-1", 12, 1.2)
    assert [(one["id"], one["name"], one["price"]) for one in bought["products"]] == [
        ("p-1", "Tea", 4.5),
        ("p-2", "Cup", 3),
    ]
    assert known["commerce_event"].name == "promotion_view"

    profile = profile_of(server, customer)
    assert identities_of(profile) == {"customer_id": "c-1", "email": "ada@example.com"}
    assert profile["user_attributes"] == {
        "drink": "tea", "$city": "Oslo", "visits": "12", "sizes": ["s", "m"], "mood": None,
    }  # fmt: skip
    assert profile["consent_state"] == {
        "gdpr": {"analytics": {"consented": True, "timestamp_unixtime_ms": CONSENT_MS, "document": "v3",
                               "location": "page", "hardware_id": "h-1"}},
        "ccpa": {"data_sale_opt_out": {"consented": False, "timestamp_unixtime_ms": CONSENT_MS}},
    }  # fmt: skip
    assert "vip" in timeline(server, customer)[-1].attributes
    assert profile["is_opted_out"] is True
    times = [event.at_ms for event in events]
    assert profile["created_timestamp_ms"] == min(times)

    between = events_of(server, signed_out)
    assert [name for name in names_of(between) if "_" not in name] == ["Looked around"]
    profile = profile_of(server, signed_out)
    assert profile["is_opted_out"] is False
    assert (profile["user_attributes"], profile["consent_state"]) == ({}, {})


def test_what_a_page_sends_as_it_goes_away(browser: Browser, page: str, server: Server) -> None:
    """With batches by the minute, what waits is sent by sendBeacon, whose answer nobody reads."""
    flags = {"eventsV3": "100", "eventBatchingIntervalMillis": "60000", "astBackgroundEvents": "True"}
    phone = browser.device("phone")
    opened = phone.open(page, server, config={"requestConfig": False, "workspaceToken": "shop", "flags": flags})
    mpid = opened["body"]["mpid"]
    log(phone, "Visited")
    phone.user("setUserAttribute", "drink", "tea")
    log(phone, "Left")
    assert names_of(events_of(server, mpid)) == []
    phone.leave()
    until(lambda: "Left" in names_of(events_of(server, mpid)), "the beacon")
    kept = names_of(events_of(server, mpid))
    assert sorted(kept) == sorted(
        ["session_start", *["application_state_transition"] * 2, "Visited", "drink", "Left"]
    )  # fmt: skip
    assert profile_of(server, mpid)["user_attributes"] == {"drink": "tea"}
    transitions = {event.data.get("application_transition_type") for event in events_of(server, mpid)}
    assert transitions >= {"application_initialized", "application_background"}


# -- nothing blocks a page -----------------------------------------------------------------------------------------


def test_a_batch_that_cannot_be_used_does_not_block_the_next_ones(
    browser: Browser, page: str, certificate: Certificate, tmp_path: Path
) -> None:
    """The page knows a user of a server that lost its data; what it says of them is set aside, and it goes on."""
    port = free_port()
    tablet = browser.device("tablet")
    with serving(readable_shop(), tmp_path / "first", certificate=certificate, port=port) as server:
        lost = tablet.open(page, server)["body"]["mpid"]
        tablet.settle()
    with serving(readable_shop(), tmp_path / "second", certificate=certificate, port=port) as server:
        assert tablet.reload()["user"]["mpid"] == lost
        log(tablet, "Poison")
        tablet.user("setUserAttribute", "drink", "tea")
        tablet.uploaded("Poison", "drink")
        customer = tablet.call("login", ADA)["body"]["mpid"]
        assert customer != lost
        log(tablet, "Half an emoji", {"title": "\ud83d", "long": "x" * 5000, "nul": "a\0b"})
        log(tablet, "Welcome")
        sent = tablet.uploaded("Welcome", "Half an emoji")
        tablet.settle()
        assert "Welcome" in names_of(events_of(server, customer))
        reasons = [row.reason for row in set_aside(server)]
        assert any("NUL" in reason for reason in reasons)
        assert sum(reason == f"mpid: no user has the MPID {lost}." for reason in reasons) >= 2
        lost_events = [
            event_name(event)
            for record in records_of(server).values()
            if record.batch is None
            for event in record.document["events"]
        ]
        assert {"Poison", "drink", "Half an emoji"} <= set(lost_events)
        ids = [batch["source_request_id"] for batch in sent]
        assert len(ids) == len(set(ids))
        assert {one["status"] for one in tablet.uploads()} == {202}


UPLOAD_BYTES = 1_200
"""What a page sends for a batch, encrypted, is longer than this, and what it asks before that is shorter."""


class Cutter:
    """A network between a page and its server that can swallow the answer to an upload and end the connection.

    To the browser it looks as if a connection that was kept open had just been closed: it sends the request again.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut_next = threading.Event()
        self.cuts = 0
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self._open += [client, server]
                asked = [0]
                for source, target, answers in ((client, server, False), (server, client, True)):
                    arguments = (source, target, answers, asked)
                    threading.Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, answers: bool, asked: list[int]) -> None:
        """Hand on what comes; ``asked`` is how many bytes the client sent since the last answer."""
        with suppress(OSError):
            while data := source.recv(65_536):
                if not answers:
                    asked[0] += len(data)
                elif self.cut_next.is_set() and asked[0] >= UPLOAD_BYTES:
                    self.cut_next.clear()
                    self.cuts += 1
                    break
                else:
                    asked[0] = 0
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)
        for end in self._open:
            end.close()


@contextmanager
def cutter(server: Server) -> Iterator[Cutter]:
    made = Cutter(server.port)
    try:
        yield made
    finally:
        made.close()


def test_a_batch_whose_answer_was_lost_counts_once(browser: Browser, page: str, server: Server) -> None:
    watch = browser.device("watch")
    with cutter(server) as network:
        mpid = watch.open(page, server, domain=f"127.0.0.1:{network.port}")["body"]["mpid"]
        watch.uploaded("session_start", "application_state_transition")
        watch.settle()
        for number in range(3):
            network.cut_next.set()
            log(watch, f"Lost {number}")
            watch.uploaded(f"Lost {number}")
        log(watch, "After")
        sent = watch.uploaded("After")
        watch.settle()
        assert network.cuts == 3
        repeated = 'oneself_batches_total{input="shop/web",outcome="repeated"} 3.0'
        until(lambda: repeated in server.client.get("/metrics").text.splitlines(), "every lost upload sent again")
    names = names_of(events_of(server, mpid))
    assert [name for name in names if name.startswith(("Lost", "After"))] == ["Lost 0", "Lost 1", "Lost 2", "After"]
    assert_kept_as_sent(server, sent)


def test_a_page_sends_again_when_the_server_could_not_write(browser: Browser, page: str, server: Server) -> None:
    console = browser.device("console")
    mpid = console.open(page, server)["body"]["mpid"]
    console.uploaded("session_start", "application_state_transition")
    with server.unable_to_write():
        log(console, "During")
        console.user("setUserAttribute", "drink", "tea")
        until(lambda: 503 in {one["status"] for one in console.uploads()}, "a 503")
        assert "During" not in names_of(events_of(server, mpid))
    console.uploaded("During", "drink")
    log(console, "After")
    sent = console.uploaded("After")
    console.settle()
    names = names_of(events_of(server, mpid))
    assert [names.count(name) for name in ("During", "drink", "After")] == [1, 1, 1]
    assert profile_of(server, mpid)["user_attributes"] == {"drink": "tea"}
    assert_kept_as_sent(server, sent)
    assert complaints(console, f"{EVENTS}$", "HTTP error status 503 received") == []


def test_a_page_that_is_too_fast_slows_down(
    browser: Browser, page: str, certificate: Certificate, tmp_path: Path
) -> None:
    config = readable_shop(workspace="max_batches_per_second = 4")
    with serving(config, tmp_path / "server", certificate=certificate) as server:
        runner = browser.device("runner")
        mpid = runner.open(page, server)["body"]["mpid"]
        for number in range(20):
            log(runner, f"Step {number}")
        sent = runner.uploaded(*[f"Step {number}" for number in range(20)])
        runner.settle()
        assert {202, 429} == {one["status"] for one in runner.uploads()}
        steps = [name for name in names_of(events_of(server, mpid)) if name.startswith("Step")]
        assert sorted(steps) == sorted(f"Step {number}" for number in range(20))
        assert_kept_as_sent(server, sent)
