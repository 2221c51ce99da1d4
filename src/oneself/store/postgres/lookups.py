"""Looking things up in a database, beside the path of answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar
from zlib import crc32

from oneself.errors import StoreDamaged
from oneself.identity import Profile
from oneself.journal import BatchRecord, Entry, decode, decode_batch
from oneself.profiles import Device, Parts
from oneself.store.contract import HeldProfile, KnownUser, PolicyVersion, Store, StoredProfile
from oneself.store.keys import batch_key, request_key
from oneself.store.postgres.aliases import END
from oneself.store.postgres.bodies import device_of, person_of, profile_of, workspace_of
from oneself.store.postgres.database import ONE_MOMENT, Connection, Database, Record
from oneself.store.postgres.errors import Address
from oneself.store.postgres.packs import entries_of
from oneself.store.postgres.rows import text
from oneself.store.postgres.views import parts_of
from oneself.store.reading import REQUESTS, Activity, History, QuarantinedBatch, Touched, events_of
from oneself.store.revising import is_removed

__all__ = ["POLICIES", "Lookups", "checked", "policy_of"]

T = TypeVar("T")

_CHUNK: Final = 1_000

# An entry is in the row of the greatest position that is not after its own.
_ENTRIES: Final = """
    SELECT position, count, checksum, body FROM entry
    WHERE position >= coalesce((SELECT max(position) FROM entry WHERE position <= $1), 0) ORDER BY position LIMIT $2
"""
_SOME_ENTRIES: Final = """
    SELECT position, count, checksum, body FROM entry WHERE position IN (
        SELECT (SELECT max(position) FROM entry WHERE position <= asked.at) FROM unnest($1::bigint[]) AS asked(at))
"""
_SOME_BATCHES: Final = "SELECT position, checksum, body FROM batch WHERE position = ANY($1::bigint[])"
_REQUESTS: Final = """
    SELECT position FROM request WHERE key = ANY($1::bytea[])
    AND position > coalesce((SELECT through FROM swept WHERE what = $2), 0) ORDER BY position
"""
_USER: Final = """
    SELECT profile.space, profile.created, profile.changed, profile.body, person.changed AS person_changed,
        person.body AS person, known.changed AS known_changed, known.body AS known FROM profile
    LEFT JOIN person ON person.mpid = profile.mpid
    LEFT JOIN workspace_profile AS known ON known.mpid = profile.mpid AND known.workspace = $2
    WHERE profile.mpid = $1
"""
_MPIDS: Final = "SELECT mpid FROM profile WHERE mpid >= $1 AND space = ANY($2::bytea[]) ORDER BY mpid LIMIT $3"
_FURTHER: Final = "SELECT type, value, position FROM further_identity WHERE mpid = $1"
# As one row: a profile may have tens of thousands.
_HISTORY: Final = """
    SELECT array_agg(ended) AS ended, array_agg(type) AS type, array_agg(value) AS value, array_agg(linked) AS linked,
        array_agg(why) AS why, array_agg(moved_to) AS moved_to
    FROM (SELECT * FROM identity_history WHERE mpid = $1 ORDER BY ended, type, value) AS h
"""
_DECISIONS: Final = "SELECT array_agg(position) FROM profile_decision WHERE mpid = $1"
_DEVICES: Final = """
    SELECT name, changed, body FROM device WHERE mpid = $1 AND workspace = $2 AND name > $3 ORDER BY name LIMIT $4
"""
_SWEPT: Final = "coalesce((SELECT through FROM swept WHERE what = $3), 0)"
_ACTIVITY: Final = f"""
    SELECT at_ms, position, first_ms, input, device, events FROM activity
    WHERE mpid = $1 AND workspace = $2 AND position > {_SWEPT} AND at_ms BETWEEN $4 AND $5
    AND ($6::bytea = '' OR device = $6) AND (at_ms, position) < ($7, $8)
    ORDER BY at_ms DESC, position DESC LIMIT $9
"""
_BEYOND: Final = f"""
    SELECT $4::bigint AS at_ms, position, first_ms, input, device, events FROM activity
    WHERE mpid = $1 AND workspace = $2 AND position > {_SWEPT} AND at_ms > $4 AND first_ms <= $4
    AND ($5::bytea = '' OR device = $5) AND ($4::bigint, position) < ($6, $7)
    ORDER BY position DESC LIMIT $8
"""
_QUARANTINED: Final = """
    SELECT position, input, at_ms, events, reason FROM quarantined WHERE workspace = $1 AND position < $2
    AND position > coalesce((SELECT through FROM swept WHERE what = $3), 0) ORDER BY position DESC LIMIT $4
"""
_MADE_OF: Final = """
    SELECT position FROM activity WHERE mpid = $1 UNION SELECT position FROM remainder WHERE mpid = $1
"""
POLICIES: Final = "SELECT scope, version, at_ms, position, settings, origin, author, note, restores FROM policy"
_GUARDED: Final = """
    SELECT type, value, why, position FROM guarded_value WHERE space = $1 AND NOT released ORDER BY position
"""


def checked(address: Address, what: str, checksum: int, body: bytes, decoded: Callable[[bytes], T]) -> T:
    """Return what a body says, or raise ``StoreDamaged`` where it is not what was written."""
    if crc32(body) != checksum:
        raise StoreDamaged(f"The database {address.name} is damaged ({what} does not match its checksum): {_ADVICE}")
    with as_damage(address, what):
        return decoded(body)


@contextmanager
def as_damage(address: Address, what: str) -> Iterator[None]:
    """Raise ``StoreDamaged`` where something cannot be decoded."""
    try:
        yield
    except ValueError as error:
        raise StoreDamaged(f"The database {address.name} is damaged ({what}: {error}): {_ADVICE}") from error


_ADVICE: Final = "restore a backup."


class Lookups(Store):
    """The part of the PostgreSQL store that is not in the path of an answer."""

    database: Database

    async def existing(self, mpids: Sequence[int]) -> set[int]:
        """Return those of some MPIDs that were ever given to a profile."""
        sql = "SELECT mpid FROM profile WHERE mpid = ANY($1::bigint[])"
        return {mpid for (mpid,) in await self.database.fetch(sql, mpids)}

    async def given(self, mpids: Sequence[int]) -> set[int]:  # noqa: ARG002
        """Return none: a commit looks, and raises ``Conflict`` where one exists."""
        return set()

    async def entry(self, position: int) -> Entry | None:
        """Return the journal entry at a position."""
        return (await self._entries_at([position], in_path=False)).get(position)

    async def entries_at(self, positions: Collection[int]) -> dict[int, Entry]:
        """Return the journal entries at some positions, as far as there are any."""
        if not positions:
            return {}
        return await self._entries_at(positions, in_path=True)

    async def _entries_at(self, positions: Collection[int], *, in_path: bool) -> dict[int, Entry]:
        rows = await self.database.fetch(_SOME_ENTRIES, list(positions), in_path=in_path)
        wanted = frozenset(positions)
        return {at: self._entry(at, body) for at, body in self._unpacked(rows) if at in wanted}

    async def entries(self, after: int = 0) -> AsyncIterator[tuple[int, Entry]]:
        """Yield the journal in its order."""
        async for chunk in self.bodies(after):
            for position, body in chunk:
                yield position, self._entry(position, body)

    async def bodies(self, after: int = 0) -> AsyncIterator[list[tuple[int, bytes]]]:
        """Yield chunks of entries in the journal's order, none decoded."""
        while True:
            rows = await self.database.fetch(_ENTRIES, after + 1, _CHUNK)
            chunk = [(position, body) for position, body in self._unpacked(rows) if position > after]
            if chunk:
                yield chunk
                after = chunk[-1][0]
            if len(rows) < _CHUNK:
                return

    def _unpacked(self, rows: Iterable[Record]) -> Iterator[tuple[int, bytes]]:
        """Yield the entries of rows, each with its position, as JSON."""
        for position, count, checksum, body in rows:
            of = partial(entries_of, position, count)
            yield from checked(self.database.address, f"entry {position}", checksum, body, of)

    def _entry(self, position: int, body: bytes) -> Entry:
        with as_damage(self.database.address, f"entry {position}"):
            return decode(body)

    async def batches(self, positions: Sequence[int]) -> dict[int, BatchRecord]:
        """Return what the batches at some positions brought."""
        return {
            position: checked(self.database.address, f"batch {position}", checksum, body, decode_batch)
            for position, checksum, body in await self.database.fetch(_SOME_BATCHES, list(positions))
        }

    async def find_request(self, request_id: str) -> list[int]:
        """Return the positions of the decisions on a request id."""
        inputs = [name.decode() for (name,) in await self.database.fetch("SELECT name FROM input")]
        keys = [key(name, request_id) for name in inputs for key in (request_key, batch_key)]
        return [at for (at,) in await self.database.fetch(_REQUESTS, keys, text(REQUESTS))]

    async def profile(self, mpid: int) -> StoredProfile | None:
        """Return a profile with all it holds and held, and the decisions that concern it, all as of one moment."""

        async def look() -> StoredProfile | None:
            async with self.database.transaction(ONE_MOMENT) as connection:
                known = await _known(connection, mpid, "")
                if known is None:
                    return None
                profile, user = known
                await _further(connection, profile, user.profile)
                return await _past(connection, user.profile)

        return await self.database.retried(look)

    async def mpids(self, spaces: Collection[str], *, after: int | None = None, limit: int = 1_000) -> list[int]:
        """Return the MPIDs of profiles in some spaces, in their order."""
        start = -(1 << 63) if after is None else after + 1
        rows = await self.database.fetch(_MPIDS, start, [text(space) for space in spaces], limit)
        return [mpid for (mpid,) in rows]

    async def user(self, mpid: int, workspace: str) -> KnownUser | None:
        """Return what a workspace knows of a profile, all as of one moment."""

        async def look() -> KnownUser | None:
            async with self.database.connection() as connection:
                known = await _known(connection, mpid, workspace)
            if known is None or not known[0].more:
                return None if known is None else known[1]
            async with self.database.transaction(ONE_MOMENT) as connection:
                known = await _known(connection, mpid, workspace)
                if known is not None:
                    await _further(connection, known[0], known[1].profile)
            return None if known is None else known[1]

        user = await self.database.retried(look)
        return None if user is None or is_removed(user.profile.space) else user

    async def made_of(self, mpid: int) -> list[int]:
        """Return the positions of the batches that a profile is made of."""
        return sorted(at for (at,) in await self.database.fetch(_MADE_OF, mpid))

    async def parts(self, wanted: Sequence[Touched]) -> list[Parts]:
        """Return, for each of some places, the rows of the profile there."""
        return (await parts_of(self.database, wanted))[-1]

    async def devices(
        self, mpid: int, workspace: str, *, after: str = "", limit: int = 100
    ) -> list[tuple[str, Device]]:
        """Return devices of a profile in a workspace, by name."""
        rows = await self.database.fetch(_DEVICES, mpid, text(workspace), text(after), limit)
        found = [(name.decode(), device_of(changed, body)) for name, changed, body in rows]
        return [(name, device) for name, device in found if device is not None]

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
        """Return batches of a profile in a workspace, latest first."""
        bound, (start_ms, end_ms) = before or (END, END), window or (-END, END)
        place = mpid, text(workspace), text(events_of(workspace))
        latest_ms = min(end_ms, bound[0])  # or a late page would look at all before it
        rows = await self.database.fetch(_ACTIVITY, *place, start_ms, latest_ms, text(device), *bound, limit)
        if end_ms < END and (end_ms, 0) < bound:
            rows = [*await self.database.fetch(_BEYOND, *place, end_ms, text(device), *bound, limit), *rows]
        found = [
            Activity(mpid, at_ms, position, first_ms, workspace, input_.decode(), its_device.decode(), events)
            for at_ms, position, first_ms, input_, its_device, events in rows
        ]
        return sorted(found, key=lambda row: (row.at_ms, row.position), reverse=True)[:limit]

    async def quarantined(self, workspace: str, *, before: int = 0, limit: int = 100) -> list[QuarantinedBatch]:
        """Return what was set aside in a workspace, latest first."""
        rows = await self.database.fetch(
            _QUARANTINED, text(workspace), before or END, text(events_of(workspace)), limit
        )
        return [
            QuarantinedBatch(position, workspace, input_.decode(), at_ms, events, reason.decode())
            for position, input_, at_ms, events, reason in rows
        ]

    async def guarded(self, space: str) -> list[tuple[str, str, str, int]]:
        """Return the guarded values of a space, oldest first."""
        rows = await self.database.fetch(_GUARDED, text(space))
        return [(type_.decode(), value.decode(), why.decode(), at) for type_, value, why, at in rows]

    # -- what servers keep -------------------------------------------------------------------------------------

    async def policies(self) -> list[PolicyVersion]:
        """Return every policy version, oldest first."""
        rows = await self.database.fetch(f"{POLICIES} ORDER BY position, version, scope")
        return [policy_of(row) for row in rows]


async def _known(connection: Connection, mpid: int, workspace: str) -> tuple[Profile, KnownUser] | None:
    """Return a profile and what a workspace knows of it, but for the identities that its row has no room for."""
    row = await connection.fetchrow(_USER, mpid, text(workspace))
    if row is None:
        return None
    profile = profile_of(mpid, row["created"], row["changed"], row["body"])
    held = [(type_, value, at) for type_, values in profile.held.items() for value, at in values.items()]
    held.sort(key=_linked)
    user = KnownUser(
        HeldProfile(mpid, row["space"].decode(), profile.created, held),
        person_of(row["person_changed"], row["person"]),
        workspace_of(row["known_changed"], row["known"]),
    )
    return profile, user


async def _further(connection: Connection, profile: Profile, told: HeldProfile) -> None:
    """Add the identities that a profile's row has no room for."""
    if profile.more:
        rows = await connection.fetch(_FURTHER, profile.mpid)
        told.identities.extend((type_.decode(), value.decode(), at) for type_, value, at in rows)
        told.identities.sort(key=_linked)


def _linked(held: tuple[str, str, int]) -> int:
    return held[2]


async def _past(connection: Connection, told: HeldProfile) -> StoredProfile:
    """Return a profile with its past."""
    columns = [column or () for column in await connection.fetchrow(_HISTORY, told.mpid)]
    history = [
        History(told.mpid, ended, type_.decode(), value.decode(), linked, why.decode(), moved_to)
        for ended, type_, value, linked, why, moved_to in zip(*columns, strict=True)
    ]
    decisions = {told.created, *(await connection.fetchval(_DECISIONS, told.mpid) or ())}
    return StoredProfile(told.mpid, told.space, told.created, told.identities, history, sorted(decisions))


def policy_of(row: Record) -> PolicyVersion:
    """Return a policy version of a row."""
    return PolicyVersion(
        row["scope"].decode(),
        row["version"],
        row["at_ms"],
        row["position"],
        row["settings"].decode(),
        row["origin"].decode(),
        row["author"].decode(),
        row["note"].decode(),
        row["restores"],
    )
