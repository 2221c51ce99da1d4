"""What a group sees of a database: one statement, and so one moment, for all that it asks for (docs/storage.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from oneself.errors import Conflict, StoreDamaged
from oneself.identity import HOLDERS_READ, AliasRow, Identity, View
from oneself.profiles import Parts
from oneself.store.keys import holder_key
from oneself.store.postgres.aliases import ALIAS, END, alias_of
from oneself.store.postgres.bodies import device_of, person_of, profile_of, workspace_of
from oneself.store.postgres.database import ONE_MOMENT, Connection, Database, Record
from oneself.store.postgres.rows import text
from oneself.store.postgres.schema import REQUEST_PARTS
from oneself.store.reading import REQUESTS, Reading, Touched, Wanted

if TYPE_CHECKING:
    from oneself.store.postgres.under_way import UnderWay

__all__ = ["HEAD_IS_LOST", "Asked", "Seen", "parts_of", "read_parts", "read_view"]

# Each part is one row of arrays: hundreds of rows cost a decoder more than hundreds of items.
_VIEW: Final = """
WITH found AS MATERIALIZED (
    SELECT asked.n, h.position, h.mpid FROM unnest($1::bytea[]) WITH ORDINALITY AS asked(key, n)
    CROSS JOIN LATERAL (
        SELECT position, mpid FROM holder WHERE holder.key = asked.key ORDER BY position DESC, mpid DESC LIMIT $2
    ) AS h
), named AS (
    SELECT mpid FROM found UNION SELECT r.mpid FROM unnest($3::bigint[]) AS r(mpid)
)
SELECT head.position, head.version, head.epoch, f.*, p.*, g.*, r.*, e.*,
    (SELECT through FROM swept WHERE what = $5) AS forgotten, (SELECT array_agg(number) FROM request_turn) AS turns
FROM journal_head AS head,
    (SELECT array_agg(n) AS n, array_agg(position) AS at, array_agg(mpid) AS holder FROM found) AS f,
    (SELECT array_agg(p.mpid) AS mpid, array_agg(p.space) AS space, array_agg(p.created) AS created,
        array_agg(p.changed) AS changed, array_agg(p.body) AS body
        FROM named CROSS JOIN LATERAL (SELECT * FROM profile WHERE profile.mpid = named.mpid LIMIT 1) AS p) AS p,
    (SELECT array_agg(asked.n) AS guarded FROM unnest($1::bytea[]) WITH ORDINALITY AS asked(key, n)
        CROSS JOIN LATERAL (
            SELECT 1 FROM guarded_value WHERE guarded_value.key = asked.key AND NOT released LIMIT 1) AS g) AS g,
    (SELECT array_agg(asked.n) AS request, array_agg(r.position) AS answered
        FROM unnest($4::bytea[]) WITH ORDINALITY AS asked(key, n) CROSS JOIN LATERAL ({requests}) AS r) AS r,
    (SELECT array_agg(workspace) AS workspace, array_agg(name) AS name FROM event_name WHERE position > $6) AS e
WHERE head.id = 1
"""

_REQUESTS: Final = "SELECT position FROM request_{part} WHERE key = asked.key"

_FURTHER: Final = """
SELECT asked.n, f.position
FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) WITH ORDINALITY AS asked(mpid, type, value, n)
CROSS JOIN LATERAL (
    SELECT position FROM further_identity AS f
    WHERE f.mpid = asked.mpid AND f.type = asked.type AND f.value = asked.value LIMIT 1
) AS f
"""

_STORED: Final = """
SELECT asked.mpid, w.workspace, w.stored_ms FROM unnest($1::bigint[]) AS asked(mpid)
CROSS JOIN LATERAL (SELECT workspace, stored_ms FROM workspace_profile AS w WHERE w.mpid = asked.mpid) AS w
"""

_NAMED_ALIASES: Final = f"SELECT {ALIAS} FROM alias WHERE position = ANY($1::bigint[])"

# Applied windows of one source do not overlap: those that begin last before the end of another are next to it.
_FROM: Final = f"""
SELECT DISTINCT {ALIAS} FROM unnest($1::bigint[], $2::bigint[]) AS asked(mpid, end_ms) CROSS JOIN LATERAL (
    SELECT * FROM alias WHERE outcome = 'applied' AND source = asked.mpid AND start_ms <= asked.end_ms
    ORDER BY start_ms DESC, position DESC LIMIT $3) AS alias
"""
_TO: Final = f"""
SELECT DISTINCT {ALIAS} FROM unnest($1::bigint[]) AS asked(mpid) CROSS JOIN LATERAL (
    SELECT * FROM alias WHERE outcome = 'applied' AND destination = asked.mpid
    ORDER BY end_ms DESC, position DESC LIMIT $2) AS alias
"""

_PARTS: Final = """
SELECT (SELECT position FROM journal_head WHERE id = 1), p.changed, p.body, w.changed, w.body, d.changed, d.body
FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) WITH ORDINALITY AS asked(mpid, workspace, name, n)
LEFT JOIN LATERAL (SELECT changed, body FROM person WHERE person.mpid = asked.mpid LIMIT 1) AS p ON true
LEFT JOIN LATERAL (SELECT changed, body FROM workspace_profile AS w
    WHERE w.mpid = asked.mpid AND w.workspace = asked.workspace LIMIT 1) AS w ON true
LEFT JOIN LATERAL (SELECT changed, body FROM device AS d
    WHERE d.mpid = asked.mpid AND d.workspace = asked.workspace AND d.name = asked.name LIMIT 1) AS d ON true
ORDER BY asked.n
"""

NOTHING: Final = Parts()

HEAD_IS_LOST: Final = "The database has lost its row of journal_head: restore a backup."


class Seen(Reading):
    """A reading that remembers what it is of: before it is committed, all of that must be proven unchanged.

    ``read_at`` is the position of the last entry that it saw; ``version`` is that of the schema, ``epoch`` that of
    commits. ``holder_keys``, ``request_keys``, ``mpids``, ``touched`` (people), ``alias_mpids`` and
    ``alias_positions`` are what was looked at, whether it was found or not. ``new_names`` are the ``(workspace,
    name)`` of events that came since a position that the caller gave. People were read later: ``people_at`` is the
    position of the last entry that was seen of them. ``after`` is the commit that was under way then, of which it saw
    nothing. ``request_parts`` are the tables of request ids that have some, ``request_part`` is the one of them that
    is written, and ``forgotten`` are keys whose rows are there, and do not count any more.
    """

    def __init__(self, read_at: int) -> None:
        super().__init__(read_at + 1)
        self.read_at = read_at
        self.version = 0
        self.epoch = 0
        self.holder_keys: Sequence[bytes] = ()
        self.request_keys: Sequence[bytes] = ()
        self.mpids: set[int] = set()
        self.touched: set[int] = set()
        self.alias_mpids: set[int] = set()
        self.alias_positions: set[int] = set()
        self.new_names: list[tuple[str, str]] = []
        self.people_at = END
        self.request_parts: Sequence[int] = ()
        self.request_part = 0
        self.forgotten: set[bytes] = set()
        self.after: UnderWay | None = None

    def go_after(self, group: UnderWay) -> None:
        """Stand behind a commit that is under way, which touches nothing that was seen."""
        self.after = group
        self.position = max(self.position, group.last + 1)

    @property
    def expected(self) -> int:
        """Where the journal's head is unless another server committed since; -1 where that cannot be said."""
        if self.after is None:
            return self.read_at
        return max(self.read_at, self.after.last) if self.after.is_between(self) else -1


class Asked:
    """What a group asks for, the identities of all spaces in one row.

    ``request_parts`` are the tables of request ids that have some, as far as is known.
    """

    def __init__(
        self,
        wanted: Mapping[str, Wanted],
        requests: Sequence[bytes] = (),
        *,
        margin: int = 0,
        names_since: int = 0,
        request_parts: Sequence[int] = (0,),
    ) -> None:
        self.wanted = wanted
        self.requests = requests
        self.count = HOLDERS_READ + margin
        self.aliases = 1 + margin
        self.names_since = names_since
        self.request_parts = tuple(request_parts)
        self.identities = [(space, identity) for space, want in wanted.items() for identity in want.identities]
        self.keys = [holder_key(space, *identity) for space, identity in self.identities]

    @property
    def is_plain(self) -> bool:
        """Whether one statement gives it all, as far as can be told beforehand."""
        return not any(want.aliases or want.stored for want in self.wanted.values())


async def read_view(database: Database, asked: Asked) -> Seen:
    """Return a reading of one moment: by one statement where that is enough, else in a transaction that sees one."""
    if asked.is_plain:
        async with database.connection(in_path=True) as connection:
            reading = await _read(connection, asked, {})
        if not _crowded(reading, asked):
            return reading
    async with database.transaction(ONE_MOMENT, in_path=True) as connection:
        aliases = await _read_aliases(connection, asked)
        reading = await _read(connection, asked, aliases)
        await _read_further(connection, reading, _crowded(reading, asked))
        await _read_stored(connection, reading, asked)
    return reading


async def _read(connection: Connection, asked: Asked, aliases: Mapping[str, list[AliasRow]]) -> Seen:
    """Return a reading with everything but further identities and what is stored."""
    mpids = {mpid for want in asked.wanted.values() for mpid in want.mpids}
    named = {of for rows in aliases.values() for row in rows for of in (row.source, row.destination)}
    what = asked.keys, asked.count, list(mpids | named), asked.requests, text(REQUESTS), asked.names_since
    while True:
        row = await connection.fetchrow(_view_of(asked.request_parts), *what)
        if row is None:
            raise StoreDamaged(HEAD_IS_LOST)
        turns = row["turns"] or (0,)
        parts = tuple(sorted({number % REQUEST_PARTS for number in turns}))
        if asked.request_parts == parts:
            break
        asked.request_parts = parts  # they took turns since they were looked at last
    reading = Seen(row["position"])
    reading.version, reading.epoch = row["version"], row["epoch"]
    reading.request_parts, reading.request_part = parts, max(turns) % REQUEST_PARTS
    reading.holder_keys, reading.request_keys = asked.keys, asked.requests
    reading.views = {space: View() for space in asked.wanted}
    _take_holders(reading, asked, row)
    of_space = {space: want.mpids | named for space, want in asked.wanted.items()}
    reading.mpids = mpids | named | set(row["holder"] or ())
    _take_profiles(reading, of_space, row)
    for n in row["guarded"] or ():
        space, identity = asked.identities[n - 1]
        reading.views[space].guarded.add(identity)
    _take_requests(reading, asked, row)
    names = zip(row["workspace"] or (), row["name"] or (), strict=True)
    reading.new_names = [(workspace.decode(), name.decode()) for workspace, name in names]
    for space, rows in aliases.items():
        reading.views[space].aliases = {alias.position: alias for alias in rows}
        reading.alias_positions |= asked.wanted[space].aliases
    reading.alias_mpids = named
    return reading


def _take_requests(reading: Seen, asked: Asked, row: Record) -> None:
    """Tell which request ids were answered, and which were so long ago that it is forgotten."""
    through = row["forgotten"] or 0
    for n, at in zip(row["request"] or (), row["answered"] or (), strict=True):
        key = asked.requests[n - 1]
        if at <= through:
            reading.forgotten.add(key)
        elif at > reading.answered.get(key, 0):
            reading.answered[key] = at


@cache
def _view_of(request_parts: tuple[int, ...]) -> str:
    """Return the statement that looks for request ids in some of their tables."""
    return _VIEW.format(requests=" UNION ALL ".join(_REQUESTS.format(part=part) for part in request_parts))


def _take_holders(reading: Seen, asked: Asked, row: Record) -> None:
    for (space, identity), key in zip(asked.identities, asked.keys, strict=True):
        reading.views[space].holders[identity] = []
        reading.keys[(space, *identity)] = key
    for n, at, mpid in zip(row["n"] or (), row["at"] or (), row["holder"] or (), strict=True):
        space, identity = asked.identities[n - 1]
        reading.views[space].holders[identity].append((at, mpid))
    for view in reading.views.values():
        for rows in view.holders.values():
            if len(rows) > 1:
                rows.sort(reverse=True)  # they are, but for a promise


def _take_profiles(reading: Seen, of_space: dict[str, set[int]], row: Record) -> None:
    for space, view in reading.views.items():
        of_space[space].update(mpid for rows in view.holders.values() for _, mpid in rows)
    columns = (row[name] or () for name in ("mpid", "space", "created", "changed", "body"))
    for mpid, of, created, changed, body in zip(*columns, strict=True):
        space = of.decode()
        if mpid in of_space.get(space, ()):
            reading.views[space].profiles[mpid] = profile_of(mpid, created, changed, body)


def _crowded(reading: Seen, asked: Asked) -> list[tuple[str, int, Identity]]:
    """Tell, from the holders, which identities those profiles hold that hold more than their row has room for.

    Whoever holds an identity is among its holders; where as many were read as were asked for, and so perhaps not
    all, those are returned of which it must be looked up.
    """
    missing: list[tuple[str, int, Identity]] = []
    for space, view in reading.views.items():
        crowded = {mpid: profile for mpid, profile in view.profiles.items() if profile.more}
        for identity, rows in view.holders.items() if crowded else ():
            type_, value = identity
            further = {m for m, p in crowded.items() if type_ in p.more and value not in p.held[type_]}
            for at, mpid in rows:
                if mpid in further:
                    view.further[mpid, identity] = at
                    further.discard(mpid)
            if len(rows) >= asked.count:
                missing += [(space, mpid, identity) for mpid in further]
    return missing


async def _read_further(connection: Connection, reading: Seen, missing: list[tuple[str, int, Identity]]) -> None:
    if not missing:
        return
    columns = (
        [mpid for _, mpid, _ in missing],
        [text(type_) for _, _, (type_, _) in missing],
        [text(value) for _, _, (_, value) in missing],
    )
    for n, at in await connection.fetch(_FURTHER, *columns):
        space, mpid, identity = missing[n - 1]
        reading.views[space].further[mpid, identity] = at


async def _read_stored(connection: Connection, reading: Seen, asked: Asked) -> None:
    """Tell when the latest batch of some profiles came to each workspace that knows them."""
    wanted = {mpid for want in asked.wanted.values() for mpid in want.stored}
    if not wanted:
        return
    stored: dict[int, dict[str, int]] = {mpid: {} for mpid in wanted}
    for mpid, workspace, at_ms in await connection.fetch(_STORED, list(wanted)):
        stored[mpid][workspace.decode()] = at_ms
    for space, want in asked.wanted.items():
        reading.views[space].stored = {mpid: stored[mpid] for mpid in want.stored}
    reading.mpids |= wanted
    reading.touched |= wanted
    reading.people_at = reading.read_at


async def _read_aliases(connection: Connection, asked: Asked) -> dict[str, list[AliasRow]]:
    """Return, by space, the aliases that are named, and of the applied ones the latest that stand against them."""
    positions = {at: space for space, want in asked.wanted.items() for at in want.aliases}
    if not positions:
        return {}
    found: dict[str, list[AliasRow]] = {space: [] for space, want in asked.wanted.items() if want.aliases}
    for space, alias in map(alias_of, await connection.fetch(_NAMED_ALIASES, list(positions))):
        if positions[alias.position] == space:
            found[space].append(alias)
    named = [alias for rows in found.values() for alias in rows]
    ends = [(alias.source, alias.end_ms) for alias in named] + [(alias.destination, END) for alias in named]
    against = [
        *await connection.fetch(_FROM, [mpid for mpid, _ in ends], [end for _, end in ends], asked.aliases),
        *await connection.fetch(_TO, [alias.source for alias in named], asked.aliases),
    ]
    for space, alias in map(alias_of, against):
        if space in found:
            found[space].append(alias)
    return found


async def read_parts(database: Database, reading: Reading, wanted: Sequence[Touched]) -> None:
    """Put the rows that batches touch into a reading, by one statement.

    Raises ``Conflict`` where one of them was written at a position that the group counts as its own.
    """
    missing = [row for row in wanted if row.mpid not in reading.created]
    read_at, newest, found = await parts_of(database, missing, in_path=True) if missing else (END, 0, [])
    entries = reading.effects.entries
    if newest >= (entries[0][0] if entries else reading.position):
        raise Conflict("people")  # of two positions nobody could tell whose they are, nor which is later
    parts = dict(zip(missing, found, strict=True))
    expired = reading.effects.expired
    for row in wanted:
        seen = parts.get(row, NOTHING)
        place = row.mpid, row.workspace
        reading.people.setdefault(row.mpid, seen.person)
        reading.workspaces.setdefault(place, seen.workspace)
        is_new = place in expired or place in reading.effects.cleared
        reading.devices.setdefault(row, None if is_new else seen.device)
    assert isinstance(reading, Seen)
    reading.people_at = min(reading.people_at, read_at)
    reading.touched.update(row.mpid for row in wanted)


async def parts_of(
    database: Database, wanted: Sequence[Touched], *, in_path: bool = False
) -> tuple[int, int, list[Parts]]:
    """Return the rows of the profiles at some places.

    Before them, the position of the last entry that could have been seen, and of the last that wrote one of them.
    """
    columns = (
        [row.mpid for row in wanted],
        [text(row.workspace) for row in wanted],
        [text(row.device) for row in wanted],
    )
    rows = [tuple(row) for row in await database.fetch(_PARTS, *columns, in_path=in_path)]
    parts = [Parts(person_of(*row[1:3]), workspace_of(*row[3:5]), device_of(*row[5:])) for row in rows]
    newest = max((changed for row in rows for changed in row[1::2] if changed is not None), default=0)
    return rows[0][0] if rows else END, newest, parts
