"""What the journal has and ``state.db`` lacks: the newest rows, held in memory until they are written.

Two generations: the active one takes new rows; a frozen one is being written and is still looked into.
"""

from __future__ import annotations

from collections import defaultdict

from oneself.identity import Alias, Identity, Profile
from oneself.store.contract import Effects, History

__all__ = ["Generation"]

_NONE: tuple[()] = ()


class Generation:
    """Rows of a run of journal entries, ``position`` being the last of them."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.rows = 0
        self.requests: dict[bytes, int] = {}
        self.profiles: dict[int, tuple[str, Profile]] = {}
        self.linked: dict[bytes, list[tuple[int, int]]] = {}  # in the order of their positions
        self.unlinked: dict[bytes, set[tuple[int, int]]] = {}
        self.further: defaultdict[int, dict[Identity, int | None]] = defaultdict(dict)  # None: gone
        self.history: defaultdict[int, list[History]] = defaultdict(list)
        self.concerned: defaultdict[int, list[int]] = defaultdict(list)
        self.guarded: dict[bytes, tuple[str, str, str, str, int] | None] = {}  # None: released
        self.aliases: list[tuple[int, str, Alias]] = []
        self.inputs: set[str] = set()

    def take(self, effects: Effects, position: int) -> None:
        """Add the rows of a group that is durable through a position."""
        self.position = position
        self.rows += len(effects.requests) + 2 * len(effects.profiles) + len(effects.linked)
        self.requests.update(effects.requests)
        self.profiles.update(effects.profiles)
        self.inputs |= effects.inputs
        for key, at, mpid in effects.linked:
            self.linked.setdefault(key, []).append((at, mpid))
        for key, at, mpid in effects.unlinked:
            self._unlink(key, (at, mpid))
        for (mpid, type_, value), last in effects.further.items():
            self.further[mpid][type_, value] = last
        self.guarded.update(effects.guarded)
        for row in effects.history:
            self.history[row.mpid].append(row)
        for mpid, at in effects.concerned:
            self.concerned[mpid].append(at)
        self.aliases += effects.aliases

    def _unlink(self, key: bytes, row: tuple[int, int]) -> None:
        """Take away a row that is new here, or remember that one of an earlier generation or the tables is gone."""
        rows = self.linked.get(key)
        if rows and row in rows:
            rows.remove(row)
        else:
            self.unlinked.setdefault(key, set()).add(row)
