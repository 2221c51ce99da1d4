"""The contract that every storage engine keeps (docs/storage.md).

A group of requests is decided between ``read`` and ``commit``. ``read`` gives a view that has all that the
group may see; ``Reading.keep`` makes one decision's changes in that view, so that the next decision of the
group sees them, and collects their rows; ``commit`` makes the whole group durable, or nothing of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence

import msgspec

from oneself.identity import Alias, Create, Guard, Identity, Link, Profile, Release, Unlink, View, apply
from oneself.journal import Entry
from oneself.store.keys import holder_key, request_key

__all__ = ["Effects", "History", "PolicyVersion", "Reading", "Store", "StoredProfile", "Wanted"]


class Wanted:
    """What a group must see of one space."""

    __slots__ = ("identities", "mpids")

    def __init__(self, identities: Iterable[Identity] = (), mpids: Iterable[int] = ()) -> None:
        self.identities: set[Identity] = set(identities)
        self.mpids: set[int] = set(mpids)


class History(msgspec.Struct, frozen=True):
    """An identity that a profile held: linked and ended at journal positions; ``moved_to`` 0 where nobody got it."""

    mpid: int
    ended: int
    type: str
    value: str
    linked: int
    why: str
    moved_to: int


class PolicyVersion(msgspec.Struct, frozen=True):
    """The settings that a scope's decisions were made by, from a journal position on; versions count from 1."""

    scope: str
    version: int
    at_ms: int
    position: int
    settings: str


class StoredProfile(msgspec.Struct, frozen=True):
    """One profile with all it holds: ``identities`` is ``(type, value, position linked)``, oldest link first."""

    mpid: int
    space: str
    created: int
    identities: list[tuple[str, str, int]]
    history: list[History]
    decisions: list[int]


class Effects:
    """The rows that a group of decisions changes; every engine writes these and nothing else.

    They say how the group ends: what came and went within it is in neither ``linked`` nor ``unlinked``, and of
    a further or guarded value only the last word counts.
    """

    __slots__ = (
        "aliases",
        "concerned",
        "entries",
        "further",
        "guarded",
        "history",
        "inputs",
        "linked",
        "profiles",
        "requests",
        "unlinked",
    )

    def __init__(self) -> None:
        self.entries: list[tuple[int, Entry]] = []
        self.requests: dict[bytes, int] = {}
        self.profiles: dict[int, tuple[str, Profile]] = {}
        self.linked: dict[tuple[bytes, int, int], None] = {}  # (key, position, mpid), in the order of positions
        self.unlinked: list[tuple[bytes, int, int]] = []
        self.further: dict[tuple[int, str, str], int | None] = {}  # mpid, type, value: position, None where gone
        self.history: list[History] = []
        # key: (space, type, value, why, position), None where released
        self.guarded: dict[bytes, tuple[str, str, str, str, int] | None] = {}
        self.aliases: list[tuple[int, str, Alias]] = []  # position, space, alias
        self.concerned: list[tuple[int, int]] = []  # mpid, position
        self.inputs: set[str] = set()


class Reading:
    """What a group sees, and what it has decided so far.

    ``answered`` maps the keys of requests that were answered before to their positions. ``position`` is that of
    the next decision. ``keys`` are those holder keys (by space, type and value) that ``read`` had to make.
    """

    def __init__(self, position: int) -> None:
        self.position = position
        self.views: dict[str, View] = {}
        self.answered: dict[bytes, int] = {}
        self.keys: dict[tuple[str, str, str], bytes] = {}
        self.effects = Effects()

    def keep(self, entry: Entry, key: bytes | None = None) -> int:
        """Make a decision's changes in the view, collect their rows, and return its journal position.

        ``key`` is that of the entry's request, where it is at hand.
        """
        position, effects = self.position, self.effects
        self.position = position + 1
        effects.entries.append((position, entry))
        effects.inputs.add(entry.input)
        if entry.request_id:
            key = key or request_key(entry.input, entry.request_id)
            self.answered[key] = effects.requests[key] = position
        changes = entry.decision.changes
        refused = entry.decision.trace.refused
        if not changes and not refused:
            return position
        view, space = self.views[entry.space], entry.space
        touched: set[int] = set()
        created = 0
        for change in changes:
            if isinstance(change, Link):
                touched.add(change.mpid)
                key = self.keys.get((space, change.type, change.value))
                key = key or holder_key(space, change.type, change.value)
                effects.linked[key, position, change.mpid] = None
                apply(view, change, position)
                if (change.mpid, (change.type, change.value)) in view.further:
                    effects.further[change.mpid, change.type, change.value] = position
            elif isinstance(change, Unlink):
                touched.add(change.mpid)
                self._unlink(view, space, change, position)
            elif isinstance(change, Create):
                created = change.mpid
                touched.add(created)
                apply(view, change, position)
            else:
                apply(view, change, position)
                self._rare(space, change, position)
        for mpid in touched:
            effects.profiles[mpid] = (space, view.profiles[mpid])
        if refused and entry.decision.mpid is not None:
            touched.add(entry.decision.mpid)
        touched.discard(created)
        effects.concerned += [(mpid, position) for mpid in touched]
        return position

    def _unlink(self, view: View, space: str, change: Unlink, position: int) -> None:
        """Collect the rows of an identity that leaves a profile, before it does."""
        effects, mpid, identity = self.effects, change.mpid, (change.type, change.value)
        linked = view.profiles[mpid].held[change.type].get(change.value)
        if linked is None:
            linked = view.further[(mpid, identity)]
            effects.further[(mpid, *identity)] = None
        row = holder_key(space, *identity), linked, mpid
        if row in effects.linked:
            del effects.linked[row]
        else:
            effects.unlinked.append(row)
        if linked != position:  # what comes and goes within one decision was never held
            effects.history.append(History(mpid, position, *identity, linked, change.why, change.moved_to))
        apply(view, change, position)

    def _rare(self, space: str, change: Guard | Release | Alias, position: int) -> None:
        if isinstance(change, Alias):
            self.effects.aliases.append((position, space, change))
            self.effects.concerned += [(change.source, position), (change.destination, position)]
            return
        key = holder_key(space, change.type, change.value)
        if isinstance(change, Guard):
            self.effects.guarded[key] = (space, change.type, change.value, change.why, position)
        else:
            self.effects.guarded[key] = None


class Store(ABC):
    """A storage engine. Only ``read`` and ``commit`` are in the path of an answer.

    Every method may raise ``StoreUnavailable`` (nothing was done, try later) or ``StoreDamaged``.
    """

    @abstractmethod
    async def open(self) -> None:
        """Make the store ready, creating or migrating it where needed, and recover what a crash left.

        Raises ``StoreInUse``, ``StoreDamaged``, ``StoreVersion`` or ``StoreUnavailable``.
        """

    @abstractmethod
    async def close(self) -> None:
        """Bring everything to rest. A store that is not open stays as it is."""

    @abstractmethod
    async def read(self, wanted: Mapping[str, Wanted], requests: Sequence[bytes] = (), *, margin: int = 0) -> Reading:
        """Return views of the wanted parts of each space, and which request keys were answered.

        ``margin`` more holders a value are read than a walk needs, since the group may unlink as many.
        Identities nobody holds get an empty list of holders; MPIDs of other spaces or of nobody are left out.
        """

    @abstractmethod
    def begin(self, reading: Reading) -> Awaitable[None]:
        """Begin to make what a reading collected durable as one; it is, when the awaitable ends.

        Later readings see it at once. One commit is under way at a time, and a reading that was made before the
        end of another's may be committed only if that one succeeded. Raises ``StoreUnavailable``, now or when it
        is awaited, with nothing done; what was read since then is void. A reading without entries is a no-op.
        """

    async def commit(self, reading: Reading) -> None:
        """Make what a reading collected durable as one: ``begin``, and wait for the end."""
        await self.begin(reading)

    @abstractmethod
    async def existing(self, mpids: Sequence[int]) -> set[int]:
        """Return those of some MPIDs that were ever given to a profile, in any space."""

    @abstractmethod
    async def entry(self, position: int) -> Entry | None:
        """Return the journal entry at a position; None where there is none."""

    @abstractmethod
    def entries(self, after: int = 0) -> AsyncIterator[tuple[int, Entry]]:
        """Yield ``(position, entry)`` in the journal's order, from the first position after ``after`` on."""

    @abstractmethod
    async def find_request(self, request_id: str) -> list[int]:
        """Return the positions of the decisions on a request id, one for each input that used it."""

    @abstractmethod
    async def profile(self, mpid: int) -> StoredProfile | None:
        """Return a profile with all it holds and held, and the positions of the decisions that concern it."""

    @abstractmethod
    async def guarded(self, space: str) -> list[tuple[str, str, str, int]]:
        """Return the guarded values of a space: ``(type, value, why, position)``, oldest first."""

    @abstractmethod
    async def policies(self) -> list[PolicyVersion]:
        """Return every policy version of every scope, oldest first."""

    @abstractmethod
    async def add_policy(self, scope: str, at_ms: int, settings: str) -> PolicyVersion:
        """Make new settings a scope's policy from the next position on, durably, and return the version."""

    @property
    @abstractmethod
    def position(self) -> int:
        """The position of the last durable entry; 0 in an empty journal."""
