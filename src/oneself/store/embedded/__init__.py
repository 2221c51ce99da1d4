"""The embedded engine: one folder, two SQLite files, one server.

``journal.db`` is the truth: every decision with its changes, synced to disk before it is answered.
``state.db`` is derived from it: it follows within seconds, and what it lacks after a crash is folded in from
the journal's tail. Until then what it lacks is held in memory, where every read looks first (docs/storage.md).
"""

from oneself.store.embedded.store import EmbeddedStore

__all__ = ["EmbeddedStore"]
