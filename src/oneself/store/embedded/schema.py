"""The schema of ``state.db``, version by version (docs/storage.md)."""

from __future__ import annotations

__all__ = ["MIGRATIONS"]

MIGRATIONS = (
    """
    CREATE TABLE progress(                 -- one row: the tables have every entry through this position
        id INTEGER PRIMARY KEY CHECK (id = 1),
        position INTEGER NOT NULL
    ) STRICT;
    INSERT INTO progress VALUES(1, 0);
    CREATE TABLE profile(
        mpid    INTEGER PRIMARY KEY,
        space   TEXT NOT NULL,             -- SCOPE/ENVIRONMENT
        created INTEGER NOT NULL,          -- position of the decision that made it
        held    TEXT NOT NULL,             -- JSON: {type: {value: position linked}}, the first few a type
        more    TEXT NOT NULL              -- JSON: {type: how many further values}
    ) STRICT;
    CREATE TABLE further_identity(         -- the values of a profile that its row has no room for
        mpid     INTEGER NOT NULL,
        type     TEXT NOT NULL,
        value    TEXT NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (mpid, type, value)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE holder(                   -- who holds an identity, by the digest of space, type and value
        key      BLOB NOT NULL,
        position INTEGER NOT NULL,
        mpid     INTEGER NOT NULL,
        PRIMARY KEY (key, position, mpid)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE identity_history(         -- identities that left a profile
        mpid     INTEGER NOT NULL,
        ended    INTEGER NOT NULL,
        type     TEXT NOT NULL,
        value    TEXT NOT NULL,
        linked   INTEGER NOT NULL,
        why      TEXT NOT NULL,
        moved_to INTEGER NOT NULL,
        PRIMARY KEY (mpid, ended, type, value)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX identity_history_value ON identity_history(type, value, ended);
    CREATE TABLE request(                  -- which decision answered a request, by the digest of input and id
        key      BLOB PRIMARY KEY,
        position INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE profile_decision(         -- what concerned a profile after it was made
        mpid     INTEGER NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (mpid, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE guarded_value(
        key      BLOB PRIMARY KEY,
        space    TEXT NOT NULL,
        type     TEXT NOT NULL,
        value    TEXT NOT NULL,
        why      TEXT NOT NULL,
        position INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE guard_decision(           -- which decisions guarded or released a value
        key      BLOB NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (key, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE alias(
        position       INTEGER NOT NULL,
        space          TEXT NOT NULL,
        source         INTEGER NOT NULL,
        destination    INTEGER NOT NULL,
        start_ms       INTEGER NOT NULL,
        end_ms         INTEGER NOT NULL,
        due_ms         INTEGER NOT NULL,
        scope          TEXT NOT NULL,
        device         TEXT NOT NULL,
        PRIMARY KEY (position, source, destination)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE input(name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;   -- every input that was ever heard
    """,
    """
    CREATE TABLE person(                   -- what is known of a profile over all workspaces
        mpid INTEGER PRIMARY KEY,
        body TEXT NOT NULL                 -- JSON: oneself.profiles.Person
    ) STRICT;
    CREATE TABLE workspace_profile(        -- … and in one
        mpid      INTEGER NOT NULL,
        workspace TEXT NOT NULL,
        body      TEXT NOT NULL,           -- JSON: oneself.profiles.WorkspaceProfile
        PRIMARY KEY (mpid, workspace)      -- an index beside: keys with such bodies would make a tall, thin tree
    ) STRICT;
    CREATE TABLE device(
        mpid      INTEGER NOT NULL,
        workspace TEXT NOT NULL,
        name      TEXT NOT NULL,
        body      TEXT NOT NULL,           -- JSON: oneself.profiles.Device
        PRIMARY KEY (mpid, workspace, name)
    ) STRICT;
    CREATE TABLE activity(                 -- the batches of a profile, by the time of their last event
        mpid      INTEGER NOT NULL,
        workspace TEXT NOT NULL,
        at_ms     INTEGER NOT NULL,
        position  INTEGER NOT NULL,
        first_ms  INTEGER NOT NULL,
        input     TEXT NOT NULL,
        device    TEXT NOT NULL,
        events    INTEGER NOT NULL,
        PRIMARY KEY (mpid, workspace, at_ms, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE quarantined(              -- batches that were set aside, and events of others
        workspace TEXT NOT NULL,
        position  INTEGER NOT NULL,
        input     TEXT NOT NULL,
        at_ms     INTEGER NOT NULL,
        events    INTEGER NOT NULL,
        reason    TEXT NOT NULL,
        PRIMARY KEY (workspace, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE event_name(
        workspace TEXT NOT NULL,
        name      TEXT NOT NULL,
        PRIMARY KEY (workspace, name)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE alias ADD COLUMN outcome TEXT NOT NULL DEFAULT 'waiting';
    ALTER TABLE alias ADD COLUMN why TEXT NOT NULL DEFAULT '';
    ALTER TABLE alias ADD COLUMN processed INTEGER NOT NULL DEFAULT 0;     -- position of the latest outcome
    CREATE INDEX alias_due ON alias(due_ms) WHERE outcome = 'waiting';
    CREATE INDEX alias_source ON alias(source);
    CREATE INDEX alias_destination ON alias(destination);
    CREATE INDEX alias_from ON alias(source, start_ms) WHERE outcome = 'applied';
    CREATE INDEX alias_to ON alias(destination, end_ms) WHERE outcome = 'applied';
    CREATE TABLE remainder(                -- batches without events that a profile is made of
        mpid     INTEGER NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (mpid, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE loose(                    -- batches that no profile is made of any more
        position INTEGER PRIMARY KEY,
        trimmed  INTEGER NOT NULL          -- 1: without events, so that nothing of it is needed
    ) STRICT;
    CREATE INDEX loose_trimmed ON loose(position) WHERE trimmed;
    CREATE TABLE swept(                    -- through which position old data is gone
        what    TEXT PRIMARY KEY,          -- requests, or events/WORKSPACE
        through INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    # What is known of a profile over all workspaces comes to stand beside what it holds (profiles.Person), and
    # the values of attributes beside what is known of their writes (oneself.profiles.apart; empty in old rows).
    """
    ALTER TABLE profile ADD COLUMN person TEXT;
    UPDATE profile SET person = known.body FROM person AS known WHERE known.mpid = profile.mpid;
    DROP TABLE person;
    ALTER TABLE workspace_profile ADD COLUMN shown TEXT NOT NULL DEFAULT '';
    """,
)
