"""Which host a database is on: the one of several that takes writes, wherever that is now (docs/storage.md)."""

from __future__ import annotations

import os
import re
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

__all__ = ["CONNECT_SECONDS", "Hosts"]

CONNECT_SECONDS: Final = 5.0
"""So long a connection may take to be made; several hosts share it."""

_HOST: Final = re.compile(r"(\[[^\]]+\]|[^:\[\]]*)(?::(\d+))?")
_ATTRIBUTES: Final = "target_session_attrs"


class Hosts:
    """Connects to a database that a URL names, as libpq has it: ``postgresql://USER@HOST:PORT,HOST:PORT/NAME``.

    Each host has its own time, so that one that is gone without a word does not keep the next from being asked; the
    one that served last is asked first. One that takes no writes (a standby) is not taken, unless the URL says by
    ``target_session_attrs`` what is wanted, or without ``writes`` names it alone.
    """

    def __init__(self, url: str, *, writes: bool = True) -> None:
        self._url = url
        self._hosts: list[tuple[str, int | None]] = _hosts(url)
        self._options: dict[str, Any] = {"max_cacheable_statement_size": 0}
        if (writes or self._hosts) and not _says_attributes(url):
            self._options[_ATTRIBUTES] = "read-write"

    async def connect(self, *_: object, **options: Any) -> Any:
        """Return a new connection; raises what the driver raises, of the host that got furthest."""
        options = self._options | options
        if len(self._hosts) < 2:
            return await asyncpg.connect(self._url, timeout=CONNECT_SECONDS, **options)
        failures: list[Exception] = []
        for place in list(self._hosts):
            host, port = place
            try:
                connection = await asyncpg.connect(
                    self._url, host=host, port=port, timeout=CONNECT_SECONDS / len(self._hosts), **options
                )
            except (OSError, asyncpg.PostgresError, asyncpg.InternalClientError) as error:
                failures.append(error)
            else:
                self._hosts.sort(key=lambda other: other != place)
                return connection
        raise max(failures, key=_got)


def _hosts(url: str) -> list[tuple[str, int | None]]:
    """Return the hosts and ports of a URL that names several in their usual place; of others, none."""
    _, _, listed = urlsplit(url).netloc.rpartition("@")
    if "," not in listed:
        return []
    found = []
    for one in listed.split(","):
        match = _HOST.fullmatch(one)
        if match is None:
            raise ValueError("a host of the URL cannot be read")
        found.append((unquote(match[1].strip("[]")) or "localhost", int(match[2]) if match[2] else None))
    return found


def _says_attributes(url: str) -> bool:
    return _ATTRIBUTES in parse_qs(urlsplit(url).query) or "PGTARGETSESSIONATTRS" in os.environ


def _got(error: Exception) -> int:
    """Tell how far a host got: one that answers tells more than one that cannot be reached."""
    if isinstance(error, asyncpg.PostgresError):
        return 2
    return 1 if isinstance(error, asyncpg.InternalClientError) else 0
