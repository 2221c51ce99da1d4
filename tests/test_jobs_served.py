"""Jobs in a real server: an alias without a delay takes effect, and that is told."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from oneself.identity import AliasOutcome
from serving import Server, serving, shop

SECONDS = 30


def until(server: Server, metric: str) -> float:
    """Return a metric once it is there and above 0."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for line in server.client.get("/metrics").text.splitlines():
            if line.startswith(f"{metric} ") and float(line.split()[1]):
                return float(line.split()[1])
        time.sleep(0.05)
    raise AssertionError(f"{metric} did not come up within {SECONDS} s")


def event(name: str) -> dict[str, Any]:
    return {"event_type": "custom_event", "data": {"event_name": name, "custom_event_type": "other"}}


def test_an_alias_without_a_delay_takes_effect_and_why_tells_it(tmp_path: Path) -> None:
    with serving(shop('strategy = "profile_link"\nalias_delay = 0'), tmp_path) as server:
        visitor = server.identity("identify", {"ios_idfv": "v1"}, input="web")["mpid"]
        ana = server.identity("login", {"ios_idfv": "v1", "email": "ana@example.com"}, input="web")["mpid"]
        assert visitor != ana
        batch = {"environment": "production", "mpid": visitor, "events": [event("Looked around")]}
        assert server.post("/v2/events", batch).status_code == 202
        body = {
            "environment": "production", "request_id": "ana-keeps-her-history", "request_type": "alias",
            "data": {"source_mpid": visitor, "destination_mpid": ana},
        }  # fmt: skip
        assert server.post("/v1/identity/web-key/Alias", body, input="web").status_code == 202
        assert until(server, 'oneself_upkeep_total{what="alias_applied"}') == 1
        (ended,) = [
            change
            for entry in server.journal()
            for change in entry.decision.changes
            if isinstance(change, AliasOutcome)
        ]
        assert (str(ended.source), str(ended.destination), ended.outcome) == (visitor, ana, "applied")
        command = [sys.executable, "-m", "oneself", "why", ana, "--data", str(server.data)]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert f"MPID {ana} shows the events of MPID {visitor} (alias {ended.position})" in told
        assert "why: the alias is due, and nothing stands against it" in told
