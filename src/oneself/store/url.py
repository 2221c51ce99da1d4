"""What of a database's URL may be told."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

__all__ = ["database_key", "database_name"]

_SECRETS: Final = ("password", "sslpassword")


def database_name(url: str) -> str:
    """Return what may be told of a database's URL: ``HOST:PORT/NAME``, without credentials."""
    place, _, query = url.partition("://")[2].partition("?")
    if "@" in query and "@" not in place and ":" in place.partition("/")[0]:
        return "of an unreadable URL"  # there is a "?" in what may be a password
    return place.rpartition("@")[2] or "of the environment"


def database_key(url: str) -> str:
    """Return what tells a database from others, schemas and users included, without a password."""
    place, _, query = url.partition("://")[2].partition("?")
    user = place.rpartition("@")[0].partition(":")[0]
    settings = [f"{name}={value}" for name, value in sorted(parse_qsl(query)) if name not in _SECRETS]
    return " ".join([user, database_name(url), *settings])
