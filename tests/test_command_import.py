"""``oneself import``: what it prints, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bulk_files import json_lines, parquet, written
from bulk_world import CONFIG, Desk, attributes_of, batches_of, read_rejects, request_ids, start_import
from oneself.bulk import sending
from oneself.bulk.model import CHUNK_ROWS
from oneself.commands import main
from oneself.config import generate
from oneself.store import EmbeddedStore
from serving import serving

INPUT = ("--input", "shop/server")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose data folder has a configuration."""
    Desk(tmp_path / "data")
    return tmp_path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run ``oneself import`` in an empty folder, whose data folder has a configuration."""
    for name in ("ONESELF_DATA", "ONESELF_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oneself-data").mkdir()
    (tmp_path / "oneself-data" / "oneself.toml").write_text(CONFIG)
    return lambda *arguments: CliRunner().invoke(main, ["import", *map(str, arguments)])


def people(folder: Path, count: int, name: str = "people.csv", bad: int = 0, first: int = 1) -> Path:
    """Write a table of customers, each ``bad``-th of them without an identity."""
    lines = ["user_identities.customerid,user_attributes.number"]
    lines += [f"{'' if bad and n % bad == 0 else f'C-{n}'},{n}" for n in range(first, first + count)]
    return written(folder / name, "\n".join(lines) + "\n")


def test_it_says_what_became_of_the_rows(run: Callable[..., Result], tmp_path: Path) -> None:
    people(tmp_path, 20, bad=10)
    result = run("people.csv", *INPUT)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("20 rows: 18 taken in, 2 rejected; 20 of them now, in ")
    assert "is in people.csv.rejects.jsonl" in result.stdout
    assert [bad["line"] for bad in read_rejects(tmp_path / "people.csv.rejects.jsonl")] == [11, 21]
    result = run("people.csv", *INPUT, "--rejects", "other.jsonl")
    assert "18 taken in, 18 of these had been before, 2 rejected" in result.stdout
    assert (tmp_path / "other.jsonl").exists()
    assert not list((tmp_path / "oneself-data").glob("import-*"))


def test_json_is_for_programs(run: Callable[..., Result], tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", customer_id=["a", "b"], plan=["x", None])
    summary = json.loads(run("a.parquet", *INPUT, "--json").stdout)
    assert summary.pop("seconds") >= 0
    assert summary.pop("rows_per_second") > 0
    assert summary == {
        "done": True,
        "rows": 2,
        "taken": 2,
        "repeated": 0,
        "unknown": 0,
        "rejected": 0,
        "set_aside": 0,
        "rejects": None,
    }
    assert not (tmp_path / "a.parquet.rejects.jsonl").exists()


def test_what_it_imports_is_there(run: Callable[..., Result], tmp_path: Path) -> None:
    manifest = {
        "columns": [{"column": "Who", "field": "user_identities.customerid"}, {"column": "x", "action": "ignore"}]
    }
    written(tmp_path / "m.json", json.dumps(manifest))
    written(tmp_path / "a-custom_event.csv", "Who,x,user_attributes.plan\na,,gold\n")
    options = (
        "--event-name",
        "Seen",
        "--event-type",
        "other",
        "--manifest",
        "m.json",
        "--environment",
        "development",
    )
    assert run("a-custom_event.csv", *INPUT, *options).exit_code == 0
    data = tmp_path / "oneself-data"
    assert asyncio.run(attributes_of(data, ["a"], "shop/development")) == [{"plan": "gold"}]
    [(_, record)] = asyncio.run(batches_of(data))
    assert record.batch is not None
    assert [(event.type, event.name) for event in record.batch.events] == [("custom_event", "Seen")]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Missing argument"),
        (["people.csv"], 2, "Missing option '--input'"),
        (["people.csv", "--input", "shop/serve"], 2, "no input of the configuration; did you mean shop/server?"),
        (["people.csv", *INPUT, "--rejects", "./people.csv"], 2, "is a file to import"),
        (["people.csv", *INPUT, "--data", "elsewhere"], 2, "elsewhere/oneself.toml is not there"),
        (["people.csv", *INPUT, "--environment", "test"], 2, "'test' is not one of"),
        (["absent.csv", *INPUT], 1, "absent.csv cannot be read: No such file"),
        (["people.csv", "bad.csv", *INPUT], 1, "bad.csv: no column says whose the rows are"),
        (["people.csv", *INPUT, "--manifest", "bad.csv"], 1, "bad.csv is no manifest"),
        (["people.csv", *INPUT, "--url", "127.0.0.1:8080"], 1, "is no address of a server; write http://HOST:PORT"),
        (["people.csv", *INPUT, "--config", "bad.csv"], 1, "bad.csv"),
        (["people.csv", *INPUT, "--config", "base.toml"], 1, "The database 127.0.0.1:1/test cannot be reached"),
    ],
)
def test_wrong_use_is_told_and_nothing_is_applied(
    run: Callable[..., Result], tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    people(tmp_path, 3)
    written(tmp_path / "bad.csv", "user_attributes.a\n1\n")
    written(tmp_path / "base.toml", 'database = "postgresql://postgres:secret@127.0.0.1:1/test"\n' + CONFIG)
    result = run(*arguments)
    assert (result.exit_code, said in result.output) == (code, True), result.output
    assert not (tmp_path / "oneself-data" / "journal.db").exists()
    assert (tmp_path / "people.csv").exists()


def test_a_folder_that_is_served_is_told_with_the_way_out(run: Callable[..., Result], tmp_path: Path) -> None:
    async def held() -> Result:
        store = EmbeddedStore(tmp_path / "oneself-data")
        await store.open()
        try:
            return await asyncio.to_thread(run, people(tmp_path, 3), *INPUT)
        finally:
            await store.close()

    result = asyncio.run(held())
    assert result.exit_code == 1
    assert "--url http://HOST:PORT" in result.output


def test_a_terminal_shows_how_far_it_is(folder: Path) -> None:
    shown = on_terminal(folder, ["import", people(folder, 3_000), *INPUT, "--data", folder / "data"])
    assert re.search(r"Importing .*100%.* 3,000 rows, [0-9,]+ rows/s", shown), shown
    shown = on_terminal(folder, ["export", "--data", folder / "data", "--output", "out.jsonl"])
    assert re.search(r"Exporting .*100%.* 3,000", shown), shown
    assert len((folder / "out.jsonl").read_text().splitlines()) == 3_000


def on_terminal(folder: Path, arguments: list[object]) -> str:
    """Run a command whose standard error is a terminal, and return what that shows."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "oneself", *map(str, arguments)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how the end of a terminal is told
            while read := os.read(ours, 65_536):
                shown += read
        os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


# -- through a server ----------------------------------------------------------------------------------------------


def test_a_running_server_takes_the_rows_in(run: Callable[..., Result], tmp_path: Path) -> None:
    people(tmp_path, 250, bad=50)
    bad = {"event_type": "screen_view", "data": {}}
    big = {"user_identities": {"customer_id": "big"}, "user_attributes": {f"a{n}": "x" * 4_000 for n in range(30)}}
    rows = [big | {"user_attributes": big["user_attributes"] | {"n": str(n)}} for n in range(4)]
    rows.append({"user_identities": {"customer_id": "e"}, "events": [bad]})
    rows.append({"user_identities": {"customer_id": "f"}, "environment": "test"})
    written(tmp_path / "more.jsonl", json_lines(rows))
    with serving(CONFIG, tmp_path / "served") as server:
        arguments = ["people.csv", "more.jsonl", *INPUT, "--config", str(server.config), "--json"]
        for _ in range(2):
            result = run(*arguments, "--url", server.base_url)
            assert result.exit_code == 0, result.output
            summary = json.loads(result.stdout)
            assert [summary[of] for of in ("rows", "taken", "rejected", "set_aside")] == [256, 250, 6, 1]
        batches = asyncio.run(batches_of(server.data))
        assert len(batches) == 250
        assert set(request_ids(batches).values()) == {1}
        found = asyncio.run(attributes_of(server.data, ["C-1", "C-249", "C-250", "f"], "shop/production"))
        assert found == [{"number": "1"}, {"number": "249"}, None, None]
        [last] = asyncio.run(attributes_of(server.data, ["big"], "shop/production"))
        assert last is not None
        assert (len(last), last["n"]) == (31, "3")
        assert [bad["line"] for bad in read_rejects(tmp_path / "people.csv.rejects.jsonl")] == [
            51,
            101,
            151,
            201,
            251,
            5,
            6,
        ]
        assert not list(tmp_path.glob("import-*"))
        wrong = tmp_path / "wrong.toml"
        wrong.write_text(CONFIG.replace("server-secret", "guessed"))
        result = run("people.csv", *INPUT, "--config", wrong, "--url", server.base_url)
        assert (result.exit_code, "Check --url and --config" in result.output) == (1, True), result.output


class Answers(BaseHTTPRequestHandler):
    """A server that gives the answers that a test has put down, and then 202."""

    protocol_version = "HTTP/1.1"
    script: list[tuple[int, dict[str, str], bytes]]
    bodies: list[Any]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, headers, answer = self.script.pop(0) if self.script else (202, {}, b"")
        if callable(status):
            status = status(json.loads(body))
        if status == 0:
            self.close_connection = True
            return
        if status == 202:
            self.bodies.append(json.loads(body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def answers() -> Iterator[tuple[str, type[Answers]]]:
    """The address of a server and the script that it follows."""
    handler = type("Scripted", (Answers,), {"script": [], "bodies": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/under", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_busy_server_is_asked_again_when_it_says(
    run: Callable[..., Result], tmp_path: Path, answers: tuple[str, type[Answers]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = answers
    waits: list[float] = []
    monkeypatch.setattr(sending.Client, "pause", lambda _, seconds: waits.append(seconds))
    busy = (429, {"Retry-After": "7"}, b'{"message": "slowly"}')
    handler.script = [busy, (503, {"Retry-After": "3"}, b""), busy, (0, {}, b""), (500, {}, b""), (500, {}, b"")]
    people(tmp_path, 120)
    result = run("people.csv", *INPUT, "--url", url)
    assert result.exit_code == 0, result.output
    assert waits[:3] == [7, 3, 7]
    assert len(waits) == 6
    assert waits[3] < waits[5] <= 4
    assert [len(body) for body in handler.bodies] == [100, 20]
    ids = [batch["user_identities"]["customerid"] for body in handler.bodies for batch in body]
    assert ids == [f"C-{n}" for n in range(1, 121)]


def test_a_server_that_stays_away_is_given_up_and_asked_in_the_next_run(
    run: Callable[..., Result], tmp_path: Path, answers: tuple[str, type[Answers]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = answers
    monkeypatch.setattr(sending.Client, "pause", lambda _, seconds: None)
    down = [(503, {}, b'{"message": "the disk is full"}')] * 8
    handler.script = [(202, {}, b"")] * (CHUNK_ROWS // 100) + down
    people(tmp_path, 2 * CHUNK_ROWS + 50)
    result = run("people.csv", *INPUT, "--url", url)
    assert (result.exit_code, "answers 503: the disk is full" in result.output) == (1, True), result.output
    assert len(list(tmp_path.glob("import-*.json"))) == 1
    result = run("people.csv", *INPUT, "--url", url, "--json")
    assert result.exit_code == 0
    assert f"Going on after {CHUNK_ROWS:,} rows" in result.stderr
    assert json.loads(result.stdout)["rows"] == 2 * CHUNK_ROWS + 50
    sent = [batch["source_request_id"] for body in handler.bodies for batch in body]
    assert len(set(sent)) == 2 * CHUNK_ROWS + 50


def test_a_batch_that_the_server_refuses_is_found_and_rejected(
    run: Callable[..., Result], tmp_path: Path, answers: tuple[str, type[Answers]]
) -> None:
    url, handler = answers

    def judge(body: list[dict[str, Any]]) -> int:
        return 400 if any(batch["user_identities"]["customerid"] in ("C-3", "C-70") for batch in body) else 202

    handler.script = [(judge, {}, b'{"message": "no such thing"}')] * 50  # type: ignore[list-item]
    people(tmp_path, 100)
    result = run("people.csv", *INPUT, "--url", url, "--json")
    assert json.loads(result.stdout)["rejected"] == 2
    told = read_rejects(tmp_path / "people.csv.rejects.jsonl")
    assert [(bad["line"], bad["reason"]) for bad in told] == [
        (4, "the server answers 400: no such thing"),
        (71, "the server answers 400: no such thing"),
    ]
    assert sum(map(len, handler.bodies)) == 98


def test_told_to_stop_while_the_server_is_busy_it_ends_at_once(
    folder: Path, answers: tuple[str, type[Answers]]
) -> None:
    url, handler = answers
    handler.script = [(429, {"Retry-After": "60"}, b"")] * 9
    worker = start_import(folder, people(folder, 100), options=("--url", url))
    while len(handler.script) == 9:
        assert worker.poll() is None
        time.sleep(0.005)
    worker.send_signal(signal.SIGINT)
    out, err = worker.communicate(timeout=50)
    assert (worker.returncode, json.loads(out)["done"]) == (1, False), err
    assert "The same command goes on from here" in err
    assert handler.bodies == []


def test_the_example_of_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parent.parent / "docs" / "import-export.md").read_text()
    _, _, csv = page.partition("```csv\n")
    _, _, session = page.partition("```\n$ ")
    commands, told = [], []
    for line in f"$ {session.partition('```')[0]}".splitlines():
        (commands if line.startswith("$ ") else told).append(line)
    written(tmp_path / "customers-eventless.csv", csv.partition("```")[0])
    (tmp_path / "oneself-data").mkdir()
    generate(tmp_path / "oneself-data")
    said = []
    for command in commands:
        program, *arguments = command.removeprefix("$ ").split()
        if program == "cat":
            said += (tmp_path / arguments[0]).read_text().splitlines()
        else:
            assert program == "oneself"
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, result.output
            said += result.stdout.splitlines()
    assert [re.sub(r'in [0-9.]+ s|"row":.*', "", line) for line in said] == [
        re.sub(r'in [0-9.]+ s|"row":.*', "", line) for line in told
    ]
