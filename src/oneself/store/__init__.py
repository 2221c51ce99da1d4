"""Storage: one contract, an engine for one machine (SQLite) and room for one for many (docs/storage.md)."""

from oneself.store.contract import Effects, History, PolicyVersion, Reading, Store, StoredProfile, Wanted
from oneself.store.embedded import EmbeddedStore

__all__ = [
    "Effects",
    "EmbeddedStore",
    "History",
    "PolicyVersion",
    "Reading",
    "Store",
    "StoredProfile",
    "Wanted",
]
