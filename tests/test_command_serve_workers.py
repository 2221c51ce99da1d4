"""`oneself serve --workers N`: one port, one database, workers that are replaced, and one stop for all."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx

from postgres_server import fresh_schema
from reading_back import READER, until
from serving import Server, serving, shop

SECONDS = 30


def in_database() -> str:
    return f'database = "{fresh_schema()}"\n' + shop()


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the pids of the processes that a process has started."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found]


def metrics(server: Server) -> list[str]:
    return httpx.get(f"{server.base_url}/metrics", trust_env=False, timeout=20).text.splitlines()


def by_worker(server: Server, name: str) -> dict[str, float]:
    """Return a metric of each worker."""
    rows = (re.fullmatch(rf'{name}{{worker="(\d+)"}} (\S+)', line) for line in metrics(server))
    return {row[1]: float(row[2]) for row in rows if row}


def identify(server: Server, customer: str) -> str:
    """Identify a customer over a connection of its own, as the worker that gets it."""
    body = {"environment": "production", "known_identities": {"customerid": customer}}
    answer = httpx.post(
        f"{server.base_url}/v1/identify", json=body, auth=server.inputs["server"], trust_env=False, timeout=20
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["mpid"])


def test_workers_share_a_port_and_one_runs_the_jobs(tmp_path: Path) -> None:
    with serving(in_database(), tmp_path, options=("--workers", "3")) as server:
        until(
            lambda: len(workers_of(server.process)) == 3 and len(by_worker(server, "oneself_ready")) == 3,
            "all serving",
        )
        once = {customer: identify(server, customer) for customer in (f"C-{number}" for number in range(30))}
        assert once == {customer: identify(server, customer) for customer in once}
        asked = [line for line in metrics(server) if line.startswith("oneself_http_requests_total{")]
        identified = [float(line.split()[-1]) for line in asked if 'route="/v1/identify"' in line]
        assert sum(identified) == 60
        assert sorted(by_worker(server, "oneself_runs_jobs").values()) == [0.0, 0.0, 1.0]


def test_whichever_worker_is_asked_tells_what_became_of_all_batches(tmp_path: Path) -> None:
    """An input that may only update drops what it knows nobody of; dropped, counted, visible."""
    config = in_database().replace('name = "server"\n', 'name = "server"\nprotection = "only_update"\n') + READER
    with serving(config, tmp_path, options=("--workers", "2")) as server:
        until(lambda: len(by_worker(server, "oneself_ready")) == 2, "both serving")
        sent = count()

        def both_had_some() -> bool:
            """Send a batch over a connection of its own; tell whether each worker has had one by now."""
            batch = {"environment": "production", "user_identities": {"customer_id": f"C-{next(sent)}"}, "events": []}
            answer = httpx.post(
                f"{server.base_url}/v2/events", json=batch, auth=server.inputs["server"], trust_env=False, timeout=20
            )
            assert answer.status_code == 202, answer.text
            return len([line for line in metrics(server) if line.startswith("oneself_batches_total{")]) == 2

        until(both_had_some, "a batch at each worker")
        credentials = {"client_id": "reader", "client_secret": "reader-secret", "grant_type": "client_credentials"}
        token = server.client.post("/oauth/token", json=credentials).json()["access_token"]

        def told() -> dict[str, int]:
            """Ask any worker; return what the input sent, nothing where the other one did not answer it."""
            headers = {"authorization": f"Bearer {token}"}
            seen = httpx.get(
                f"{server.base_url}/admin/workspaces", headers=headers, trust_env=False, timeout=20
            ).json()  # fmt: skip
            (counted,) = [one for one in seen["workspaces"][0]["inputs"] if one["name"] == "server"]
            return counted if seen["workers"] == 2 else {}

        dropped = next(sent)
        for _ in range(10):
            counted = until(told, "the counts of both")
            assert (counted["dropped"], counted["taken"], counted["refused"]) == (dropped, 0, 0)


def test_a_worker_that_dies_is_replaced_and_its_jobs_taken_over(tmp_path: Path) -> None:
    with serving(in_database(), tmp_path, options=("--workers", "2")) as server:
        until(lambda: sorted(by_worker(server, "oneself_runs_jobs").values()) == [0.0, 1.0], "one leading")
        before = workers_of(server.process)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(
            lambda: len(workers_of(server.process)) == 2 and not set(before) & set(workers_of(server.process)),
            "both replaced",
        )

        def leading() -> bool:
            try:
                return sorted(by_worker(server, "oneself_runs_jobs").values()) == [0.0, 1.0]
            except httpx.TransportError:
                return False

        until(leading, "one leading again")
        assert identify(server, "after")
    assert server.log.read_text().count('"worker died"') == 2


@contextlib.contextmanager
def started(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start two workers on a free port; yields the process that started them, and what it says first."""
    file = folder / "oneself.toml"
    file.write_text(in_database())
    command = [sys.executable, "-m", "oneself", "serve", "--config", str(file), "--port", "0", "--workers", "2"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    with process.stdout:
        try:
            yield process, process.stdout.readline().decode()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(SECONDS)


def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    with started(tmp_path) as (process, line):
        assert "Oneself serves" in line
        pids = workers_of(process)
        assert len(pids) == 2
        process.kill()
        process.wait(SECONDS)
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "their end")


def run_serve(config: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    file = folder / "oneself.toml"
    file.write_text(config)
    command = [sys.executable, "-m", "oneself", "serve", "--config", str(file), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_folder_has_one_worker(tmp_path: Path) -> None:
    done = run_serve(shop(), tmp_path, "--data", str(tmp_path / "data"), "--workers", "2")
    assert done.returncode == 2
    assert "needs a database" in done.stderr


def test_a_port_that_is_taken_or_a_database_that_is_away_is_told(tmp_path: Path) -> None:
    with serving(in_database(), tmp_path / "first", options=("--workers", "2")) as server:
        done = run_serve(in_database(), tmp_path, "--port", str(server.port), "--workers", "2")
        assert done.returncode == 1
        assert f"Cannot serve 127.0.0.1:{server.port}: Address already in use" in done.stderr
    away = 'database = "postgresql://nobody@127.0.0.1:1/none"\n' + shop()
    done = run_serve(away, tmp_path, "--port", "0", "--workers", "2")
    assert done.returncode == 1
    assert "127.0.0.1:1/none" in done.stderr
    assert "A worker ended before it served" in done.stderr


def test_a_greeting_names_the_port_once(tmp_path: Path) -> None:
    with started(tmp_path) as (process, line):
        found = re.match(r"Oneself serves (http://127\.0\.0\.1:\d+) with its data in the database ", line)
        assert found, line
        assert httpx.get(f"{found[1]}/healthz", trust_env=False, timeout=20).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
