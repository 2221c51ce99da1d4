"""The logical tables: what both engines keep, however each of them writes it down (docs/copy.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from hashlib import blake2b
from typing import Any, Final, Literal, NamedTuple

import msgspec

__all__ = ["TABLES", "Column", "Row", "Rows", "Table", "Tables", "Tally", "Target"]

Kind = Literal["int", "text", "bytes", "bool", "json"]


class Column(NamedTuple):
    """A column; the values of ``json`` are bytes as ``msgspec`` encodes them, all others what they are called."""

    name: str
    kind: Kind


class Table(NamedTuple):
    """A logical table; its first ``key`` columns tell its rows apart, and rows come in their order."""

    name: str
    columns: tuple[Column, ...]
    key: int

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    def of_kind(self, *kinds: Kind) -> list[int]:
        """Return the places of the columns of some kinds."""
        return [at for at, column in enumerate(self.columns) if column.kind in kinds]


Row = tuple[Any, ...]
Rows = list[Row]

_KINDS: Final[dict[str, Kind]] = {"$": "text", "*": "bytes", "?": "bool", "{": "json"}


def _table(name: str, key: str, rest: str = "") -> Table:
    columns = tuple(_column(word) for word in f"{key} {rest}".split())
    return Table(name, columns, len(key.split()))


def _column(word: str) -> Column:
    kind = _KINDS.get(word[-1], "int")
    return Column(word if kind == "int" else word[:-1], kind)


# A name ends in $ for text, * for bytes, ? for yes or no, { for JSON; else it is a number.
TABLES: Final = (
    _table("entry", "position", "at_ms body{"),
    _table("batch", "position", "mpid workspace$ body{"),
    _table("policy", "scope$ version", "at_ms position settings$ origin$ author$ note$ restores"),
    _table("setting", "name$", "value$"),
    _table("input", "name$"),
    _table("profile", "mpid", "space$ created body{"),
    _table("further_identity", "mpid type$ value$", "position"),
    _table("holder", "key* position mpid"),
    _table("identity_history", "mpid ended type$ value$", "linked why$ moved_to"),
    _table("request", "key*", "position"),
    _table("profile_decision", "mpid position"),
    _table("guarded_value", "key*", "space$ type$ value$ why$ position"),
    _table("guard_decision", "key* position"),
    _table(
        "alias",
        "position",
        "space$ source destination start_ms end_ms due_ms scope$ device$ outcome$ why$ processed",
    ),
    _table("person", "mpid", "body{"),
    _table("workspace_profile", "mpid workspace$", "stored_ms body{"),
    _table("device", "mpid workspace$ name$", "body{"),
    _table("activity", "mpid workspace$ at_ms position", "first_ms input$ device$ events"),
    _table("quarantined", "workspace$ position", "input$ at_ms events reason$"),
    _table("event_name", "workspace$ name$"),
    _table("remainder", "mpid position"),
    _table("loose", "position", "trimmed?"),
    _table("swept", "what$", "through"),
)
"""Everything that a store keeps, but for what is only true of the servers that run on it now."""


class Tables(ABC):
    """The logical tables of one place, as they were at one moment."""

    position: int
    """That of the last entry."""

    @abstractmethod
    async def count(self, table: Table) -> int:
        """Return how many rows a table has."""

    @abstractmethod
    def rows(self, table: Table) -> AsyncIterator[Rows]:
        """Yield the rows of a table in the order of its key, so many at a time as memory has room for.

        Raises ``StoreDamaged`` where one is not what was written.
        """


class Target(ABC):
    """A place that a copy is being written to; until it is finished, nothing takes it for a store."""

    @abstractmethod
    async def put(self, table: Table, rows: Rows) -> None:
        """Write rows of a table, which come in the order of its key."""

    @abstractmethod
    def reading(self) -> AbstractAsyncContextManager[Tables]:
        """Lend what was written, to be read."""

    @abstractmethod
    async def finish(self) -> None:
        """Make it a whole store, durably and all at once."""


_SIZE: Final = 16
_MOD: Final = 1 << (8 * _SIZE)
_encode = msgspec.msgpack.Encoder().encode


class Tally(msgspec.Struct):
    """How many rows a table has, and their checksum, whatever their order.

    It is the sum, modulo 2**128, of the BLAKE2b digests of the rows, each as a MessagePack array of its columns.
    """

    rows: int = 0
    total: int = 0

    def take(self, rows: Rows) -> None:
        """Add some rows."""
        self.rows += len(rows)
        total = self.total
        for row in rows:
            total += int.from_bytes(blake2b(_encode(row), digest_size=_SIZE).digest(), "big")
        self.total = total % _MOD

    @property
    def checksum(self) -> str:
        """The checksum as 32 hexadecimal digits."""
        return f"{self.total:032x}"
