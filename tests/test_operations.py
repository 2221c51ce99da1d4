"""The commands of the page on operations do what it says, on real data and a real PostgreSQL (docs/operations.md)."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from copying import Folder, contents, full
from oneself.store import EmbeddedStore, Place
from oneself.store.postgres import PostgresStore
from oneself.store.transfer import copy
from postgres_server import asked, binaries, server
from store_factories import Postgres

PAGE = (Path(__file__).parent.parent / "docs" / "operations.md").read_text()
ADDRESS = "postgresql://oneself@db.example/"


def commands(heading: str) -> list[str]:
    """Return the commands of a part of the page, in their order."""
    _, _, part = PAGE.partition(f"### {heading}\n")
    assert part, heading
    part = re.split(r"^##", part, maxsplit=1, flags=re.M)[0]
    return [line[2:] for block in re.findall(r"```\n(.*?)```", part, re.S) for line in block.splitlines()]


class Machine:
    """A folder in the place of the page's file system, and databases in the place of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: list[str] = []
        self._marked = uuid4().hex[:12]
        for name in ("backup", "var/lib", "bin"):
            (root / name).mkdir(parents=True)
        (root / "bin" / "oneself").write_text(f'#!/bin/sh\nexec {sys.executable} -m oneself "$@"\n')
        (root / "bin" / "oneself").chmod(0o755)

    def url(self, name: str) -> str:
        """Return the address of a database that stands for one of the page's."""
        return urlunsplit(urlsplit(server())._replace(path=f"/test_{name}_{self._marked}"))

    def create(self, name: str) -> None:
        """Make a database."""
        self.made.append(self.url(name))
        asked(f'CREATE DATABASE "{self._name(name)}"')

    def _name(self, name: str) -> str:
        return urlsplit(self.url(name)).path[1:]

    def run(self, command: str) -> str:
        """Run a command of the page here; return what it printed."""
        words = []
        for word in shlex.split(command):
            word = re.sub(r"(?<![\w/])/(var|backup)\b", rf"{self.root}/\1", word)
            word = word.replace(f"{ADDRESS}postgres", server())
            word = re.sub(re.escape(ADDRESS) + r"(\w+)", lambda found: self.url(found[1]), word)
            words.append(self._name(word) if command.startswith("createdb") and word == "restored" else word)
        if words[0] == "createdb":
            self.made.append(self.url("restored"))
        path = f"{self.root / 'bin'}:{binaries()}:{os.environ['PATH']}"
        done = subprocess.run(
            words, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def drop(self) -> None:
        """Drop the databases."""
        for url in self.made:
            asked(f'DROP DATABASE IF EXISTS "{urlsplit(url).path[1:]}" WITH (FORCE)')


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "machine")
    yield made
    made.drop()


class AtDatabase(Postgres):
    """A database of the machine."""

    def __init__(self, url: str) -> None:
        self.url = url

    def make(self) -> PostgresStore:
        return PostgresStore(self.url)


def test_folders_are_backed_up_and_restored_as_the_page_says(machine: Machine) -> None:
    data = machine.root / "var/lib/oneself"
    stopped, running, config, *restore, journal = commands("A data folder")
    origin = machine.root / "origin"
    origin.mkdir()

    async def serve() -> None:
        backend = Folder(origin)
        await backend.start()
        await full(backend)
        await backend.stop()
        (origin / "data").rename(data)
        (data / "oneself.toml").write_text("# the keys\n")
        machine.run(stopped)
        store = EmbeddedStore(data)
        await store.open()
        await asyncio.to_thread(machine.run, running)
        await asyncio.to_thread(machine.run, config)
        await asyncio.to_thread(machine.run, journal)
        await store.close()

    asyncio.run(serve())
    for command in restore:
        told = machine.run(command)
    assert "Nothing is different." in told
    assert (data / "oneself.toml").read_text() == "# the keys\n"
    expected = _contents(machine.root / "var/lib/oneself.old")
    assert _contents(data) == expected
    assert _contents(machine.root / "backup/stopped") == expected
    asyncio.run(_rebuild(machine.root / "backup/journal.db", machine.root / "rebuilt"))
    rebuilt = _contents(machine.root / "rebuilt")
    for table in expected.keys() - {"request"}:  # of ids that are forgotten either may have rows
        assert rebuilt[table] == expected[table], table


async def _rebuild(journal: Path, folder: Path) -> None:
    folder.mkdir()
    shutil.copy(journal, folder / "journal.db")
    store = EmbeddedStore(folder)
    await store.open()
    await store.close()


def _contents(folder: Path) -> dict[str, list[object]]:
    """Return every row of a data folder, wherever it is."""
    inside = folder.parent / f"looked at {uuid4().hex}"
    inside.mkdir()
    shutil.copytree(folder, inside / "data")
    return contents(Folder(inside))


def test_databases_are_backed_up_and_restored_as_the_page_says(machine: Machine, tmp_path: Path) -> None:
    dump, create, restore, prove, to_folder, back = commands("PostgreSQL")
    for name in ("oneself", "again"):
        machine.create(name)

    async def serve() -> None:
        backend = AtDatabase(machine.url("oneself"))
        await backend.start()
        await full(backend)
        await asyncio.to_thread(machine.run, dump)
        await asyncio.to_thread(machine.run, to_folder)
        await backend.stop()

    asyncio.run(serve())
    for command in (create, restore):
        machine.run(command)
    assert "Nothing is different." in machine.run(prove)
    machine.run(back)
    expected = contents(AtDatabase(machine.url("oneself")))
    assert contents(AtDatabase(machine.url("restored"))) == expected
    assert contents(AtDatabase(machine.url("again"))) == expected
    copied = asyncio.run(copy(Place(Path(), machine.url("restored")), Place(tmp_path / "compared")))
    assert copied.is_equal
