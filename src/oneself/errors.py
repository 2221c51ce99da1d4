"""Every error that Oneself raises on purpose, grouped by what the caller should do.

OneselfError
├── ConfigError          fix the configuration; each problem names its key
├── Overloaded           try again after ``retry_after`` seconds; nothing was done
├── StoreUnavailable     try again later; nothing was done (disk full, database away)
│   └── Conflict         another server changed what was read; read and decide again
└── StoreError           somebody must act before the store can be used
    ├── StoreInUse       another server has this data folder
    ├── StoreDamaged     a file is damaged; the message says which, and how to go on
    └── StoreVersion     the data was written by a newer version
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "Conflict",
    "OneselfError",
    "Overloaded",
    "StoreDamaged",
    "StoreError",
    "StoreInUse",
    "StoreUnavailable",
    "StoreVersion",
]


class OneselfError(Exception):
    """The base of every error that Oneself raises on purpose; the message says what to do."""


class ConfigError(OneselfError):
    """A configuration that cannot work; ``problems`` are ``(key, what is wrong and what is allowed)``."""

    def __init__(self, source: str, problems: list[tuple[str, str]]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(f"{source}: {key}: {message}" for key, message in problems))


class Overloaded(OneselfError):
    """More work is waiting than can be answered soon; nothing was done. ``retry_after`` is whole seconds."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"Too many requests are waiting; try again in {retry_after} s.")


class StoreUnavailable(OneselfError):
    """The store cannot take or give data now; nothing was done. ``retry_after`` is whole seconds."""

    def __init__(self, message: str, retry_after: int = 5) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class Conflict(StoreUnavailable):
    """What a group saw was changed by another server before it was durable; nothing was done.

    ``what`` names what changed. Whoever decided the group reads and decides again.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"Others changed the same data again and again ({what}).", 1)


class StoreError(OneselfError):
    """The store cannot be used before somebody acts; the message says how."""


class StoreInUse(StoreError):
    """Another process serves this data folder."""


class StoreDamaged(StoreError):
    """A file of the store is damaged or does not belong to the others."""


class StoreVersion(StoreError):
    """The data was written by a newer version of Oneself."""
