"""The statements that write a group: arrays in, a few statements whatever the group's size (docs/storage.md)."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

__all__ = [
    "AFTER", "BEFORE", "INSERTS", "NEXT_PARAMETERS", "NOTHING", "PARAMETERS", "Rows", "commit_of", "inserts_of",
    "next_of",
]  # fmt: skip


class Column(NamedTuple):
    """A column of a table, the type of its values, and what they are (see below)."""

    name: str
    type: str
    kind: str


class Insert(NamedTuple):
    """Rows put into a table; ``otherwise`` is what becomes of one that is there, and without it none may be.

    Of a table in ``parts`` it is one that takes them, named by its number.
    """

    name: str
    columns: tuple[Column, ...]
    otherwise: str
    table: str
    parts: bool

    @property
    def given(self) -> list[Column]:
        """The columns whose values are given."""
        return [column for column in self.columns if column.kind != "!"]


Rows = dict[str, list[list[object]]]
"""The columns that each statement takes, by its name; what has none is not run."""

_AS_IT_IS: Final = "ON CONFLICT DO NOTHING"


def _insert(name: str, spec: str, otherwise: str = "", *, into: str = "", parts: bool = False) -> Insert:
    return Insert(name, tuple(_column(word) for word in spec.split()), otherwise, into or name, parts)


def _column(word: str) -> Column:
    name = word.rstrip("*#?@!")
    return Column(name, {"*": "bytea", "#": "int", "?": "boolean"}.get(word[-1], "bigint"), word[-1])


# A name ends in * for bytes, # for a small number, ? for yes or no, @ for a position, and ! where it is the position
# of the group's last entry, which nobody gives; else it is a big number.
INSERTS: Final = {
    made.name: made
    for made in (
        _insert("entry", "position@ at_ms commit_id* checksum body* count#"),
        _insert("profile", "mpid space* created@ changed! body*"),
        _insert(
            "profile_again",
            "mpid space* created@ changed! body*",
            "ON CONFLICT (mpid) DO UPDATE SET space = excluded.space, changed = excluded.changed,"
            " body = excluded.body",
            into="profile",
        ),
        _insert("holder", "key* position@ mpid"),
        _insert("request", "key* position@", parts=True),
        _insert(
            "request_again",
            "key* position@",
            "ON CONFLICT (key) DO UPDATE SET position = excluded.position",
            into="request",
            parts=True,
        ),
        _insert("profile_decision", "mpid position@", _AS_IT_IS),
        _insert("identity_history", "mpid ended@ type* value* linked@ why* moved_to", _AS_IT_IS),
        _insert(
            "further_identity",
            "mpid type* value* position@",
            "ON CONFLICT (mpid, type, value) DO UPDATE SET position = excluded.position",
        ),
        _insert("input", "name*", _AS_IT_IS),
        _insert(
            "guarded_value",
            "key* space* type* value* why* position@ released? changed!",
            "ON CONFLICT (key) DO UPDATE SET why = excluded.why, position = excluded.position,"
            " released = excluded.released, changed = excluded.changed",
        ),
        _insert("guard_decision", "key* position@", _AS_IT_IS),
        _insert(
            "alias",
            "position@ space* source destination start_ms end_ms due_ms scope* device* outcome* why* processed@"
            " changed!",
            "ON CONFLICT (position) DO UPDATE SET outcome = excluded.outcome, why = excluded.why,"
            " processed = excluded.processed, changed = excluded.changed",
        ),
        _insert("batch", "position@ mpid workspace* checksum body*"),
        _insert(
            "person",
            "mpid changed! body*",
            "ON CONFLICT (mpid) DO UPDATE SET changed = excluded.changed, body = excluded.body",
        ),
        _insert(
            "workspace_profile",
            "mpid workspace* changed! stored_ms body*",
            "ON CONFLICT (mpid, workspace) DO UPDATE SET changed = excluded.changed, stored_ms = excluded.stored_ms,"
            " body = excluded.body",
        ),
        _insert(
            "device",
            "mpid workspace* name* changed! body*",
            "ON CONFLICT (mpid, workspace, name) DO UPDATE SET changed = excluded.changed, body = excluded.body",
        ),
        _insert("activity", "mpid workspace* at_ms position@ first_ms input* device* events#", _AS_IT_IS),
        _insert("quarantined", "workspace* position@ input* at_ms events# reason*", _AS_IT_IS),
        _insert("event_name", "workspace* name* position!", _AS_IT_IS),
        _insert(
            "swept",
            "what* through changed!",
            "ON CONFLICT (what) DO UPDATE SET through = greatest(swept.through, excluded.through),"
            " changed = excluded.changed",
        ),
    )
}
"""What is put into tables, all of it in one statement; no row of it is touched by another statement of the group.

What is there for certain, or may be, is put in ``again``: to look for it beforehand costs as much as a row.
"""

NOTHING: Final[Rows] = {name: [[] for _ in into.given] for name, into in INSERTS.items()}
"""The columns of no rows."""

_DECISIONS: Final = frozenset({"entry", "profile", "profile_again", "holder", "request", "profile_decision"})
_BATCHES: Final = frozenset({"batch", "person", "workspace_profile", "device", "activity"})

BEFORE: Final = {
    "unlinked": """DELETE FROM holder AS h
        USING unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS gone(key, position, mpid)
        WHERE h.key = gone.key AND h.position = gone.position AND h.mpid = gone.mpid""",
    "further_gone": """DELETE FROM further_identity AS f
        USING unnest($1::bigint[], $2::bytea[], $3::bytea[]) AS gone(mpid, type, value)
        WHERE f.mpid = gone.mpid AND f.type = gone.type AND f.value = gone.value""",
    "released": """UPDATE guarded_value AS g SET released = true, changed = gone.changed
        FROM unnest($1::bytea[], $2::bigint[]) AS gone(key, changed) WHERE g.key = gone.key""",
    "expired_profile": """UPDATE profile AS p SET expired = gone.expired
        FROM unnest($1::bigint[], $2::bigint[]) AS gone(mpid, expired) WHERE p.mpid = gone.mpid""",
    "expired_workspace": """DELETE FROM workspace_profile AS w
        USING unnest($1::bigint[], $2::bytea[]) AS gone(mpid, workspace)
        WHERE w.mpid = gone.mpid AND w.workspace = gone.workspace""",
    "expired_devices": """DELETE FROM device AS d USING unnest($1::bigint[], $2::bytea[]) AS gone(mpid, workspace)
        WHERE d.mpid = gone.mpid AND d.workspace = gone.workspace""",
    "gone_person": "DELETE FROM person WHERE mpid = ANY($1::bigint[])",
    "history_gone": """DELETE FROM identity_history AS h
        USING unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[]) AS gone(mpid, ended, type, value)
        WHERE h.mpid = gone.mpid AND h.ended = gone.ended AND h.type = gone.type AND h.value = gone.value""",
    "left": """DELETE FROM activity AS a
        USING unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[]) AS gone(mpid, workspace, at_ms, position)
        WHERE a.mpid = gone.mpid AND a.workspace = gone.workspace AND a.at_ms = gone.at_ms
        AND a.position = gone.position""",
    "remainder_left": """DELETE FROM remainder AS r USING unnest($1::bigint[], $2::bigint[]) AS gone(mpid, position)
        WHERE r.mpid = gone.mpid AND r.position = gone.position""",
}
"""What makes room for the rows of a group, in this order."""

AFTER: Final = {
    "rewritten": """UPDATE batch AS b SET checksum = made.checksum, body = made.body
        FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS made(position, checksum, body)
        WHERE b.position = made.position""",
    "deleted": "DELETE FROM batch WHERE position = ANY($1::bigint[])",
    "trimmed": """DELETE FROM activity AS a
        USING unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[]) AS gone(mpid, workspace, at_ms, position)
        WHERE a.mpid = gone.mpid AND a.workspace = gone.workspace AND a.at_ms = gone.at_ms
        AND a.position = gone.position""",
    "trimmed_some_time": """DELETE FROM activity AS a
        USING unnest($1::bigint[], $2::bytea[], $3::bigint[]) AS gone(mpid, workspace, position)
        WHERE a.mpid = gone.mpid AND a.workspace = gone.workspace AND a.position = gone.position""",
    "cleared": """DELETE FROM quarantined AS q USING unnest($1::bytea[], $2::bigint[]) AS swept(workspace, through)
        WHERE q.workspace = swept.workspace AND q.position <= swept.through""",
    "trimmed_loose": "UPDATE loose SET trimmed = true WHERE position = ANY($1::bigint[])",
    "remainder": """INSERT INTO remainder SELECT made.mpid, made.position
        FROM unnest($1::bigint[], $2::bigint[]) AS made(mpid, position)
        WHERE NOT EXISTS (SELECT 1 FROM loose WHERE loose.position = made.position) ON CONFLICT DO NOTHING""",
    "loosened": """INSERT INTO loose SELECT r.position, true
        FROM unnest($1::bigint[], $2::bigint[]) AS gone(mpid, position)
        JOIN remainder AS r ON r.mpid = gone.mpid AND r.position < gone.position ON CONFLICT DO NOTHING""",
    "gone_remainder": """DELETE FROM remainder AS r USING unnest($1::bigint[], $2::bigint[]) AS gone(mpid, position)
        WHERE r.mpid = gone.mpid AND r.position < gone.position""",
    "loosened_whole": """INSERT INTO loose SELECT a.position, false
        FROM unnest($1::bigint[], $2::bigint[]) AS gone(mpid, position)
        JOIN activity AS a ON a.mpid = gone.mpid AND a.position < gone.position ON CONFLICT DO NOTHING""",
    "discarded": "DELETE FROM loose WHERE position = ANY($1::bigint[])",
}
"""What becomes of data that grew old, when all that came is there, in this order.

Whichever came first, the loss of its events or the end of its profile, a batch ends up in the same table.
"""

_NEXT: Final = """
WITH head AS (
    UPDATE journal_head SET position = position + {count}
    WHERE id = 1 AND position = {expected} AND version = {version} AND epoch = {epoch} RETURNING position AS last
){inserts}
SELECT (SELECT last FROM head) AS last
"""

_COMMIT: Final = """
WITH locked AS (
    SELECT 1 AS locked FROM journal_head WHERE id = 1 AND {count} = 0 FOR UPDATE
), proof AS MATERIALIZED (
    SELECT position, version, epoch, CASE
        WHEN position < {read_at} THEN 'lost'
        WHEN epoch <> {epoch} THEN 'epoch'
        WHEN EXISTS (SELECT 1 FROM unnest({keys}) AS asked(key) CROSS JOIN LATERAL (
            SELECT 1 FROM holder WHERE holder.key = asked.key AND holder.position > {read_at} LIMIT 1) AS h)
            THEN 'holders'
        WHEN EXISTS (SELECT 1 FROM unnest({mpids}) AS asked(mpid) CROSS JOIN LATERAL (
            SELECT 1 FROM profile AS p
            WHERE p.mpid = asked.mpid AND (p.changed > {read_at} OR p.expired > {read_at}) LIMIT 1) AS p)
            THEN 'profiles'
        WHEN EXISTS (SELECT 1 FROM unnest({requests}) AS asked(key) CROSS JOIN LATERAL (
            SELECT 1 FROM {request} AS r WHERE r.key = asked.key AND r.position > {read_at} LIMIT 1) AS r)
            THEN 'requests'
        WHEN EXISTS (SELECT 1 FROM unnest({people}) AS asked(mpid) CROSS JOIN LATERAL (
            SELECT 1 FROM person AS p WHERE p.mpid = asked.mpid AND p.changed > {people_at} LIMIT 1) AS p)
            THEN 'people'
        WHEN EXISTS (SELECT 1 FROM unnest({keys}) AS asked(key) CROSS JOIN LATERAL (
            SELECT 1 FROM guarded_value AS g WHERE g.key = asked.key AND g.changed > {read_at} LIMIT 1) AS g)
            THEN 'guards'
        WHEN EXISTS (SELECT 1 FROM swept WHERE what = ANY({swept}) AND changed > {read_at}) THEN 'swept'
        WHEN EXISTS (SELECT 1 FROM event_name WHERE position > {read_at} AND workspace = ANY({workspaces}))
            THEN 'names'
        WHEN EXISTS (SELECT 1 FROM unnest({alias_mpids}) AS asked(mpid) CROSS JOIN LATERAL (
            SELECT 1 FROM alias AS a WHERE a.source = asked.mpid AND a.changed > {read_at}
            UNION ALL SELECT 1 FROM alias AS a WHERE a.destination = asked.mpid AND a.changed > {read_at}) AS a)
            THEN 'aliases'
        WHEN EXISTS (SELECT 1 FROM alias WHERE position = ANY({alias_positions}) AND changed > {read_at})
            THEN 'aliases'
        ELSE '' END AS changed
    FROM journal_head WHERE id = 1
), head AS (
    UPDATE journal_head AS head SET position = head.position + {count} FROM proof
    WHERE head.id = 1 AND {count} > 0 AND proof.changed = '' AND proof.version = {version}
    AND head.position = proof.position AND head.epoch = proof.epoch RETURNING head.position AS last
){inserts}
SELECT proof.position, proof.version, proof.changed, (SELECT last FROM head) AS last,
    (SELECT locked FROM locked) AS locked
FROM proof
"""

NEXT_PARAMETERS: Final = {"count": "bigint", "version": "bigint", "expected": "bigint", "epoch": "bigint"}
"""What a commit takes after its columns, where nothing was committed since what the group saw …"""

PARAMETERS: Final = {
    "count": "bigint",
    "version": "bigint",
    "read_at": "bigint",
    "epoch": "bigint",
    "keys": "bytea[]",
    "mpids": "bigint[]",
    "requests": "bytea[]",
    "people": "bigint[]",
    "people_at": "bigint",
    "swept": "bytea[]",
    "workspaces": "bytea[]",
    "alias_mpids": "bigint[]",
    "alias_positions": "bigint[]",
}
"""… and else."""

_ABSOLUTE: Final = "CASE WHEN r.{name} < 0 THEN head.last + 1 + r.{name} ELSE r.{name} END"


def inserts_of(rows: Rows) -> tuple[str, ...]:
    """Return what a group's rows are put in by; what comes together often, always together.

    So there are few different statements, each of which a connection prepares once.
    """
    names = rows.keys() | _DECISIONS | (_BATCHES if "batch" in rows else frozenset())
    return tuple(name for name in INSERTS if name in names)


@cache
def next_of(inserts: tuple[str, ...], part: int) -> str:
    """Return the statement that commits a group where nothing was committed since what the group saw.

    It takes the columns, insert after insert, and ``NEXT_PARAMETERS``. If the journal's head is where it is
    ``expected``, it moves it by ``count`` and puts the rows in; else it does nothing, and ``last`` is null. ``part``
    is the one of the tables in parts that is written.
    """
    return _filled(_NEXT, inserts, part, NEXT_PARAMETERS)


@cache
def commit_of(inserts: tuple[str, ...], part: int) -> str:
    """Return the statement that commits a group wherever the journal's head is, and answers with one row.

    It takes the columns, insert after insert, and ``PARAMETERS``. With a ``count`` of 0 it locks the journal's head
    and changes nothing. Else it proves what the group saw, moves the head by ``count`` and puts the rows in: all of
    it, or nothing, and then ``last`` is null and ``changed`` says why. It does nothing either where another group
    moved the head, or another epoch began, after this statement began to see: so it stands for itself, and the lock
    before it only makes that others are waited for.

    Positions below 0 count back from the group's end: -1 becomes that of its last entry.
    """
    return _filled(_COMMIT, inserts, part, PARAMETERS)


def _filled(statement: str, inserts: tuple[str, ...], part: int, parameters: dict[str, str]) -> str:
    parts = []
    count = 0
    for name in inserts:
        into = INSERTS[name]
        given = {column.name: f"${count + at}::{column.type}[]" for at, column in enumerate(into.given, 1)}
        values = ", ".join(_value(column) for column in into.columns)
        names = ", ".join(column.name for column in into.columns)
        table = f"{into.table}_{part}" if into.parts else into.table
        parts.append(
            f", to_{name} AS (INSERT INTO {table}({names}) SELECT {values}"
            f" FROM head, unnest({', '.join(given.values())}) AS r({', '.join(given)}) {into.otherwise})"
        )
        count += len(given)
    numbered = {name: f"${count + at}::{type_}" for at, (name, type_) in enumerate(parameters.items(), 1)}
    return statement.format(inserts="".join(parts), request=f"request_{part}", **numbered)


def _value(column: Column) -> str:
    match column.kind:
        case "!":
            return "head.last"
        case "@":
            return _ABSOLUTE.format(name=column.name)
    return f"r.{column.name}"
