"""``oneself copy`` of a folder that is being served, and servers that go on from it (docs/copy.md)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from postgres_server import own_schema
from reading_back import readable_shop
from serving import Server, serving

USER = {"customerid": "c-1", "email": "ana@example.com"}
PEOPLE = 40


def copied(*arguments: str) -> dict[str, Any]:
    """Run the command as a process of its own; return what it printed."""
    command = [sys.executable, "-m", "oneself", "copy", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["equal"]
    return told


def bearer(server: Server) -> dict[str, str]:
    credentials = {"client_id": "reader", "client_secret": "reader-secret", "grant_type": "client_credentials"}
    granted = server.client.post("/oauth/token", json=credentials)
    assert granted.status_code == 200, granted.text
    return {"authorization": f"Bearer {granted.json()['access_token']}"}


def profile(server: Server, mpid: str, token: dict[str, str]) -> Any:
    asked = {"fields": "user_identities,user_attributes"}
    answer = server.client.get(f"/userprofile/v1/1/10/1001/{mpid}", params=asked, headers=token)
    assert answer.status_code == 200, answer.text
    return answer.json()


def batch(customer: str) -> dict[str, Any]:
    data = {"event_name": "Bought", "custom_event_type": "transaction"}
    events = [{"event_type": "custom_event", "data": data}]
    return {
        "environment": "production", "user_identities": {"customer_id": customer}, "events": events,
        "user_attributes": {"plan": "gold"}, "source_request_id": f"batch {customer}",
    }  # fmt: skip


@contextmanager
def traffic(server: Server) -> Iterator[list[tuple[dict[str, Any], Any]]]:
    """Send identity requests while the block runs; gives the requests that were answered, with their answers."""
    answered: list[tuple[dict[str, Any], Any]] = []
    stop = threading.Event()

    def send() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            identities = {"customerid": f"busy {number % PEOPLE}", "device_application_stamp": f"d {number % 7}"}
            body = {"environment": "production", "request_id": f"r {number}", "known_identities": identities}
            answer = server.post("/v1/login", body)
            assert answer.status_code == 200, answer.text
            answered.append((body, answer.json()))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield answered
    finally:
        stop.set()
        thread.join()


def test_servers_go_on_from_a_copy_of_a_folder_that_is_served_and_back(tmp_path: Path) -> None:
    url = own_schema()
    on_database = f'database = "{url}"\n' + readable_shop()
    with serving(readable_shop(), tmp_path / "folder") as server:
        ana = server.identity("login", USER)["mpid"]
        assert server.post("/v2/events", batch("c-1")).status_code == 202
        token = bearer(server)
        known = profile(server, ana, token)
        with traffic(server) as answered:
            while len(answered) < 20:
                pass
            before = len(answered)
            there = copied("--from", str(server.data), "--to", url)
        assert there["position"] >= before
    with serving(on_database, tmp_path / "one") as one, serving(on_database, tmp_path / "other") as other:
        for server in (one, other):
            assert profile(server, ana, token) == known, "a token, and what it reads, are as they were"
            for body, answer in answered[:before]:
                assert server.post("/v1/login", body).json() == answer, "a request is answered once"
        assert other.post("/v2/events", batch("c-1")).status_code == 202
        assert one.identity("login", USER)["mpid"] == ana
        newcomer = other.identity("login", {"customerid": "c-2"})["mpid"]
        back = copied("--from", url, "--to", str(tmp_path / "back" / "data"))
        assert back["position"] > there["position"]
    with serving(readable_shop(), tmp_path / "back") as server:
        assert server.identity("login", {"customerid": "c-2"})["mpid"] == newcomer
        assert profile(server, ana, token) == known
        repeated = [entry for entry in server.journal() if entry.request_id == "batch c-1"]
        assert len(repeated) == 1, "a batch is taken in once, wherever it comes again"
