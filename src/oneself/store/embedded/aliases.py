"""Aliases in a data folder: the table, and over it the rows in memory (docs/alias.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from oneself.identity import AliasRow, View
from oneself.store.embedded.base import Files
from oneself.store.embedded.pending import Generation

__all__ = ["Aliases"]

_END = 1 << 62

Rows = dict[int, tuple[str, AliasRow]]


class Aliases(Files):
    """The part of the embedded store that knows of aliases."""

    async def alias(self, position: int) -> tuple[str, AliasRow] | None:
        """Return the space and the row of the alias that was accepted at a position."""
        return self._alias(position, self._generations())

    async def aliases(self, mpid: int, *, before: int = 0, limit: int = 100) -> list[AliasRow]:
        """Return aliases from or to a profile, in every state, latest request first."""
        bound = before or _END
        found = {row.position: row for _, row in self._state.aliases_of(mpid, bound, limit)}
        for rows in self._generations():
            found |= {at: rows.aliases[at][1] for at in rows.aliases_of.get(mpid, ()) if at < bound}
        return [found[at] for at in sorted(found, reverse=True)[:limit]]

    async def due_aliases(
        self, now_ms: int, limit: int = 100, *, spaces: Collection[str] | None = None
    ) -> list[tuple[str, AliasRow]]:
        """Return those that wait and are due, longest due first."""
        newest: Rows = {}
        for rows in self._generations():
            newest |= rows.aliases
        ended = sum(1 for _, row in newest.values() if row.outcome != "waiting")
        found = {row.position: (space, row) for space, row in self._state.due_aliases(now_ms, spaces, limit + ended)}
        found |= {at: of for at, of in newest.items() if spaces is None or of[0] in spaces}
        due = [of for of in found.values() if of[1].outcome == "waiting" and of[1].due_ms <= now_ms]
        return sorted(due, key=lambda of: (of[1].due_ms, of[1].position))[:limit]

    async def sources(
        self, mpid: int, *, after: tuple[int, int] | None = None, limit: int = 100, oldest: bool = False
    ) -> list[AliasRow]:
        """Return the aliases in effect whose destination is a profile, by the end of their windows."""
        start = after or ((-_END, 0) if oldest else (_END, 0))

        def read(count: int) -> list[tuple[str, AliasRow]]:
            return self._state.aliases_to(mpid, start, count, oldest=oldest)

        def wanted(row: AliasRow) -> bool:
            place = row.end_ms, row.position
            return row.destination == mpid and (place > start if oldest else place < start)

        found = [row for _, row in _applied(self._generations(), mpid, read, wanted, limit)]
        found.sort(key=lambda row: (row.end_ms, row.position), reverse=not oldest)
        return found[:limit]

    def _alias(self, position: int, generations: list[Generation]) -> tuple[str, AliasRow] | None:
        for rows in reversed(generations):
            if position in rows.aliases:
                return rows.aliases[position]
        return self._state.alias(position)

    def _named_aliases(self, space: str, positions: Iterable[int]) -> list[AliasRow]:
        """Return the aliases of a space that requests name, as a reading sees them."""
        generations = self._seen()
        found = [self._alias(position, generations) for position in positions]
        return [of[1] for of in found if of is not None and of[0] == space]

    def _read_aliases(self, view: View, named: list[AliasRow], limit: int) -> None:
        """Put aliases into a view, and of the applied ones those that stand against them, ``limit`` of a kind."""
        generations = self._seen()
        for alias in named:
            view.aliases[alias.position] = alias
        for alias in named:
            for _, row in (
                *self._from(alias.source, alias.end_ms, generations, limit),
                *self._from(alias.destination, _END, generations, limit),
                *self._to(alias.source, generations, limit),
            ):
                view.aliases.setdefault(row.position, row)

    def _from(self, mpid: int, end_ms: int, generations: list[Generation], limit: int) -> list[tuple[str, AliasRow]]:
        def read(count: int) -> list[tuple[str, AliasRow]]:
            return self._state.aliases_from(mpid, end_ms, count)

        def wanted(row: AliasRow) -> bool:
            return row.source == mpid and row.start_ms <= end_ms

        return _applied(generations, mpid, read, wanted, limit)

    def _to(self, mpid: int, generations: list[Generation], limit: int) -> list[tuple[str, AliasRow]]:
        def read(count: int) -> list[tuple[str, AliasRow]]:
            return self._state.aliases_to(mpid, (_END, 0), count, oldest=False)

        return _applied(generations, mpid, read, lambda row: row.destination == mpid, limit)


def _applied(
    generations: list[Generation],
    mpid: int,
    read: Callable[[int], list[tuple[str, AliasRow]]],
    wanted: Callable[[AliasRow], bool],
    limit: int,
) -> list[tuple[str, AliasRow]]:
    """Return applied aliases of a profile: those that ``read`` takes from the table, and all in memory.

    ``read`` is asked for as many more as have another outcome in memory.
    """
    newest: Rows = {}
    for rows in generations:
        newest |= {at: rows.aliases[at] for at in rows.aliases_of.get(mpid, ())}
    found = {row.position: (space, row) for space, row in read(limit + len(newest))}
    found |= {at: of for at, of in newest.items() if wanted(of[1])}
    return [of for of in found.values() if of[1].outcome == "applied"]
