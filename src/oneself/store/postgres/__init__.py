"""The PostgreSQL engine: one database, any number of servers on any number of machines.

Every group is one transaction. What it read is proven unchanged under the lock of one row, whose order is the
journal's; where that fails, the group is decided anew (docs/storage.md).
"""

from oneself.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
