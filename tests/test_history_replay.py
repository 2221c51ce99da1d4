"""A replay finds that a live state is what its journal says, and finds every row that is not (docs/replay.md)."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import apsw
import msgspec
import pytest
from structlog.testing import capture_logs

from engine_at_work import running
from histories import SCOPES
from oneself.history.difference import Where
from oneself.history.replay import Replay, replay
from oneself.identity import Link, PolicySettings
from oneself.identity.policy import Strategy
from oneself.journal import Entry, decode, encode
from recorded_histories import Player, at_work, looking
from store_factories import Backend, Mixed, PostgresShared

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def replayed(folder: Path, *, show_values: bool = False) -> Replay:
    async with looking(folder) as store:
        steps: list[int] = []
        found = await replay(store, show_values=show_values, progress=steps.append)
        assert sum(steps) == 2 * store.position
        return found


@pytest.mark.parametrize("kind", [Mixed, PostgresShared])
async def test_a_live_state_is_what_its_journal_says_in_every_state_of_rest(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} replay")
    backend = kind(tmp_path)
    if isinstance(backend, Mixed):
        backend.dice = dice
    await backend.start()
    player = Player(dice)
    with capture_logs():
        async with running(backend.store) as engine:
            for _ in range(12):
                await player.play(engine, 25)
                await backend.settle()
                engine.store = backend.store
                found = await replay(backend.store)
                assert found.differences == []
                assert found.entries == backend.store.position
                assert found.decided + sum(found.not_decided.values()) == found.entries
    assert found.profiles > 20
    assert found.identities > 20
    await backend.stop()


async def test_each_entry_is_decided_by_the_policy_of_its_time(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} changing rules")
    player, folder = Player(dice), tmp_path / "data"
    strategies: tuple[Strategy, ...] = ("default", "profile_link", "best_match", "profile_isolation")
    numbers = iter(range(1, 10_000))
    for strategy in strategies:
        scopes = {scope: PolicySettings(strategy, alias_delay=0) for scope in SCOPES}
        async with at_work(folder, scopes, mpids=numbers.__next__) as engine:
            await player.play(engine, 50)
    found = await replayed(folder)
    assert found.differences == []
    assert found.decided > 150


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A data folder at rest, of a history in which everything happened."""
    folder = tmp_path_factory.mktemp("recorded") / "data"
    dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} recorded")

    async def run() -> None:
        async with at_work(folder) as engine:
            await Player(dice).play(engine, 900)

    asyncio.run(run())
    return folder


DAMAGE: dict[str, tuple[str, Where]] = {
    "a profile that is gone": ("DELETE FROM profile WHERE rowid = (SELECT max(rowid) FROM profile)", "profile"),
    "a profile that nobody made": (
        "INSERT INTO profile VALUES(77, 'acme/production', 3, '{{}}', '{{}}', NULL)",
        "profile",
    ),
    "a profile of another time": ("UPDATE profile SET created = created + 1 WHERE mpid = {mpid}", "profile"),
    "a profile of another space": ("UPDATE profile SET space = 'acme/development' WHERE mpid = {mpid}", "profile"),
    "a value that is another": (
        "UPDATE profile SET held = replace(held, '\"cu', '\"xx') WHERE held LIKE '%\"cu%'",
        "identities",
    ),
    "a value that is gone": (
        "DELETE FROM further_identity WHERE position = (SELECT max(position) FROM further_identity)",
        "identities",
    ),
    "a holder that is gone": ("DELETE FROM holder WHERE position = (SELECT max(position) FROM holder)", "holders"),
    "a holder of another time": (
        "UPDATE holder SET position = position + 1 WHERE position = (SELECT max(position) FROM holder)",
        "holders",
    ),
    "a holder that was never linked": ("INSERT INTO holder SELECT key, 1, {mpid} FROM holder LIMIT 1", "holders"),
    "a history that is gone": (
        "DELETE FROM identity_history WHERE ended = (SELECT max(ended) FROM identity_history)",
        "history",
    ),
    "a history that is another": ("UPDATE identity_history SET why = 'removed' WHERE why = 'replaced'", "history"),
    "a decision that is gone": (
        "DELETE FROM profile_decision WHERE position = (SELECT max(position) FROM profile_decision)",
        "decisions",
    ),
    "a decision too many": ("INSERT OR IGNORE INTO profile_decision VALUES({mpid}, 100000)", "decisions"),
    "a guard that is gone": ("DELETE FROM guarded_value", "guarded"),
    "a guard that nobody set": (
        "INSERT INTO guarded_value VALUES(x'00', 'acme/production', 'email', 'x', 'max_values_per_profile', 1)",
        "guarded",
    ),
    "an alias of another window": ("UPDATE alias SET start_ms = start_ms + 1", "aliases"),
    "an alias that did not happen": ("UPDATE alias SET outcome = 'undone' WHERE outcome = 'dropped'", "aliases"),
    "a request that is forgotten": (
        "DELETE FROM request WHERE position = (SELECT max(position) FROM request)",
        "request",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
async def test_a_row_that_is_not_what_the_journal_says_is_found(recorded: Path, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "data"
    shutil.copytree(recorded, folder)
    sql, where = DAMAGE[what]
    file = apsw.Connection(str(folder / "state.db"))
    mpid = file.execute("SELECT mpid FROM profile WHERE space = 'acme/production' LIMIT 1").get
    with file:
        file.execute(sql.format(mpid=mpid))
        assert file.changes(), "nothing is damaged"
    file.close()
    found = await replayed(folder)
    assert found.where.get(where), found.where
    assert found.differences_in_all == len(found.differences) == sum(found.where.values())
    assert {difference.where for difference in found.differences} == set(found.where)


async def test_an_undamaged_copy_is_found_to_be_equal(recorded: Path) -> None:
    found = await replayed(recorded)
    assert found.differences == []
    assert found.not_decided == {"batch": found.entries - found.decided}
    assert found.not_decided["batch"] > 3


def answered_another(entry: Entry) -> None:
    entry.decision.mpid = (entry.decision.mpid or 0) + 1


def answered_known(entry: Entry) -> None:
    entry.decision.known = not entry.decision.known


def answered_by_another_policy(entry: Entry) -> None:
    entry.policy = 9


def linked_another(entry: Entry) -> None:
    link = entry.decision.changes[-1]
    assert isinstance(link, Link)
    entry.decision.changes[-1] = Link(link.mpid, link.type, "another")


def linked_nobody(entry: Entry) -> None:
    entry.decision.changes[-1] = Link(77, "email", "another")


REWRITTEN: dict[Callable[[Entry], None], Where] = {
    answered_another: "answer",
    answered_known: "answer",
    answered_by_another_policy: "journal",
    linked_another: "changes",
    linked_nobody: "journal",
}


@pytest.mark.parametrize("rewrite", REWRITTEN, ids=lambda rewrite: rewrite.__name__)
async def test_an_entry_that_was_rewritten_is_found(
    recorded: Path, tmp_path: Path, rewrite: Callable[[Entry], None]
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(recorded, folder)
    file = apsw.Connection(str(folder / "journal.db"))
    rows = file.execute("SELECT position, body FROM entry ORDER BY position DESC")
    entries = ((position, decode(body)) for position, body in rows)
    position, entry = next(
        (at, one) for at, one in entries if one.decision.changes and isinstance(one.decision.changes[-1], Link)
    )
    rewrite(entry)
    new = encode(entry)
    with file:
        file.execute(
            "UPDATE entry SET checksum = ?, body = ? WHERE position = ?", (crc32(new), new.decode(), position)
        )
    file.close()
    found = await replayed(folder)
    where = REWRITTEN[rewrite]
    assert any(f"decision {position}" in one.what for one in found.differences if one.where == where), found.where


async def test_an_entry_that_is_gone_is_found(recorded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(recorded, folder)
    file = apsw.Connection(str(folder / "journal.db"))
    with file:
        file.execute("DELETE FROM entry WHERE position = 100")
    file.close()
    async with looking(folder) as store:
        found = await replay(store)
    assert found.where["journal"] >= 1
    assert (found.differences[0].journal, found.differences[0].found) == ("100", "101")


async def test_values_are_shown_only_where_that_is_asked_for(recorded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(recorded, folder)
    file = apsw.Connection(str(folder / "state.db"))
    with file:
        file.execute("DELETE FROM holder")
        file.execute("DELETE FROM identity_history")
        file.execute("UPDATE profile SET held = '{}', more = '{}'")
    file.close()
    hidden = msgspec.json.encode(await replayed(folder)).decode()
    shown = msgspec.json.encode(await replayed(folder, show_values=True)).decode()
    assert "cu1" not in hidden
    assert "customerid #" in hidden
    assert "customerid 'cu1'" in shown


async def test_of_many_differences_the_first_are_listed_and_all_are_counted(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oneself.history.difference.LISTED", 10)
    folder = tmp_path / "data"
    shutil.copytree(recorded, folder)
    file = apsw.Connection(str(folder / "state.db"))
    with file:
        for table in ("profile_decision", "holder", "request", "profile"):
            file.execute(f"DELETE FROM {table}")
    file.close()
    found = await replayed(folder)
    assert set(found.where) >= {"holders", "profile", "request"}
    assert found.differences_in_all == sum(found.where.values()) > 300
    assert len(found.differences) == 10
