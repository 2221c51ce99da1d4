"""What the journal has and ``state.db`` lacks: the newest rows, held in memory until they are written.

Two generations: the active one takes new rows; a frozen one is being written and is still looked into.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from oneself.identity import AliasRow, Identity, Profile
from oneself.profiles import Device, Person, WorkspaceProfile
from oneself.store.reading import Activity, Effects, History, QuarantinedBatch, Trimmed

__all__ = ["Generation", "UserRows"]

_SHED_AT_ONCE: Final = 100


class UserRows:
    """The newest rows of what is known of one profile.

    ``expired`` are workspaces whose older rows, in the tables and elsewhere, count no more, and ``gone`` says the
    same of the person. ``left`` are older rows of its timeline that it has no more, by workspace, time and position.
    """

    __slots__ = ("activity", "devices", "expired", "gone", "left", "person", "workspaces")

    def __init__(self) -> None:
        self.person: Person | None = None
        self.gone = False
        self.expired: set[str] = set()
        self.workspaces: dict[str, WorkspaceProfile] = {}
        self.devices: dict[tuple[str, str], Device] = {}  # workspace, device
        self.activity: list[Activity] = []
        self.left: set[tuple[str, int, int]] = set()


class Generation:
    """Rows of a run of journal entries, ``position`` being the last of them.

    ``restored`` are the keys among whose holders are some that were linked before the rows of their group.
    """

    def __init__(self, position: int) -> None:
        self.position = position
        self.rows = 0
        self.requests: dict[bytes, int] = {}
        self.profiles: dict[int, tuple[str, Profile]] = {}
        self.linked: dict[bytes, list[tuple[int, int]]] = {}  # in the order of their positions
        self.unlinked: dict[bytes, set[tuple[int, int]]] = {}
        self.restored: set[bytes] = set()
        self.further: defaultdict[int, dict[Identity, int | None]] = defaultdict(dict)  # None: gone
        self.history: defaultdict[int, list[History]] = defaultdict(list)
        self.history_gone: set[tuple[int, int, str, str]] = set()  # mpid, ended, type, value
        self.concerned: defaultdict[int, list[int]] = defaultdict(list)
        self.guarded: dict[bytes, tuple[str, str, str, str, int] | None] = {}  # None: released
        self.guarding: list[tuple[bytes, int]] = []
        self.aliases: dict[int, tuple[str, AliasRow]] = {}
        self.aliases_of: defaultdict[int, set[int]] = defaultdict(set)  # of a source or destination
        self.inputs: set[str] = set()
        self.users: defaultdict[int, UserRows] = defaultdict(UserRows)
        self.quarantined: list[QuarantinedBatch] = []
        self.event_names: set[tuple[str, str]] = set()
        self.trimmed: list[Trimmed] = []
        self.remainders: list[tuple[int, int]] = []
        self.remainders_left: set[tuple[int, int]] = set()
        self.cleared: set[tuple[int, str]] = set()
        self.nobody: set[int] = set()
        self.expired: dict[tuple[int, str], int] = {}
        self.gone: dict[int, int] = {}
        self.discarded: list[int] = []
        self.swept: dict[str, int] = {}

    def take(self, effects: Effects, position: int) -> None:
        """Add the rows of a group that is durable through a position."""
        self.position = position
        self.rows += len(effects.requests) + 2 * len(effects.profiles) + len(effects.linked)
        self.requests.update(effects.requests)
        self.profiles.update(effects.profiles)
        self.inputs |= effects.inputs
        first = effects.entries[0][0]
        for key, at, mpid in effects.linked:
            rows = self.linked.setdefault(key, [])
            if at < first or (rows and at < rows[-1][0]):
                self.restored.add(key)
                self.unlinked.get(key, set()).discard((at, mpid))
            rows.append((at, mpid))
        for key, at, mpid in effects.unlinked:
            self._unlink(key, (at, mpid))
        for (mpid, type_, value), last in effects.further.items():
            self.further[mpid][type_, value] = last
        self.guarded.update(effects.guarded)
        self.guarding += effects.guarding
        if effects.history_gone:
            self._forget_past(effects.history_gone)
        for row in effects.history:
            self.history[row.mpid].append(row)
            self.history_gone.discard((row.mpid, row.ended, row.type, row.value))
        for mpid, at in effects.concerned:
            self.concerned[mpid].append(at)
        for named, (space, alias) in effects.aliases.items():
            self.aliases[named] = space, alias
            self.aliases_of[alias.source].add(named)
            self.aliases_of[alias.destination].add(named)
        if effects.swept or effects.expired or effects.remainders or effects.discarded:
            self._take_upkeep(effects)
        if effects.cleared or effects.nobody or effects.left or effects.remainders_left:
            self._take_undone(effects)
        if effects.people or effects.activity:
            self._take_users(effects)
        self.quarantined += effects.quarantined
        self.event_names |= effects.event_names

    def shed(self) -> Iterator[None]:
        """Forget all rows, some at a time: to free tens of thousands at once would hold everything else up."""
        for rows in vars(self).values():
            if isinstance(rows, dict | set):
                drop: Callable[[], object] = rows.popitem if isinstance(rows, dict) else rows.pop
                while rows:
                    for _ in range(min(_SHED_AT_ONCE, len(rows))):
                        drop()
                    yield

    def _take_users(self, effects: Effects) -> None:
        users = self.users
        self.rows += 2 * len(effects.people) + len(effects.devices) + len(effects.activity)
        for mpid, person in effects.people.items():
            users[mpid].person = person
        for (mpid, workspace), known in effects.workspaces.items():
            users[mpid].workspaces[workspace] = known
        for (mpid, workspace, device), seen in effects.devices.items():
            users[mpid].devices[workspace, device] = seen
        for row in effects.activity:
            user = users[row.mpid]
            user.activity.append(row)
            if user.left:
                user.left.discard((row.workspace, row.at_ms, row.position))

    def _take_upkeep(self, effects: Effects) -> None:
        """Add what grew old; what expired makes room for the rows that came after it."""
        self.rows += len(effects.trimmed) + len(effects.remainders) + len(effects.expired) + len(effects.discarded)
        self.trimmed += effects.trimmed
        self.remainders += effects.remainders
        self.remainders_left.difference_update(effects.remainders)
        self.discarded += effects.discarded
        self.swept |= effects.swept
        self.expired |= effects.expired
        self.gone |= effects.gone
        for mpid, workspace in effects.expired:
            user = self.users[mpid]
            user.expired.add(workspace)
            user.workspaces.pop(workspace, None)
            for name in [name for name in user.devices if name[0] == workspace]:
                del user.devices[name]
        for mpid in effects.gone:
            self.users[mpid].gone = True
            self.users[mpid].person = None

    def _forget_past(self, gone: Iterable[tuple[int, int, str, str]]) -> None:
        for row in gone:
            mpid, *which = row
            self.history[mpid] = [one for one in self.history[mpid] if [one.ended, one.type, one.value] != which]
            self.history_gone.add(row)

    def _take_undone(self, effects: Effects) -> None:
        """Take away what an undo made anew or nobody's; the rows that there are instead come after it."""
        self.rows += len(effects.cleared) + len(effects.left)
        for row in effects.left:
            user = self.users[row.mpid]
            user.activity = [one for one in user.activity if one.position != row.position]
            user.left.add((row.workspace, row.at_ms, row.position))
        for place in effects.remainders_left:
            self.remainders = [one for one in self.remainders if one != place]
            self.remainders_left.add(place)
        self.cleared |= effects.cleared
        for mpid, workspace in effects.cleared:
            user = self.users[mpid]
            user.expired.add(workspace)
            user.workspaces.pop(workspace, None)
            for name in [name for name in user.devices if name[0] == workspace]:
                del user.devices[name]
        self.nobody |= effects.nobody
        for mpid in effects.nobody:
            self.users[mpid].gone = True
            self.users[mpid].person = None

    def _unlink(self, key: bytes, row: tuple[int, int]) -> None:
        """Take away a row that is new here, or remember that one of an earlier generation or the tables is gone."""
        rows = self.linked.get(key)
        if rows and row in rows:
            rows.remove(row)
        else:
            self.unlinked.setdefault(key, set()).add(row)
