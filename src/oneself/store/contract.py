"""The contract that every storage engine keeps (docs/storage.md).

A group of requests is decided between ``read`` and ``commit``. ``read`` gives a view that has all that the
group may see; ``Reading.keep`` makes one decision's changes in that view, so that the next decision of the
group sees them, and collects their rows; ``commit`` makes the whole group durable, or nothing of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import msgspec

from oneself.errors import OneselfError
from oneself.identity import AliasRow, Expire, Identity
from oneself.journal import BatchRecord, Entry, encode
from oneself.profiles import Device, Parts, Person, Shown, WorkspaceProfile, shown_of
from oneself.store.crowds import Crowds, IdentityPast
from oneself.store.policies import CONFIGURED, PolicyOrigin, PolicyVersion
from oneself.store.reading import Activity, History, QuarantinedBatch, Reading, Touched, Trimming, Wanted

__all__ = [
    "Activity",
    "Idle",
    "KnownUser",
    "PolicyVersion",
    "QuarantinedBatch",
    "ShownUser",
    "Store",
    "StoredProfile",
]

_BODIES = 1_000


class HeldProfile(msgspec.Struct, frozen=True):
    """One profile with all it holds: ``identities`` is ``(type, value, position linked)``, oldest link first."""

    mpid: int
    space: str
    created: int
    identities: list[tuple[str, str, int]]


class StoredProfile(HeldProfile, frozen=True):
    """One profile with all it holds and held, and the positions of the decisions that concern it, oldest first."""

    history: list[History]
    decisions: list[int]


class KnownUser(msgspec.Struct, frozen=True):
    """What one workspace knows of a profile: its identities, and its rows, None where no batch was seen."""

    profile: HeldProfile
    person: Person | None
    workspace: WorkspaceProfile | None


class ShownUser(msgspec.Struct, frozen=True):
    """What one workspace shows of a profile: ``identities`` is ``(type, value)``; None is where no batch was seen."""

    space: str
    created: int
    identities: list[tuple[str, str]]
    person: Person | None
    workspace: Shown | None


class Idle(NamedTuple):
    """A profile of a space that a workspace has heard nothing of for long."""

    mpid: int
    workspace: str
    space: str


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
    def beside(self) -> Store:
        """Return a read only store on the same data, not yet open, for work that no answer should wait for."""

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
    async def read_parts(self, reading: Reading, wanted: Iterable[Touched]) -> None:
        """Put the rows that batches touch into a reading: those that exist and are not in it yet.

        A device of a workspace whose row has expired in this very reading does not exist. Raises ``Conflict`` where
        other servers wrote them since the reading was made: read and decide again.
        """

    @abstractmethod
    def begin(self, reading: Reading) -> Awaitable[None]:
        """Begin to make what a reading collected durable as one; it is, when the awaitable ends.

        Later readings see it at once, or wait for its end. One commit is under way at a time, and a reading that was
        made before the end of another's may be committed only if that one succeeded. Raises ``StoreUnavailable``,
        now or when it is awaited, with nothing done; what was read since then is void. A reading without entries is
        a no-op.

        Where other servers commit, too, their entries may come first: the reading's then stand ``moved`` positions
        later. Where theirs changed what the reading saw, ``Conflict`` is raised: read and decide again.
        """

    async def commit(self, reading: Reading) -> None:
        """Make what a reading collected durable as one: ``begin``, and wait for the end."""
        await self.begin(reading)

    @abstractmethod
    async def existing(self, mpids: Sequence[int]) -> set[int]:
        """Return those of some MPIDs that were ever given to a profile, in any space."""

    async def given(self, mpids: Sequence[int]) -> set[int]:
        """Return those of some MPIDs, drawn for new profiles, that exist; none where the commit itself looks."""
        return await self.existing(mpids)

    @abstractmethod
    async def entry(self, position: int) -> Entry | None:
        """Return the journal entry at a position; None where there is none."""

    async def entries_at(self, positions: Collection[int]) -> dict[int, Entry]:
        """Return the journal entries at some positions, those of a commit under way too, as far as there are any."""
        found = {position: await self.entry(position) for position in positions}
        return {position: entry for position, entry in found.items() if entry is not None}

    @abstractmethod
    def entries(self, after: int = 0) -> AsyncIterator[tuple[int, Entry]]:
        """Yield ``(position, entry)`` in the journal's order, from the first position after ``after`` on."""

    async def bodies(self, after: int = 0) -> AsyncIterator[list[tuple[int, bytes]]]:
        """Yield chunks of ``(position, JSON of the entry)`` in the journal's order.

        None is decoded, for those who need little of each. Raises ``StoreDamaged`` where one is damaged.
        """
        chunk: list[tuple[int, bytes]] = []
        async for position, entry in self.entries(after):
            chunk.append((position, encode(entry)))
            if len(chunk) == _BODIES:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    @abstractmethod
    async def find_request(self, request_id: str) -> list[int]:
        """Return the positions of the decisions on a request id, one for each input that used it."""

    @abstractmethod
    async def profile(self, mpid: int) -> StoredProfile | None:
        """Return a profile with all it holds and held, and the positions of the decisions that concern it."""

    @abstractmethod
    async def identity_past(self, space: str, identity: Identity, *, limit: int = 100) -> IdentityPast:
        """Return who held an identity in a space and lost it, and which decisions guarded or released it.

        Of those who lost it the latest ``limit`` are told, the latest first.
        """

    @abstractmethod
    async def crowds(self, part: int, *, holders: int, values: int) -> Crowds:
        """Return the values with so many holders at least, and the profiles with so many values, in one of ``PARTS``.

        Of a profile those values of a type are counted that its record has no room for, and those that newer ones
        took the place of.
        """

    @abstractmethod
    async def guarded(self, space: str) -> list[tuple[str, str, str, int]]:
        """Return the guarded values of a space: ``(type, value, why, position)``, oldest first."""

    @abstractmethod
    async def policies(self) -> list[PolicyVersion]:
        """Return every policy version of every scope, oldest first."""

    @abstractmethod
    async def add_policy(
        self, scope: str, at_ms: int, settings: str, made: PolicyOrigin = CONFIGURED
    ) -> PolicyVersion:
        """Make settings a scope's policy from the next position on, durably; return the version in force.

        That is the one that was, where nothing is new (``next_version``). A store that is read only keeps a version,
        too: servers that are at work on the data take it over.
        """

    @abstractmethod
    async def mpids(self, spaces: Collection[str], *, after: int | None = None, limit: int = 1_000) -> list[int]:
        """Return the MPIDs of profiles in some spaces, in their order, from the first after ``after`` on."""

    @abstractmethod
    async def user(self, mpid: int, workspace: str) -> KnownUser | None:
        """Return what a workspace knows of a profile; None where there is no such profile in any space."""

    async def shown(self, mpid: int, workspace: str) -> ShownUser | None:
        """Return what a workspace shows of a profile; None where there is no such profile in any space.

        An engine that keeps the values of attributes ready gives them as they are, else they are gathered here.
        """
        user = await self.user(mpid, workspace)
        if user is None:
            return None
        identities = [(type_, value) for type_, value, _ in user.profile.identities]
        known = None if user.workspace is None else shown_of(user.workspace)
        return ShownUser(user.profile.space, user.profile.created, identities, user.person, known)

    @abstractmethod
    async def parts(self, wanted: Sequence[Touched]) -> list[Parts]:
        """Return, for each of some places, the rows of the profile there, as far as they exist and are durable."""

    @abstractmethod
    async def devices(
        self, mpid: int, workspace: str, *, after: str = "", limit: int = 100
    ) -> list[tuple[str, Device]]:
        """Return devices of a profile in a workspace, by name, from the first after ``after`` on."""

    @abstractmethod
    async def activity(
        self,
        mpid: int,
        workspace: str,
        *,
        before: tuple[int, int] | None = None,
        limit: int = 100,
        window: tuple[int, int] | None = None,
        device: str = "",
    ) -> list[Activity]:
        """Return batches of a profile in a workspace, latest first, before a ``(at_ms, position)``.

        A ``window`` (unix ms, both ends in it) takes those whose first to last event reach into it; where the
        last is beyond the end, ``at_ms`` is the end. A ``device`` takes those of one device.
        """

    @abstractmethod
    async def batches(self, positions: Sequence[int]) -> dict[int, BatchRecord]:
        """Return what the batches at some positions brought; those that are not kept are left out."""

    @abstractmethod
    async def made_of(self, mpid: int) -> list[int]:
        """Return the positions of the batches that a profile is made of, those without events, too."""

    async def expiries(self, mpid: int) -> tuple[dict[str, int], int]:
        """Return at which positions workspaces forgot a profile last, and the last at which all did, else 0."""
        profile = await self.profile(mpid)
        expired: dict[str, int] = {}
        gone = 0
        decisions = profile.decisions if profile is not None else []
        for start in range(0, len(decisions), _BODIES):
            entries = await self.entries_at(decisions[start : start + _BODIES])
            for position, entry in sorted(entries.items()):
                for change in entry.decision.changes:
                    if isinstance(change, Expire) and change.mpid == mpid:
                        expired[change.workspace] = position
                        gone = position if change.last else gone
        return expired, gone

    @abstractmethod
    async def quarantined(self, workspace: str, *, before: int = 0, limit: int = 100) -> list[QuarantinedBatch]:
        """Return what was set aside in a workspace, latest first, before a position (0: all)."""

    @abstractmethod
    async def event_names(self, workspace: str) -> set[str]:
        """Return the names of events and screens that a workspace has seen, also in a commit that is under way.

        The set is not to be changed.
        """

    @abstractmethod
    async def setting(self, name: str) -> str | None:
        """Return a value that the server keeps for itself, None where there is none."""

    @abstractmethod
    async def set_setting(self, name: str, value: str) -> None:
        """Keep a value for the server itself, durably."""

    @abstractmethod
    async def first_setting(self, name: str, value: str) -> str:
        """Keep a value for the server itself unless there is one, durably; return the one that is kept."""

    on_trouble: Callable[[OneselfError], None] = staticmethod(lambda _: None)
    """Told each time that the store finds by itself that it cannot be used now, and why."""

    @property
    def trouble(self) -> OneselfError | None:
        """Why the store cannot be used now, as far as is known; None where nothing is wrong."""
        return None

    # -- servers among themselves (docs/operations.md) ---------------------------------------------------------

    shared: ClassVar[bool] = False
    """Whether other servers may be at work on the same data."""

    @property
    def conflicts(self) -> Mapping[str, int]:
        """How many groups were decided again since another server changed what they saw, by what that was."""
        return {}

    @abstractmethod
    async def lease(self, name: str, holder: str, seconds: float) -> bool:
        """Give a lease to a holder, or renew it, for some seconds from now; False where another one has it.

        What nobody else can be at work on is always the holder's.
        """

    @abstractmethod
    async def end_lease(self, name: str, holder: str) -> None:
        """Take a lease back from a holder that has it."""

    # -- aliases (docs/alias.md) -------------------------------------------------------------------------------

    @abstractmethod
    async def alias(self, position: int) -> tuple[str, AliasRow] | None:
        """Return the space and the row of the alias that was accepted at a position; None where none was."""

    @abstractmethod
    async def aliases(self, mpid: int, *, before: int = 0, limit: int = 100) -> list[AliasRow]:
        """Return aliases from or to a profile, in every state, latest request first, before a position (0: all)."""

    @abstractmethod
    async def due_aliases(
        self, now_ms: int, limit: int = 100, *, spaces: Collection[str] | None = None
    ) -> list[tuple[str, AliasRow]]:
        """Return ``(space, alias)`` of those that wait and are due, longest due first; of some spaces or of all."""

    @abstractmethod
    async def sources(
        self, mpid: int, *, after: tuple[int, int] | None = None, limit: int = 100, oldest: bool = False
    ) -> list[AliasRow]:
        """Return the aliases in effect whose destination is a profile, by ``(end_ms, position)`` of their windows.

        Those that end last come first, with ``oldest`` those that end first; ``after`` one of them.
        """

    # -- data that grows old (docs/retention.md) ---------------------------------------------------------------

    @abstractmethod
    async def position_at(self, at_ms: int) -> int:
        """Return the position of the last entry that was decided by a time (unix ms); 0 where there is none."""

    @abstractmethod
    async def swept(self, what: str) -> int:
        """Return through which position ``REQUESTS`` or the ``events_of`` a workspace are swept; 0 at first."""

    @abstractmethod
    async def trimming(self, workspaces: Collection[str], after: int, through: int, limit: int) -> Trimming:
        """Make ready to take their events from those of the next ``limit`` batches that some workspaces have.

        Looks after one position and ``through`` another, at what is durable; changes nothing.
        """

    @abstractmethod
    async def idle(
        self, before_ms: Mapping[str, int], after: tuple[int, str] | None, limit: int
    ) -> tuple[list[Idle], tuple[int, str] | None]:
        """Look at the next ``limit`` rows of ``(mpid, workspace)``; return the idle ones, and where to go on.

        Idle are those for which no batch came since their workspace's ``before_ms`` (unix ms), as far as the tables
        know: newer data may not have come to them yet. The second value is None at the end.
        """

    @abstractmethod
    async def discardable(self, after: int, limit: int) -> list[int]:
        """Return positions of batches without events of which no profile is made any more, in their order."""

    @abstractmethod
    async def drop_forgotten(self, after: bytes, limit: int) -> bytes | None:
        """Delete the rows of forgotten requests among the next ``limit`` keys after one; return the last of them.

        They count as gone already. Returns None at the end.
        """

    @property
    @abstractmethod
    def position(self) -> int:
        """The position of the last durable entry; 0 in an empty journal."""
