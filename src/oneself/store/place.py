"""Where data lives: in a folder, or in a database (docs/storage.md)."""

from __future__ import annotations

from pathlib import Path

import msgspec

from oneself.store.contract import Store
from oneself.store.embedded import EmbeddedStore
from oneself.store.url import database_key, database_name

__all__ = ["Place"]


class Place(msgspec.Struct, frozen=True):
    """A database, by its URL, or else a folder; as text it shows no credentials."""

    folder: Path
    database: str | None = None

    def store(self, *, read_only: bool = False, busy: bool = False) -> Store:
        """Return the store there, not yet open; ``read_only`` it is a snapshot, and servers may be writing.

        Tell it where it will be ``busy``: a folder then gets a process that writes it.
        """
        if self.database is None:
            return EmbeddedStore(self.folder, read_only=read_only, busy=busy)
        from oneself.store.postgres import PostgresStore

        return PostgresStore(self.database, read_only=read_only)

    @property
    def key(self) -> str:
        """What tells a database from others; nothing for a folder, which is its own place."""
        return "" if self.database is None else database_key(self.database)

    def __str__(self) -> str:
        if self.database is None:
            return str(self.folder)
        return f"the database {database_name(self.database)}"

    def __repr__(self) -> str:
        return f"Place({self})"
