"""What of a database's URL may be told."""

from __future__ import annotations

__all__ = ["database_name"]


def database_name(url: str) -> str:
    """Return what may be told of a database's URL: ``HOST:PORT/NAME``, without credentials."""
    place, _, query = url.partition("://")[2].partition("?")
    if "@" in query and "@" not in place and ":" in place.partition("/")[0]:
        return "of an unreadable URL"  # there is a "?" in what may be a password
    return place.rpartition("@")[2] or "of the environment"
