"""The web SDK from npm, unmodified, in a real browser, ends with the right user (docs/clients.md).

The page is served from another port than the server, so every call of the SDK is a cross-origin one, and the
SDK is told nothing but `domain`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from serving import Certificate, Server, serving, shop

CLIENTS = Path(__file__).parent / "clients"
SDK = CLIENTS / "node_modules/@mparticle/web-sdk/dist/mparticle.js"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

ADA = {"customerid": "c-1", "email": "ada@example.com"}
NEW_EMAIL = "ada.lovelace@example.org"

ALIAS = "/webevents/v1/identity/web-key/Alias"
EVENTS = "/webevents/v3/JS/web-key/events"
UPLOADS = (f"{EVENTS}$", "while uploading", "Error sending event to")
"""What is reported of uploads of events, which this test leaves to others."""


@pytest.fixture(scope="module")
def node() -> str:
    """The node command, with the packages of tests/clients installed exactly as locked."""
    for tool in ("node", "npm"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed; it runs the web SDK's page driver (Debian: apt install npm)")
    lock, installed = CLIENTS / "package-lock.json", CLIENTS / "node_modules/.package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=CLIENTS, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    return shutil.which("node") or ""


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser that the machine has."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip("no Chromium is installed; the web SDK needs a browser (Debian: apt install chromium)")
    return found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("tls"))


class _Files(SimpleHTTPRequestHandler):
    """The page and the SDK's bundle as npm has it; nothing else."""

    def translate_path(self, path: str) -> str:
        return str({"/": CLIENTS / "web_sdk.html", "/mparticle.js": SDK}.get(urlsplit(path).path, CLIENTS / "none"))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the browser's report has every request."""


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """The address of the shop's page, on a port (an origin) of its own."""
    _Files.extensions_map = {**_Files.extensions_map, "": "text/html"}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Files) as files:
        thread = Thread(target=files.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{files.server_port}/"
        files.shutdown()
        thread.join()


class Device:
    """The shop's page in a browser profile of its own; what the SDK told its callback comes back as a dict."""

    def __init__(self, browser: Browser, name: str) -> None:
        self.browser = browser
        self.name = name

    def open(self, page: str, server: Server) -> Any:
        url = f"{page}?key={server.inputs['web'].key}&domain={server.address}"
        return self.browser.send(do="open", device=self.name, url=url)

    def reload(self) -> Any:
        return self.browser.send(do="reload", device=self.name)

    def call(self, name: str, *args: Any) -> Any:
        return self.browser.send(do="call", device=self.name, name=name, args=args)

    def report(self) -> Any:
        return self.browser.send(do="report", device=self.name)


class Browser:
    """One Chromium, driven through tests/clients/browser.mjs."""

    def __init__(self, node: str, chromium: str, certificate: Certificate) -> None:
        command = [node, str(CLIENTS / "browser.mjs"), chromium, certificate.key_hash]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self, **command: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the browser ended; its own words are in the captured stderr"
        answer = json.loads(line)
        assert "error" not in answer, f"{command}: {answer['error']}"
        return answer["result"]

    def device(self, name: str) -> Device:
        return Device(self, name)

    def close(self) -> None:
        self.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def browser(node: str, chromium: str, certificate: Certificate) -> Iterator[Browser]:
    browser = Browser(node, chromium, certificate)
    yield browser
    browser.close()


@pytest.fixture
def server(strategy: str, certificate: Certificate, tmp_path: Path) -> Iterator[Server]:
    with serving(shop(f'strategy = "{strategy}"'), tmp_path / "server", certificate=certificate) as server:
        yield server


def device_stamp(device: Device) -> str:
    """The identity that the SDK gave the device, as it stood in its first identify request."""
    [first, *_] = [r for r in device.report()["requests"] if r["url"].endswith("/identity/v1/identify")]
    return str(json.loads(first["body"])["known_identities"]["device_application_stamp"])


def calls(device: Device, server: Server) -> dict[str, set[int]]:
    """Every path of the server that the SDK called, with the statuses of the answers; 0 is no answer."""
    statuses: dict[str, set[int]] = {}
    for request in device.report()["requests"]:
        url = urlsplit(request["url"])
        if url.netloc == server.address:
            statuses.setdefault(re.sub(r"/-?\d+/", "/MPID/", url.path), set()).add(request["status"])
    return statuses


def complaints(device: Device, *expected: str) -> list[str]:
    """The errors on the console and in the page, and the requests that failed, but for the expected ones."""
    report = device.report()
    told = [f"{row['text']} at {row['url']}" for row in report["console"]]
    failed = [f"{request['failure']} at {request['url']}" for request in report["requests"] if request["failure"]]
    return [line for line in told + failed if not any(re.search(pattern, line) for pattern in expected)]


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
        reloaded = device.reload()
        assert reloaded["httpCode"] == -3, "the session goes on, so the SDK asks nobody"
        assert (reloaded["user"]["mpid"], reloaded["user"]["loggedIn"]) == (customer, True)

    assert_held(server, customer, {"email": NEW_EMAIL}, True)
    assert_held(server, customer, {"email": ADA["email"]}, False)
    for device in (laptop, phone):
        assert_held(server, customer, {"device_application_stamp": device_stamp(device)}, True)

    used = {"/tags/JS/v2/web-key/config": {200}, "/identity/v1/identify": {200}, "/identity/v1/login": {200}}
    alone = {"/identity/v1/logout": {200}, "/identity/v1/MPID/modify": {200}, ALIAS: {202 if converts else 403}}
    called = {device.name: calls(device, server) for device in (laptop, phone)}
    print("uploads of events were answered with", [paths.pop(EVENTS, "nothing yet") for paths in called.values()])
    assert called == {laptop.name: used | alone, phone.name: used}
    assert complaints(laptop, *UPLOADS, *([] if converts else ["HTTP Code of 403", f"403.*{ALIAS}"])) == []
    assert complaints(phone, *UPLOADS) == []


def assert_held(server: Server, mpid: str, identity: dict[str, str], held: bool) -> None:
    """The customer's profile holds an identity or does not, in the words of the server."""
    seen = server.look({"customerid": ADA["customerid"]} | identity)
    assert (seen["mpid"], seen["is_logged_in"]) == (mpid, True)
    assert (identity.items() <= seen["matched_identities"].items()) is held
