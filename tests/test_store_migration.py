"""A data folder of an older version is upgraded when it is opened, with what it has."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from oneself.errors import StoreDamaged
from oneself.identity import AliasRow
from oneself.store import EmbeddedStore
from oneself.store.embedded.schema import MIGRATIONS
from store_factories import SPACE


def older_state(folder: Path, version: int) -> None:
    """Give a new folder the tables of an older version, with an alias in them."""
    (folder / "state.db").unlink()
    with closing(apsw.Connection(str(folder / "state.db"))) as file:
        for migration in MIGRATIONS[:version]:
            file.execute(migration)
        file.pragma("user_version", version)
        alias = "INSERT INTO alias VALUES(4, ?, 1, 2, 10, 20, 30, 'device', 'd')"
        file.execute(alias, (SPACE,))


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


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    async def look() -> None:
        store = await fresh(tmp_path / "data")
        with closing(apsw.Connection(str(store.folder / "state.db"))) as file:
            file.execute("DROP TABLE progress")
        with pytest.raises(StoreDamaged, match="no table named progress"):
            await store.open()

    asyncio.run(look())
