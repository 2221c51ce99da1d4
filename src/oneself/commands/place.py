"""Where the data is that a command means: a folder, or a database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from oneself.config import Config
from oneself.store.place import Place

__all__ = ["DEFAULT_DATA", "place_of"]

DEFAULT_DATA: Final = Path("oneself-data")


def place_of(data: Path | None, database: str | None = None, config: Config | None = None) -> Place:
    """Return the place that options name, else the configuration, else the environment, else the usual folder.

    Raises ``click.UsageError`` where they name two.
    """
    if data is None and database is None and config is not None:
        data, database = config.data, config.database
    if data is None and database is None:
        named = os.environ.get("ONESELF_DATA")
        data, database = Path(named) if named else None, os.environ.get("ONESELF_DATABASE")
    if data is not None and database is not None:
        raise click.UsageError("The data lives in one place: give a folder (--data) or a database, not both.")
    if database is not None and not database.startswith(("postgresql://", "postgres://")):
        raise click.UsageError('--database takes a PostgreSQL address such as "postgresql://user@host/oneself".')
    return Place(data or DEFAULT_DATA, database)
