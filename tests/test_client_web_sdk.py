"""The web SDK from npm, unmodified, in a real browser, ends with the right user (docs/clients.md).

The SDK is told nothing but `domain`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Certificate, Server, serving, shop
from web_pages import EVENTS, Browser, Device, calls, complaints

BOTH_ENGINES = True

ADA = {"customerid": "c-1", "email": "ada@example.com"}
NEW_EMAIL = "ada.lovelace@example.org"

ALIAS = "/webevents/v1/identity/web-key/Alias"


@pytest.fixture
def server(strategy: str, certificate: Certificate, tmp_path: Path) -> Iterator[Server]:
    with serving(shop(f'strategy = "{strategy}"'), tmp_path / "server", certificate=certificate) as server:
        yield server


def device_stamp(device: Device) -> str:
    """The identity that the SDK gave the device, as it stood in its first identify request."""
    [first, *_] = [r for r in device.report()["requests"] if r["url"].endswith("/identity/v1/identify")]
    return str(json.loads(first["body"])["known_identities"]["device_application_stamp"])


@pytest.mark.parametrize("strategy", ["default", "profile_isolation"])
def test_a_visitor_becomes_a_customer_and_stays_one(
    browser: Browser, page: str, strategy: str, server: Server
) -> None:
    converts = strategy == "default"
    laptop, phone = browser.device(f"laptop, {strategy}"), browser.device(f"phone, {strategy}")

    opened = laptop.open(page, server)
    assert opened["httpCode"] == 200, opened
    visitor = opened["body"]["mpid"]
    assert opened["user"] == {"mpid": visitor, "loggedIn": False, "identities": {}}

    login = laptop.call("login", ADA)
    assert login["httpCode"] == 200, login
    customer = login["body"]["mpid"]
    assert login["body"]["is_logged_in"] is True
    assert login["user"] == {"mpid": customer, "loggedIn": True, "identities": ADA}
    assert (customer == visitor) is converts, "the first login converts the visitor, or keeps the two apart"

    changed = laptop.call("modify", {"email": NEW_EMAIL})
    assert changed["httpCode"] == 200
    assert changed["user"] == {"mpid": customer, "loggedIn": True, "identities": ADA | {"email": NEW_EMAIL}}

    logout = laptop.call("logout")
    assert logout["httpCode"] == 200, logout
    signed_out = logout["body"]["mpid"]
    assert logout["body"]["is_logged_in"] is False
    assert logout["user"] == {"mpid": signed_out, "loggedIn": False, "identities": {}}
    assert signed_out != customer
    assert (signed_out == visitor) is not converts, "the device's visitor is back, or a new one is there"

    again = laptop.call("login", ADA | {"email": NEW_EMAIL})
    assert again["httpCode"] == 200
    assert again["user"] == {"mpid": customer, "loggedIn": True, "identities": ADA | {"email": NEW_EMAIL}}

    alias = laptop.call("alias", signed_out, customer)
    assert alias["httpCode"] == (202 if converts else -1), "profile isolation takes no alias; the SDK says -1"
    assert alias["user"] == again["user"]

    opened = phone.open(page, server)
    assert (opened["httpCode"], opened["user"]["loggedIn"]) == (200, False)
    assert opened["user"]["mpid"] not in {visitor, customer, signed_out}
    login = phone.call("login", {"customerid": ADA["customerid"]})
    assert login["httpCode"] == 200
    assert login["user"] == {"mpid": customer, "loggedIn": True, "identities": {"customerid": ADA["customerid"]}}

    for device in (laptop, phone):
        device.settle()
        reloaded = device.reload()
        assert reloaded["httpCode"] == -3, "the session goes on, so the SDK asks nobody"
        assert (reloaded["user"]["mpid"], reloaded["user"]["loggedIn"]) == (customer, True)
        device.settle()

    assert_held(server, customer, {"email": NEW_EMAIL}, True)
    assert_held(server, customer, {"email": ADA["email"]}, False)
    for device in (laptop, phone):
        assert_held(server, customer, {"device_application_stamp": device_stamp(device)}, True)

    used = {"/tags/JS/v2/web-key/config": {200}, "/identity/v1/identify": {200}, "/identity/v1/login": {200}}
    used |= {EVENTS: {202}}
    alone = {"/identity/v1/logout": {200}, "/identity/v1/MPID/modify": {200}, ALIAS: {202 if converts else 403}}
    called = {device.name: calls(device, server) for device in (laptop, phone)}
    assert called == {laptop.name: used | alone, phone.name: used}
    assert complaints(laptop, *([] if converts else ["HTTP Code of 403", f"403.*{ALIAS}"])) == []
    assert complaints(phone) == []


def assert_held(server: Server, mpid: str, identity: dict[str, str], held: bool) -> None:
    """The customer's profile holds an identity or does not, in the words of the server."""
    seen = server.look({"customerid": ADA["customerid"]} | identity)
    assert (seen["mpid"], seen["is_logged_in"]) == (mpid, True)
    assert (identity.items() <= seen["matched_identities"].items()) is held
