"""On which storage engine the data of a test is.

The tests of a module that says ``BOTH_ENGINES = True`` run once on each: what is kept in a folder then is kept
there, or in a schema of PostgreSQL that stands for it. Fixtures of a module that keep data ask for the fixture
``storage``, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from oneself.store import EmbeddedStore, Place, Store
from postgres_server import fresh_schema
from store_factories import Backend, InMemory, Postgres

__all__ = [
    "ENGINES",
    "Engine",
    "backend_at",
    "config_on",
    "flushed",
    "on_engine",
    "place_of",
    "place_options",
    "store_at",
]

Engine = Literal["folder", "database"]

ENGINES: tuple[Engine, ...] = ("folder", "database")

_engine: Engine = "folder"
_urls: dict[Path, str] = {}


@contextmanager
def on_engine(engine: Engine) -> Iterator[None]:
    """Have data kept on an engine while the block runs."""
    global _engine
    before, _engine = _engine, engine
    try:
        yield
    finally:
        _engine = before


def place_of(folder: Path) -> Place:
    """Return where the data of a folder is."""
    if _engine == "folder":
        return Place(folder)
    if folder not in _urls:
        _urls[folder] = fresh_schema()
    return Place(folder, _urls[folder])


def store_at(folder: Path, *, read_only: bool = False) -> Store:
    """Return a store, not yet open, on the data of a folder."""
    return place_of(folder).store(read_only=read_only)


def backend_at(folder: Path) -> Backend:
    """Return a backend, not yet started, in a folder or what stands for it."""
    return InMemory(folder) if _engine == "folder" else Postgres(folder)


async def flushed(store: Store) -> None:
    """Bring the tables of a folder up to its journal; those of a database are always."""
    if isinstance(store, EmbeddedStore):
        await store.flush()


def config_on(config: str, folder: Path) -> str:
    """Return a configuration whose data is that of a folder; on a folder the command is told which."""
    url = place_of(folder).database
    return config if url is None else f'database = "{url}"\n{config}'


def place_options(folder: Path) -> list[str]:
    """Return the options of a command that name the data of a folder, beside a configuration by ``config_on``."""
    return ["--data", str(folder)] if place_of(folder).database is None else []
