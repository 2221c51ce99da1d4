"""Storage: one contract, an engine for one machine (SQLite) and one for many (PostgreSQL) (docs/storage.md)."""

from oneself.store.contract import HeldProfile, Idle, KnownUser, PolicyVersion, Store, StoredProfile
from oneself.store.embedded import EmbeddedStore
from oneself.store.merged import Moment, is_expired, merged_user, timeline
from oneself.store.place import Place
from oneself.store.reading import (
    NAMED_EVENTS,
    REQUESTS,
    Activity,
    Effects,
    History,
    QuarantinedBatch,
    Reading,
    Touched,
    Trimmed,
    Trimming,
    Wanted,
    event_keys,
    events_of,
    rows_touched,
)

__all__ = [
    "NAMED_EVENTS",
    "REQUESTS",
    "Activity",
    "Effects",
    "EmbeddedStore",
    "HeldProfile",
    "History",
    "Idle",
    "KnownUser",
    "Moment",
    "Place",
    "PolicyVersion",
    "QuarantinedBatch",
    "Reading",
    "Store",
    "StoredProfile",
    "Touched",
    "Trimmed",
    "Trimming",
    "Wanted",
    "event_keys",
    "events_of",
    "is_expired",
    "merged_user",
    "rows_touched",
    "timeline",
]
