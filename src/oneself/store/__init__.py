"""Storage: one contract, an engine for one machine (SQLite) and one for many (PostgreSQL) (docs/storage.md)."""

from oneself.store.contract import HeldProfile, Idle, KnownUser, PolicyVersion, ShownUser, Store, StoredProfile
from oneself.store.crowds import PARTS, Crowds, IdentityPast
from oneself.store.embedded import EmbeddedStore
from oneself.store.merged import Moment, is_expired, merged_user, timeline
from oneself.store.place import Place
from oneself.store.plan import Plan
from oneself.store.policies import CONFIGURED, PolicyOrigin, next_version
from oneself.store.reading import (
    NAMED_EVENTS,
    REQUESTS,
    UNDONE,
    Activity,
    Effects,
    History,
    QuarantinedBatch,
    Reading,
    Rewritten,
    Touched,
    Trimmed,
    Trimming,
    Wanted,
    event_keys,
    events_of,
    rows_touched,
)
from oneself.store.revising import is_removed, owner_of

__all__ = [
    "CONFIGURED",
    "NAMED_EVENTS",
    "PARTS",
    "REQUESTS",
    "UNDONE",
    "Activity",
    "Crowds",
    "Effects",
    "EmbeddedStore",
    "HeldProfile",
    "History",
    "IdentityPast",
    "Idle",
    "KnownUser",
    "Moment",
    "Place",
    "Plan",
    "PolicyOrigin",
    "PolicyVersion",
    "QuarantinedBatch",
    "Reading",
    "Rewritten",
    "ShownUser",
    "Store",
    "StoredProfile",
    "Touched",
    "Trimmed",
    "Trimming",
    "Wanted",
    "event_keys",
    "events_of",
    "is_expired",
    "is_removed",
    "merged_user",
    "next_version",
    "owner_of",
    "rows_touched",
    "timeline",
]
