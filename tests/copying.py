"""A store with a row in every table, and the contents of any store told plainly, to test copies with."""

from __future__ import annotations

import zlib
from contextlib import closing
from pathlib import Path
from typing import Any
from zlib import crc32

import apsw

from batches import bad, event
from oneself.config import Config
from oneself.engine import Call
from oneself.identity import IdentityChange, PolicySettings, Request, build
from oneself.jobs import ExpiryJob, RetentionJob
from oneself.store import Place
from postgres_server import asked, own_schema
from profile_world import change, source
from rebuilding import tables_now
from store_factories import SPACE, Backend, InMemory, Postgres
from upkeep_world import FOREVER, LAB, LAB_SERVER, SHOP, World

POLICY = PolicySettings("default", alias_delay="1d", max_known_profiles_per_value=3, max_values_per_profile=40)
CONFIG = Config(workspaces=(SHOP, LAB, FOREVER), scopes={"acme": POLICY}, policies={"acme": build(POLICY)})
WEB = source("web")
ODD = "o\0dd 'ｖalue' \U0001f600\\"


class Folder(InMemory):
    """The embedded engine."""


class Database(Postgres):
    """The PostgreSQL engine, in a schema that no other test uses after this one."""

    def __init__(self, folder: Path) -> None:
        Backend.__init__(self, folder)
        self.url = own_schema()


PLACES: tuple[type[Backend], ...] = (Folder, Database)


def place_of(backend: Backend) -> Place:
    """Return where a backend's data is."""
    if isinstance(backend, Postgres):
        return Place(Path(), backend.url)
    return Place(backend.folder / "data")


async def full(backend: Backend) -> World:
    """Make a history on an open store that leaves rows in every logical table; return its world."""
    world = World(backend, CONFIG)
    await world.store.set_setting("signing key", ODD)
    ana = await _people(world)
    await _aliases(world, ana)
    await world.take({"user_identities": [7]})
    await world.take({"user_identities": {"customer_id": "ana"}, "events": [event("kept"), bad()]})
    for name in ("lab 1", "lab 2"):
        await world.take({"user_identities": {"customer_id": name}, "events": [event("seen")]}, LAB_SERVER)
    await world.grow_old(50)
    await world.user("middling")
    world.later(60)
    await world.backend_flushed()
    await world.round(RetentionJob)
    await world.round(ExpiryJob)  # leaves batches that no profile is made of any more
    await world.user("late", source_request_id="late 1", mp_deviceid="late device")
    await world.take({"user_identities": {"customer_id": "late"}, "events": [event("new"), bad()]})
    return world


async def _people(world: World) -> int:
    """Make people with devices, consent, many values of a type, shared values, and values that left them."""
    document = {
        "user_identities": {"customer_id": "ana", "email": "ana@example.com"},
        "user_attributes": {"a": ODD, "b": ["x", "y"], "n": 1.5},
        "events": [
            event("own", "m1"), change("$FirstName", "Ana"),
            {"event_type": "push_registration", "data": {"register": True, "registration_token": "t"}},
            {"event_type": "first_run", "data": {}},
        ],
        "mp_deviceid": "d1", "ip": "10.0.0.1", "consent_state": {"gdpr": {"ads": {"consented": True}}},
        "attribution_info": {"publisher": "north", "campaign": "spring"},
    }  # fmt: skip
    ana = (await world.take(document, WEB)).decision.mpid
    assert ana is not None
    for number in range(12):
        await world.take({"user_identities": {"customer_id": "ana"}, "mp_deviceid": f"device {number}"}, WEB)
    changes = (IdentityChange("email", "ana@example.com", f"{ODD}@example.com"),)
    await world.decide(Call(SPACE, "shop/server", Request("modify", mpid=ana, changes=changes), "modified"))
    for email in ("b@example.com", "c@example.com"):
        for number in range(6):
            login = Request("login", {"customerid": f"{email} {number}", "email": email})
            await world.decide(Call(SPACE, "shop/server", login, f"{email} {number}"))
    await world.decide(Call(SPACE, "shop/admin", Request("release", {"email": "c@example.com"}), "released"))
    return ana


async def _aliases(world: World, ana: int) -> None:
    """Apply an alias, undo one, let one be dropped, and let one wait."""
    others = [await world.user(f"aliased {number}") for number in range(4)]
    await world.alias(others[0], ana)
    undone = await world.alias(others[1], ana, device="d1")
    await world.alias(ana, others[2])
    world.later(2)
    await world.aliases_due()
    await world.undo(undone)
    await world.alias(others[3], ana)


def contents(backend: Backend) -> dict[str, list[Any]]:
    """Return every row of the data of a backend at rest, read by other means than those that copy it."""
    tables = {name: rows for name, rows in tables_now(backend).items() if name != "progress"}
    return tables | {name: _journal_rows(backend, name) for name in ("entry", "batch", "policy", "setting")}


_COLUMNS = {"entry": "position, count, checksum, body", "batch": "position, checksum, body", "setting": "name, value"}


def _journal_rows(backend: Backend, table: str) -> list[Any]:
    if isinstance(backend, Postgres):
        found = asked(f"SELECT {_COLUMNS.get(table, '*')} FROM {table}", url=backend.url)
        if table == "entry":
            found = [entry for row in found for entry in _unpacked(*row)]
        rows = [{name: _plain(value) for name, value in row.items()} for row in found]
    else:
        with closing(apsw.Connection(str(backend.folder / "data" / "journal.db"))) as file:
            cursor = file.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in cursor.get_description()] if table_has_rows(file, table) else []
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
    return sorted(rows, key=repr)


def _unpacked(position: int, count: int, checksum: int, body: bytes) -> list[dict[str, Any]]:
    """Return the entries that share a row, each as a row of its own would have it."""
    assert crc32(body) == checksum
    entries = zlib.decompress(body).split(b"\n") if count > 1 else [body]
    assert len(entries) == count
    return [{"position": at, "checksum": crc32(one), "body": one} for at, one in enumerate(entries, position)]


def table_has_rows(file: apsw.Connection, table: str) -> bool:
    """Tell whether a table has any row."""
    return bool(file.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").get)


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
