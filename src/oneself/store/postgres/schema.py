"""The schema in PostgreSQL, version by version (docs/storage.md).

Text is kept as UTF-8 in BYTEA: exactly as it came, U+0000 too, and in the order of its code points whatever the
database's collation. JSON bodies are kept so, too. Keys begin with what is spread evenly: a digest or an MPID.
``changed`` is the position of the last entry of the group that wrote a row last; by it a group proves that what it
read still holds. Positions in a row's body that are below 0 count back from it: -1 is that entry.
"""

from __future__ import annotations

from typing import Final

__all__ = ["HEAD", "MIGRATIONS", "REQUEST_PARTS", "VERSION"]

REQUEST_PARTS: Final = 3
"""In so many tables request ids are kept: one is written, one grows old, one is being emptied."""

HEAD: Final = (
    # One row, of the version of the schema and the position of the last entry. Whoever commits locks it, and so
    # stands in the journal's order. A commit that saw another epoch than there is does nothing any more.
    """CREATE TABLE IF NOT EXISTS journal_head(
        id       SMALLINT PRIMARY KEY CHECK (id = 1),
        version  INT NOT NULL,
        position BIGINT NOT NULL,
        epoch    BIGINT NOT NULL DEFAULT 0
    ) WITH (fillfactor = 10)""",
    "INSERT INTO journal_head(id, version, position) VALUES(1, 0, 0) ON CONFLICT (id) DO NOTHING",
)

# Rows that are changed over and over leave room in their pages, so that indexes need no change.
_ROOM: Final = "WITH (fillfactor = 80)"

_FIRST: Final = (
    # the journal: entry after entry, each with the CRC-32 of its body
    """CREATE TABLE entry(
        position  BIGINT PRIMARY KEY,
        at_ms     BIGINT NOT NULL,
        commit_id BYTEA,                   -- of the group, on its first entry
        checksum  BIGINT NOT NULL,
        body      BYTEA NOT NULL           -- JSON: oneself.journal.Entry
    )""",
    # what the batches brought, as long as it is kept
    """CREATE TABLE batch(
        position  BIGINT PRIMARY KEY,
        mpid      BIGINT,                  -- whose timeline it stands on
        workspace BYTEA NOT NULL,
        checksum  BIGINT NOT NULL,
        body      BYTEA NOT NULL           -- JSON: oneself.journal.BatchRecord
    )""",
    """CREATE TABLE policy(
        scope    BYTEA NOT NULL,
        version  INT NOT NULL,
        at_ms    BIGINT NOT NULL,
        position BIGINT NOT NULL,          -- the first position it may decide
        settings BYTEA NOT NULL,           -- JSON: oneself.identity.PolicySettings
        origin   BYTEA NOT NULL,           -- configuration, promotion or restoration
        author   BYTEA NOT NULL,           -- who it came from
        note     BYTEA NOT NULL,           -- why
        restores INT NOT NULL,             -- the version whose settings it brings back; 0 for none
        PRIMARY KEY (scope, version)
    )""",
    "CREATE TABLE setting(name BYTEA PRIMARY KEY, value BYTEA NOT NULL)",
    # which server does what only one is to do, and until when by the database's clock
    "CREATE TABLE lease(name BYTEA PRIMARY KEY, holder BYTEA NOT NULL, until_ms BIGINT NOT NULL)",
    # every input that was ever heard
    "CREATE TABLE input(name BYTEA PRIMARY KEY)",
    f"""CREATE TABLE profile(
        mpid    BIGINT PRIMARY KEY,
        space   BYTEA NOT NULL,            -- SCOPE/ENVIRONMENT
        created BIGINT NOT NULL,           -- position of the decision that made it
        changed BIGINT NOT NULL,
        expired BIGINT NOT NULL DEFAULT 0, -- like changed, of what workspaces knew and forgot
        body    BYTEA NOT NULL             -- JSON: [{{type: {{value: position linked}}}}, {{type: how many further}}]
    ) {_ROOM}""",
    # the values of a profile that its row has no room for
    """CREATE TABLE further_identity(
        mpid     BIGINT NOT NULL,
        type     BYTEA NOT NULL,
        value    BYTEA NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (mpid, type, value)
    )""",
    # who holds an identity, by the digest of space, type and value
    """CREATE TABLE holder(
        key      BYTEA NOT NULL,
        position BIGINT NOT NULL,
        mpid     BIGINT NOT NULL,
        PRIMARY KEY (key, position, mpid)
    )""",
    # identities that left a profile
    """CREATE TABLE identity_history(
        mpid     BIGINT NOT NULL,
        ended    BIGINT NOT NULL,
        type     BYTEA NOT NULL,
        value    BYTEA NOT NULL,
        linked   BIGINT NOT NULL,
        why      BYTEA NOT NULL,
        moved_to BIGINT NOT NULL,
        PRIMARY KEY (mpid, ended, type, value)
    )""",
    "CREATE INDEX identity_history_value ON identity_history(value, type, ended)",
    # which decision answered a request, batch or event, by the digest of its input and id: in one table after the
    # other, so that the oldest is emptied at once when all of its ids are forgotten
    *(
        f"CREATE TABLE request_{part}(key BYTEA PRIMARY KEY, position BIGINT NOT NULL)"
        for part in range(REQUEST_PARTS)
    ),
    "CREATE VIEW request AS "
    + " UNION ALL ".join(f"SELECT key, position FROM request_{part}" for part in range(REQUEST_PARTS)),
    # which of them is written: the one of the highest number, modulo how many there are; and from which position on
    "CREATE TABLE request_turn(number INT PRIMARY KEY, first BIGINT NOT NULL)",
    # what concerned a profile after it was made
    """CREATE TABLE profile_decision(
        mpid     BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (mpid, position)
    )""",
    # a value that was released keeps its row: others may have read it as guarded
    """CREATE TABLE guarded_value(
        key      BYTEA PRIMARY KEY,
        space    BYTEA NOT NULL,
        type     BYTEA NOT NULL,
        value    BYTEA NOT NULL,
        why      BYTEA NOT NULL,
        position BIGINT NOT NULL,
        released BOOLEAN NOT NULL,
        changed  BIGINT NOT NULL
    )""",
    "CREATE INDEX guarded_value_space ON guarded_value(space, position)",
    # which decisions guarded or released a value
    "CREATE TABLE guard_decision(key BYTEA NOT NULL, position BIGINT NOT NULL, PRIMARY KEY (key, position))",
    """CREATE TABLE alias(
        position    BIGINT PRIMARY KEY,
        space       BYTEA NOT NULL,
        source      BIGINT NOT NULL,
        destination BIGINT NOT NULL,
        start_ms    BIGINT NOT NULL,
        end_ms      BIGINT NOT NULL,
        due_ms      BIGINT NOT NULL,
        scope       BYTEA NOT NULL,
        device      BYTEA NOT NULL,
        outcome     BYTEA NOT NULL,
        why         BYTEA NOT NULL,
        processed   BIGINT NOT NULL,       -- position of the latest outcome
        changed     BIGINT NOT NULL
    )""",
    "CREATE INDEX alias_source ON alias(source, position)",
    "CREATE INDEX alias_destination ON alias(destination, position)",
    "CREATE INDEX alias_due ON alias(due_ms, position) WHERE outcome = 'waiting'",
    "CREATE INDEX alias_from ON alias(source, start_ms, position) WHERE outcome = 'applied'",
    "CREATE INDEX alias_to ON alias(destination, end_ms, position) WHERE outcome = 'applied'",
    # what is known of a profile over all workspaces
    f"""CREATE TABLE person(
        mpid    BIGINT PRIMARY KEY,
        changed BIGINT NOT NULL,
        body    BYTEA NOT NULL             -- JSON: oneself.profiles.Person
    ) {_ROOM}""",
    # … and in one
    f"""CREATE TABLE workspace_profile(
        mpid      BIGINT NOT NULL,
        workspace BYTEA NOT NULL,
        changed   BIGINT NOT NULL,
        stored_ms BIGINT NOT NULL,
        body      BYTEA NOT NULL,          -- JSON: oneself.profiles.WorkspaceProfile
        PRIMARY KEY (mpid, workspace)
    ) {_ROOM}""",
    f"""CREATE TABLE device(
        mpid      BIGINT NOT NULL,
        workspace BYTEA NOT NULL,
        name      BYTEA NOT NULL,
        changed   BIGINT NOT NULL,
        body      BYTEA NOT NULL,          -- JSON: oneself.profiles.Device
        PRIMARY KEY (mpid, workspace, name)
    ) {_ROOM}""",
    # the batches of a profile, by the time of their last event
    """CREATE TABLE activity(
        mpid      BIGINT NOT NULL,
        workspace BYTEA NOT NULL,
        at_ms     BIGINT NOT NULL,
        position  BIGINT NOT NULL,
        first_ms  BIGINT NOT NULL,
        input     BYTEA NOT NULL,
        device    BYTEA NOT NULL,
        events    INT NOT NULL,
        PRIMARY KEY (mpid, workspace, at_ms, position)
    )""",
    # batches that were set aside, and events of others
    """CREATE TABLE quarantined(
        workspace BYTEA NOT NULL,
        position  BIGINT NOT NULL,
        input     BYTEA NOT NULL,
        at_ms     BIGINT NOT NULL,
        events    INT NOT NULL,
        reason    BYTEA NOT NULL,
        PRIMARY KEY (workspace, position)
    )""",
    """CREATE TABLE event_name(
        workspace BYTEA NOT NULL,
        name      BYTEA NOT NULL,
        position  BIGINT NOT NULL,         -- of the group that it came with
        PRIMARY KEY (workspace, name)
    )""",
    "CREATE INDEX event_name_position ON event_name(position)",
    # batches without events that a profile is made of
    """CREATE TABLE remainder(
        mpid     BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (mpid, position)
    )""",
    # batches that no profile is made of any more
    """CREATE TABLE loose(
        position BIGINT PRIMARY KEY,
        trimmed  BOOLEAN NOT NULL          -- without events, so that nothing of it is needed
    )""",
    "CREATE INDEX loose_trimmed ON loose(position) WHERE trimmed",
    # through which position old data is gone
    """CREATE TABLE swept(
        what    BYTEA PRIMARY KEY,         -- requests, or events/WORKSPACE
        through BIGINT NOT NULL,
        changed BIGINT NOT NULL
    )""",
)

# Entries that were decided together share a row, of the first one's position. A row of one entry is as it was; the
# bodies of more are joined by line feeds, and compressed as zlib does it. The checksum is of what is kept.
_PACKED: Final = ("ALTER TABLE entry ADD COLUMN count INT NOT NULL DEFAULT 1",)

MIGRATIONS: Final = (_FIRST, _PACKED)
"""``MIGRATIONS[n]`` are the statements that lead from version n to n + 1."""

VERSION: Final = len(MIGRATIONS)
