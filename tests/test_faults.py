"""Disks that fill up, folders that cannot be written, files that are damaged, two servers at once, a stop under load.

Each is told in one clear message, loses nothing, and changes nothing that it does not have to.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import apsw
import pytest

from disk import disk
from histories import SCOPES, Caller, counted, in_bursts
from journal_fold import Tables, assert_consistent, assert_store_is, fold_of, replay
from load import (
    INPUT,
    Sent,
    Traffic,
    assert_answers_hold,
    clean_environ,
    end,
    is_ready,
    launch,
    send_again,
    send_all,
    serve_command,
)
from oneself.engine import Call, Engine, Outcome, adopt_policies
from oneself.errors import StoreDamaged, StoreUnavailable
from oneself.store import EmbeddedStore
from serving import Server, free_port, shop
from store_factories import InMemory, abandon, embedded
from test_store_embedded import moved, people

START_SECONDS = 30


# -- a disk that fails now and then ---------------------------------------------------------------------------------


def test_whatever_the_disk_refuses_each_request_is_done_or_not(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("FLUSH_ROWS", 60), ("FLUSH_SECONDS", 0.005), ("RETRY_SECONDS", 0.005)):
        monkeypatch.setattr(embedded, name, seconds)
    seed = request.config.getoption("--hypothesis-seed")
    print(f"repeat with: --hypothesis-seed={seed}")
    refused = 0
    for round_ in range(3):
        refused += asyncio.run(_on_a_failing_disk(tmp_path / str(round_), f"{seed} {round_}"))
        assert_consistent(tmp_path / str(round_))
    assert refused > 0


async def _on_a_failing_disk(folder: Path, seed: str) -> int:
    """Run a history on a disk that is full or fails for a while, often; return how many requests were refused."""
    dice, moments = random.Random(seed), random.Random(f"{seed} moments")
    rate = 0.0
    refused: set[str] = set()
    answered: dict[str, Outcome] = {}

    def fail(what: str, name: str) -> None:
        if moments.random() < rate:
            raise moments.choice((apsw.FullError, apsw.IOError))("no luck")

    with disk() as below:
        store = EmbeddedStore(folder)
        await store.open()
        below.fault = fail
        engine = Engine(store, await adopt_policies(store, SCOPES, lambda: 0), mpids=counted())
        await engine.start()
        caller = Caller(dice)
        for turn in range(100):
            rate = dice.choice((0.0, 0.02, 0.1, 0.5)) if turn % 20 == 0 else rate
            calls = [caller.call() for _ in range(1 + int(dice.expovariate(0.2)))]
            named = [Call(c.space, c.input, c.request, f"{turn} {n}", c.read_only) for n, c in enumerate(calls)]
            outcomes = await in_bursts(engine, dice, named)
            for asked, outcome in zip(named, outcomes, strict=True):
                if isinstance(outcome, StoreUnavailable):
                    refused.add(asked.request_id)
                    continue
                assert isinstance(outcome, Outcome), repr(outcome)
                caller.learn(asked, outcome.decision.mpid)
                if outcome.position:
                    answered[asked.request_id] = outcome
            await asyncio.sleep(dice.choice((0, 0, 0.004)))
        rate = 0.0
        assert isinstance(await engine.submit(caller.call()), Outcome)
        await engine.stop()
        fold = await fold_of(store)
        await assert_store_is(store, fold)
        assert await replay(store) == fold.position
        done = {request_id for _, request_id in fold.requests}
        assert not done & refused
        for request_id, outcome in answered.items():
            entry = await store.entry(outcome.position)
            assert entry is not None
            assert (entry.request_id, entry.decision) == (request_id, outcome.decision)
        await store.close()
    return len(refused)


# -- a disk that is full --------------------------------------------------------------------------------------------


@contextmanager
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB, half of it taken by the file ``ballast``."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "oneself-test", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk of its own can be mounted by root only, where the container allows it")
    try:
        (folder / "ballast").write_bytes(bytes(3 << 20))
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_loses_nothing_and_is_forgotten_once_there_is_space(tmp_path: Path) -> None:
    with small_disk(tmp_path) as folder:
        _fill_up(tmp_path, folder / "data", lambda server: None, lambda server: (folder / "ballast").unlink())
        assert_consistent(folder / "data")


def test_a_file_that_may_not_grow_is_told_loses_nothing_and_is_forgotten_once_it_may(tmp_path: Path) -> None:
    """The same without a disk of its own: the server's files may not grow over a size."""

    def limit(size: int) -> Callable[[Server], None]:
        return lambda server: server.let_files_grow(size)

    _fill_up(tmp_path, tmp_path / "data", limit(1 << 20), limit(resource.RLIM_INFINITY))
    assert_consistent(tmp_path / "data")


def _fill_up(tmp_path: Path, data: Path, shrink: Callable[[Server], None], free: Callable[[Server], None]) -> None:
    server = launch(shop(), tmp_path, data)
    try:
        shrink(server)
        account: list[Sent] = []
        for turn in range(50):  # after a group that did not fit, a smaller one may still
            traffic = Traffic(f"filling {turn}", 0)
            account += asyncio.run(send_all(server.port, traffic, stop=lambda sent: sent.status != 200))
            if not is_ready(server):
                break
        refused = [sent for sent in account if sent.status != 200]
        assert {sent.status for sent in refused} == {503}
        for sent in refused:
            assert int(sent.headers["retry-after"]) >= 1
            assert str(data / "journal.db") in sent.answer["errors"][0]["message"]
        assert not is_ready(server)
        free(server)
        later = asyncio.run(_until_done(server, refused))
        assert is_ready(server)
        answered = [sent for sent in account if sent.status == 200]
        assert len(answered) > 100
        again = asyncio.run(send_again(server.port, answered[-100:]))
        assert [sent.mpid for sent in again] == [sent.mpid for sent in answered[-100:]]
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()
        fold = assert_consistent(data)
        assert_answers_hold(answered + later, fold)
        assert fold.position == len(account)
    finally:
        end(server)


async def _until_done(server: Server, refused: list[Sent]) -> list[Sent]:
    """Send what was refused until it is answered."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            later = await send_again(server.port, refused)
            if all(sent.status == 200 for sent in later):
                return later
            await asyncio.sleep(0.1)


# -- folders that cannot be served ----------------------------------------------------------------------------------


def serve_refuses(tmp_path: Path, data: Path) -> str:
    """Start a server that must refuse to, with exit code 1 and one message without a traceback; return that."""
    config = tmp_path / "refused.toml"
    config.write_text(shop())
    command = serve_command(config, data, free_port())
    ended = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, env=clean_environ())
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    messages = [line for line in ended.stderr.splitlines() if line]
    assert len(messages) == 1
    assert messages[0].startswith("Error: ")
    return messages[0]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if os.geteuid() == 0:  # whom the mode of a folder does not bind
        mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "oneself-test", str(folder)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("nothing keeps root from writing where it cannot mount a disk")
        undo: Callable[[], object] = lambda: subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: E731
    else:
        folder.chmod(0o500)
        undo = lambda: folder.chmod(0o700)  # noqa: E731
    try:
        for data in (folder, folder / "data"):
            message = serve_refuses(tmp_path, data)
            assert str(data) in message
            assert "cannot be written" in message
    finally:
        undo()


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert str(tmp_path / "file" / "data") in serve_refuses(tmp_path, tmp_path / "file" / "data")


def test_a_second_server_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    server = launch(shop(), tmp_path)
    try:
        mpid = server.identity("identify", {"email": "a@example.com"})["mpid"]
        message = serve_refuses(tmp_path, server.data)
        assert str(server.data) in message
        assert f"process {server.process.pid}" in message
        assert "--data" in message
        assert server.identity("identify", {"email": "a@example.com"})["mpid"] == mpid
        assert server.stop() == 0
        assert assert_consistent(server.data).position == 2
        again = launch(shop(), tmp_path)
        assert again.stop() == 0
        end(again)
    finally:
        end(server)


# -- files that are damaged -----------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder at rest: 130 decisions, the last 10 of them not in its tables."""
    asyncio.run(_fill(tmp_path))
    return tmp_path / "data"


async def _fill(tmp_path: Path) -> None:
    backend = InMemory(tmp_path)
    await backend.start()
    await backend.group(*people(100))
    await backend.group(*moved(20))
    await backend.store.flush()
    shutil.copy(tmp_path / "data" / "state.db", tmp_path / "state.db")
    await backend.group(*people(10, 101))
    await abandon(backend.store)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder but for its lock."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "oneself.lock"}


def overwrite(path: Path, offset: int, new: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(new)


def flip_in_entry(journal: Path, position: int, new: bytes) -> None:
    """Change one byte in the body of an entry, where it lies in the file."""
    with closing(apsw.Connection(str(journal))) as file:
        file.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        body = str(file.execute("SELECT body FROM entry WHERE position = ?", (position,)).get).encode()
    overwrite(journal, journal.read_bytes().index(body) + 20, new)


def run_sql(path: Path, sql: str) -> None:
    with closing(apsw.Connection(str(path))) as file:
        file.execute(sql)


def older_journal(folder: Path) -> None:
    run_sql(folder / "journal.db", "DELETE FROM entry WHERE position > 50")


def another_program(path: Path) -> None:
    path.unlink()
    run_sql(path, "CREATE TABLE songs(title TEXT); INSERT INTO songs VALUES('a')")


def exchange(folder: Path) -> None:
    (folder / "journal.db").rename(folder / "x")
    (folder / "state.db").rename(folder / "journal.db")
    (folder / "x").rename(folder / "state.db")


DAMAGES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "journal header": (lambda d: overwrite(d / "journal.db", 0, b"garbage!" * 12), ("journal.db", "backup")),
    "journal cut off": (lambda d: os.truncate(d / "journal.db", 20_000), ("journal.db", "backup")),
    "journal empty": (lambda d: os.truncate(d / "journal.db", 0), ("journal.db", "backup")),
    "journal gone": (lambda d: (d / "journal.db").unlink(), ("journal.db", "backup")),
    "journal older": (older_journal, ("state.db has seen decision 120", "journal.db ends at 50", "move")),
    "journal newer": (
        lambda d: run_sql(d / "journal.db", "PRAGMA user_version = 99"), ("journal.db", "newer version", "Upgrade"),
    ),
    "entry changed": (lambda d: flip_in_entry(d / "journal.db", 125, b"#"), ("entry 125", "checksum", "backup")),
    "entry no text": (lambda d: flip_in_entry(d / "journal.db", 126, b"\xff"), ("entry 126", "checksum", "backup")),
    "journal foreign": (lambda d: another_program(d / "journal.db"), ("journal.db", "another program")),
    "state header": (lambda d: overwrite(d / "state.db", 0, b"garbage!" * 12), ("state.db", "is lost", "move")),
    "state cut off": (lambda d: os.truncate(d / "state.db", 20_000), ("state.db", "nothing is lost", "move")),
    "state newer": (lambda d: run_sql(d / "state.db", "PRAGMA user_version = 99"), ("state.db", "newer version")),
    "state foreign": (lambda d: another_program(d / "state.db"), ("state.db", "another program", "move")),
    "exchanged": (exchange, ("journal.db", "backup")),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_refused_with_what_to_do_and_left_as_it_is(tmp_path: Path, data: Path, name: str) -> None:
    damage, words = DAMAGES[name]
    damage(data)
    before = contents(data)
    message = serve_refuses(tmp_path, data)
    for word in words:
        assert word in message
    assert contents(data) == before
    assert serve_refuses(tmp_path, data) == message


@pytest.mark.parametrize("name", ["state header", "state cut off", "state foreign"])
def test_what_the_message_says_brings_damaged_tables_back(tmp_path: Path, data: Path, name: str) -> None:
    DAMAGES[name][0](data)
    (data / "state.db").unlink()
    server = launch(shop(), tmp_path, data)
    assert server.stop() == 0
    end(server)
    assert assert_consistent(data).position == 130
    assert Tables(data / "state.db").position == 130


def test_tables_of_an_older_day_catch_up(tmp_path: Path, data: Path) -> None:
    with closing(apsw.Connection(str(data / "state.db"))) as file:
        file.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    shutil.copy(tmp_path / "state.db", data / "state.db")
    server = launch(shop(), tmp_path, data)
    assert server.stop() == 0
    end(server)
    assert_consistent(data)
    assert Tables(data / "state.db").position == 130


def test_a_damaged_entry_behind_the_tables_is_told_when_it_is_read(data: Path) -> None:
    flip_in_entry(data / "journal.db", 30, b"#")

    async def look() -> None:
        store = EmbeddedStore(data)
        await store.open()
        try:
            with pytest.raises(StoreDamaged, match="entry 30 does not match its checksum"):
                await store.entry(30)
            assert await store.entry(31) is not None
            with pytest.raises(StoreDamaged, match="entry 30"):
                await fold_of(store)
        finally:
            await store.close()

    asyncio.run(look())


# -- stopping -------------------------------------------------------------------------------------------------------


def test_a_server_that_is_told_to_stop_under_load_answers_what_it_took(tmp_path: Path) -> None:
    for round_ in range(3):
        server = launch(shop(), tmp_path)
        try:
            account = asyncio.run(_load_until_stopped(server, Traffic(f"round {round_}", 0)))
            assert server.process.wait(START_SECONDS) == 0
            assert "Traceback" not in server.log.read_text()
        finally:
            end(server)
        fold = assert_consistent(server.data)
        assert Tables(server.data / "state.db").position == fold.position
        assert_answers_hold(account, fold)
        unanswered = [sent for sent in account if sent.status != 200]
        assert not [sent for sent in unanswered if (INPUT, sent.request_id) in fold.requests]
        assert {sent.status for sent in unanswered} <= {0, 503}
        assert len(account) - len(unanswered) > 50


async def _load_until_stopped(server: Server, traffic: Traffic) -> list[Sent]:
    sending = asyncio.create_task(send_all(server.port, traffic))
    await asyncio.sleep(0.4)
    server.process.send_signal(signal.SIGTERM)
    with suppress(TimeoutError):
        return await asyncio.wait_for(sending, START_SECONDS)
    raise AssertionError("the server did not let its clients go")
