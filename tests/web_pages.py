"""The shop's page in a real browser, with the web SDK as npm has it; and other clients' software from npm.

The page is served from another port than the server, so every call of the SDK is a cross-origin one. Importing the
fixtures makes them a test module's own.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from serving import Certificate, Server

CLIENTS = Path(__file__).parent / "clients"
SDK = CLIENTS / "node_modules/@mparticle/web-sdk/dist/mparticle.js"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EVENTS = "/webevents/v3/JS/web-key/events"
PATIENCE_SECONDS = 30


@pytest.fixture(scope="session")
def node() -> str:
    """The node command, with the packages of tests/clients installed exactly as locked."""
    for tool in ("node", "npm"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed; it runs the clients' own software (Debian: apt install npm)")
    lock, installed = CLIENTS / "package-lock.json", CLIENTS / "node_modules/.package-lock.json"
    with lock.open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # tests that run beside these want the packages, too
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=CLIENTS, capture_output=True, text=True, timeout=240)
            assert done.returncode == 0, done.stderr
            installed.touch()
    return shutil.which("node") or ""


@pytest.fixture(scope="session")
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

    def open(self, page: str, server: Server, *, domain: str = "", config: dict[str, Any] | None = None) -> Any:
        """Open the page; ``config`` is what the SDK is told beside ``domain``, which is the server by default."""
        asked = {
            "key": server.inputs["web"].key,
            "domain": domain or server.address,
            "config": json.dumps(config or {}),
        }
        return self.browser.send(do="open", device=self.name, url=f"{page}?{urlencode(asked)}")

    def reload(self) -> Any:
        return self.browser.send(do="reload", device=self.name)

    def leave(self) -> None:
        """Go to another page, as a visitor does who has seen enough."""
        self.browser.send(do="leave", device=self.name)

    def call(self, name: str, *args: Any) -> Any:
        return self.browser.send(do="call", device=self.name, name=name, args=args)

    def sdk(self, name: str, *args: Any) -> Any:
        """Call a function of the SDK, by its name under ``mParticle``."""
        return self.call("sdk", name, *args)

    def user(self, name: str, *args: Any) -> Any:
        """Call a method of the SDK's current user."""
        return self.call("user", name, *args)

    def report(self) -> Any:
        return self.browser.send(do="report", device=self.name)

    def uploads(self) -> list[dict[str, Any]]:
        """Every upload of a batch: ``status`` of its answer (0: none yet, or none at all) and ``batch``."""
        return [
            {"status": request["status"], "batch": json.loads(request["body"])}
            for request in self.report()["requests"]
            if urlsplit(request["url"]).path == EVENTS and request["body"]
        ]

    def settle(self) -> None:
        """Wait until every request so far is answered."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while open_ := [one for one in self.report()["requests"] if not one["status"] and not one["failure"]]:
            assert time.monotonic() < deadline, open_
            time.sleep(0.05)

    def uploaded(self, *names: str) -> list[dict[str, Any]]:
        """Wait until events of these names were taken in, and return the batches that were, each once."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            taken = {
                one["batch"]["source_request_id"]: one["batch"] for one in self.uploads() if one["status"] == 202
            }
            seen = {event_name(event) for batch in taken.values() for event in batch["events"]}
            if seen >= set(names):
                return list(taken.values())
            assert time.monotonic() < deadline, f"{set(names) - seen} were not taken in; {seen} were"
            time.sleep(0.05)


def event_name(event: dict[str, Any]) -> str:
    """Return what tells an event that the SDK sent from others of its type, or its type."""
    data = event["data"]
    named = (
        data.get("event_name") or data.get("screen_name") or data.get("user_attribute_name") or data.get("message")
    )
    action = (data.get("product_action") or {}).get("action")
    return str(named or action or event["event_type"])


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
def browser(node: str, chromium: str, certificate: Certificate, storage: str) -> Iterator[Browser]:
    browser = Browser(node, chromium, certificate)
    yield browser
    browser.close()


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
