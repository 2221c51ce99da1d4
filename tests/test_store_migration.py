"""A data folder of an older version is upgraded when it is opened, with what it has."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import apsw
import msgspec
import pytest

from oneself.errors import StoreDamaged
from oneself.identity import AliasRow
from oneself.profiles import Person, WorkspaceProfile, Write, shown_of
from oneself.store import EmbeddedStore, Touched
from oneself.store.embedded.schema import MIGRATIONS
from store_factories import SPACE

KNOWN = WorkspaceProfile(1, 2, 3, {"plan": (Write(1, 2, 3, "gold"),), "gone": (Write(1, 2, 3, deleted=True),)})


def older_state(folder: Path, version: int) -> None:
    """Give a new folder the tables of an older version, with an alias in them, and a user where there were any."""
    (folder / "state.db").unlink()
    with closing(apsw.Connection(str(folder / "state.db"))) as file:
        for migration in MIGRATIONS[:version]:
            file.execute(migration)
        file.pragma("user_version", version)
        alias = """INSERT INTO alias(position, space, source, destination, start_ms, end_ms, due_ms, scope, device)
            VALUES(4, ?, 1, 2, 10, 20, 30, 'device', 'd')"""
        file.execute(alias, (SPACE,))
        if version > 1:
            user = """
                INSERT INTO profile(mpid, space, created, held, more)
                VALUES(7, ?, 1, '{"email":{"a@example.com":1}}', '{}');
                INSERT INTO person VALUES(7, '{"first_seen_ms":1,"last_seen_ms":2,"stored_ms":3}');
                INSERT INTO workspace_profile(mpid, workspace, body) VALUES(7, 'shop', ?)"""
            file.execute(user, (SPACE, msgspec.json.encode(KNOWN).decode()))


async def fresh(folder: Path) -> EmbeddedStore:
    """Return a store on a new folder, closed."""
    store = EmbeddedStore(folder)
    await store.open()
    await store.close()
    return store


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_aliases_of_an_older_version_wait(tmp_path: Path, version: int) -> None:
    async def look() -> None:
        store = await fresh(tmp_path / "data")
        older_state(store.folder, version)
        await store.open()
        row = AliasRow(4, 1, 2, 10, 20, 30, "device", "d")
        assert await store.alias(4) == (SPACE, row)
        assert await store.due_aliases(29) == []
        assert await store.due_aliases(30) == [(SPACE, row)]
        await store.close()

    asyncio.run(look())


@pytest.mark.parametrize("version", range(2, len(MIGRATIONS)))
def test_users_of_an_older_version_are_as_they_were(tmp_path: Path, version: int) -> None:
    async def look() -> None:
        store = await fresh(tmp_path / "data")
        older_state(store.folder, version)
        await store.open()
        user, shown = await store.user(7, "shop"), await store.shown(7, "shop")
        assert user is not None
        assert (user.person, user.workspace) == (Person(1, 2, 3), KNOWN)
        assert shown is not None
        assert shown.identities == [("email", "a@example.com")]
        assert (shown.person, shown.workspace) == (user.person, shown_of(KNOWN))
        assert (await store.parts([Touched(7, "shop", "")]))[0].workspace == KNOWN
        await store.close()

    asyncio.run(look())


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    async def look() -> None:
        store = await fresh(tmp_path / "data")
        with closing(apsw.Connection(str(store.folder / "state.db"))) as file:
            file.execute("DROP TABLE progress")
        with pytest.raises(StoreDamaged, match="no table named progress"):
            await store.open()

    asyncio.run(look())
