"""Two worlds that get the same requests: one does something and undoes it, the other never did it.

Where one has the decision that is undone, the other has one of another space that changes nothing: so all positions,
times and MPIDs are the same, and the rows of all tables can be compared as they are.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from structlog.testing import capture_logs

from batches import event, taken
from engine_at_work import running
from histories import INPUTS, identities, mpid_of
from oneself.engine import Call, Engine, Outcome
from oneself.history.undo.planning import plan_undo, plan_value
from oneself.history.undo.report import UndoPlan
from oneself.identity import IdentityChange, Later, PolicySettings, Request, Undo
from profile_world import NOW_MS, source
from rebuilding import tables_now
from store_factories import Backend, InMemory, Mixed, Postgres

SPACE = "acme/production"
SCOPES = {
    "acme": PolicySettings("profile_conversion", max_known_profiles_per_value=3, max_values_per_profile=6),
    "solo": PolicySettings(),
}
ELSEWHERE = Call("solo/production", "solo/app", Request("release", {"other": "nothing"}))
"""Changes nothing, and takes a position."""

NOT_COMPARED = {"request", "input", "profile_decision", "event_name", "quarantined", "swept", "guard_decision",
                "progress", "setting"}  # fmt: skip
"""What stays of what is undone: ids of requests, names of events, what was set aside, and who was concerned."""

ENGINES: tuple[type[Backend], ...] = (Mixed, Postgres)


def fresh(position: int) -> int:
    """Return the MPID that the decision at a position makes a profile with."""
    return mpid_of(position)


class World:
    """One of two worlds, on a backend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.engine: Engine
        self.outcomes: list[Outcome] = []
        self._now_ms = NOW_MS

    @property
    def store(self) -> Any:
        return self.backend.store

    async def do(self, *calls: Call) -> list[Outcome]:
        """Have calls decided one after another, each at a time and with an MPID of its position's own."""
        made = [await self.engine.submit(call) for call in calls]
        self.outcomes += made
        return made

    async def rest(self) -> None:
        """Come to rest, in any state."""
        await self.backend.settle()
        self.engine.store = self.backend.store

    async def undo(self, *positions: int, later: Later = "") -> UndoPlan:
        """Undo decisions; return the plan, which says whether that could be done."""
        return await self.carry_out(await plan_undo(self.store, Undo(positions, later=later), mpids=fresh))

    async def undo_value(self, type_: str, value: str, *, later: Later = "", guard: bool = True) -> UndoPlan:
        """Undo what a value caused."""
        asked = Undo(type=type_, value=value, later=later, guard=guard)
        return await self.carry_out(await plan_value(self.store, SPACE, asked, mpids=fresh))

    async def carry_out(self, made: UndoPlan) -> UndoPlan:
        """Have a plan carried out that can be."""
        if made.plan is not None:
            (outcome,) = await self.do(Call(made.space, "/undo", made.request, plan=made.plan))
            assert outcome.decision.error is None, outcome.decision.error
        return made

    @property
    def position(self) -> int:
        """The position of the last decision."""
        last: int = self.store.position
        return last

    async def state(self) -> dict[str, Any]:
        """Return every row of every table, identities and JSON in one order, without what stays of what is undone."""
        await self.flushed()
        return canonical(tables_now(self.backend))

    async def flushed(self) -> None:
        """Bring the tables up to date."""
        if isinstance(self.backend, InMemory):
            await self.backend.let_go()
            await self.backend.store.flush()

    def clock(self) -> int:
        return NOW_MS + 60_000 * (self.position + 1)

    def mpids(self) -> int:
        return mpid_of(self.position + 1)


@asynccontextmanager
async def world(
    kind: type[Backend], folder: Path, dice: random.Random, scopes: dict[str, PolicySettings] = SCOPES
) -> AsyncIterator[World]:
    """A world at work."""
    folder.mkdir(parents=True, exist_ok=True)
    backend = kind(folder)
    if isinstance(backend, Mixed):
        backend.dice = random.Random(dice.random())
    with capture_logs():
        await backend.start()
        made = World(backend)
        async with running(backend.store, scopes, mpids=made.mpids, clock=made.clock) as made.engine:
            yield made
        await backend.stop()


def canonical(tables: dict[str, list[Any]]) -> dict[str, Any]:
    """Return tables as they can be compared: what a profile holds is one map, wherever it is kept."""
    found: dict[str, Any] = {}
    held: dict[int, dict[str, int]] = {}
    removed = set()
    people = []
    for mpid, space, created, inline, _, person in tables["profile"]:
        people += [(mpid, _plain(person))] if person is not None else []
        if space.startswith("/"):
            removed.add(mpid)
            assert json.loads(inline) == {}
            continue
        of = held[mpid] = {f"made in {space}": created}
        of |= {f"{type_} {value}": at for type_, values in json.loads(inline).items() for value, at in values.items()}
    for mpid, type_, value, position in tables["further_identity"]:
        held[mpid][f"{type_} {value}"] = position
    found["profile"], found["person"] = held, sorted(people)
    for table in tables.keys() - NOT_COMPARED - {"profile", "further_identity"}:
        rows = [tuple(_plain(cell) for cell in row) for row in tables[table]]
        if table == "alias":
            rows = [row[:-1] for row in rows if "undone" not in row]  # the last is when it came to be what it is
        found[table] = sorted(rows, key=repr)
    return found


def _plain(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith("{"):
        return json.dumps(json.loads(cell), sort_keys=True)
    return cell


class Maker:
    """Makes random calls of one space: identities collide, profiles gather many, and batches come by both."""

    def __init__(self, dice: random.Random, *, naming: bool = True) -> None:
        self.dice = dice
        self.naming = naming
        self.mpids: list[int] = []
        self._count = 0

    def call(self) -> Call:
        """Return a call; with ``naming`` some name MPIDs."""
        dice = self.dice
        self._count += 1
        kind = dice.random()
        asked = identities(dice)
        if kind < 0.35:
            events = [event(f"e{n}", at_ms=NOW_MS + dice.randrange(9)) for n in range(dice.randrange(3))]
            attributes = {f"a{dice.randrange(3)}": str(dice.randrange(9))}
            who: dict[str, Any] = {"user_identities": {"customer_id": f"cu{dice.randrange(6)}"}}
            if self.naming and self.mpids and dice.random() < 0.3:
                who = {"mpid": dice.choice(self.mpids)}
            stamp = {"mp_deviceid": f"de{dice.randrange(6)}"} if dice.random() < 0.7 else {}
            document = {**who, **stamp, "events": events, "user_attributes": attributes}
            return taken(document, source(dice.choice(("web", "server"))), NOW_MS + self._count)
        if kind < 0.5 and self.naming and self.mpids:
            change = IdentityChange("email", None, f"em{dice.randrange(6)}")
            if dice.random() < 0.5:
                change = IdentityChange("other", f"o{dice.randrange(30)}", dice.choice((None, "o1", "o2")))
            asks = Request("modify", mpid=dice.choice(self.mpids), changes=(change,))
            return Call(SPACE, dice.choice(INPUTS), asks)
        which = dice.choices(("identify", "login", "logout", "release"), (10, 8, 4, 1))[0]
        return Call(SPACE, dice.choice(INPUTS), Request(which, asked or {"other": "o1"}))  # type: ignore[arg-type]

    def learn(self, outcome: Outcome) -> None:
        """Remember whom a call was answered with."""
        if outcome.decision.mpid is not None:
            self.mpids.append(outcome.decision.mpid)


async def both(
    kind: type[Backend],
    folder: Path,
    dice: random.Random,
    calls: Sequence[Call],
    without: Sequence[int],
    check: Callable[[World, World], Any],
) -> Any:
    """Let two worlds get the same calls, the second without some of them, by their numbers; then check them."""
    async with world(kind, folder / "done", dice) as done, world(kind, folder / "never", dice) as never:
        for number, call in enumerate(calls):
            await done.do(call)
            await never.do(ELSEWHERE if number in without else call)
            if dice.random() < 0.2:
                await done.rest()
        return await check(done, never)


SENTINEL = "sentinel"
KNOWING = {"acme": PolicySettings("profile_conversion", junk_also=(SENTINEL,), max_known_profiles_per_value=0,
                                  max_values_per_profile=0)}  # fmt: skip
"""A scope that knows of the sentinel …"""

OPEN = {"acme": PolicySettings("profile_conversion", max_known_profiles_per_value=0, max_values_per_profile=0)}
"""… and the same without, and without guards."""


def user_calls(number: int) -> list[Call]:
    """Return what one user does whose app sends a sentinel: looks around, signs up, and buys something."""
    device = f"{number:08x}-0000-4000-8000-000000000000"
    by = source("web")
    first = {"device_application_stamp": device, "other": SENTINEL}
    bought = {"user_identities": {"other": SENTINEL}, "mp_deviceid": device, "events": [event(f"Bought {number}")]}
    later = {"mp_deviceid": device, "user_attributes": {"who": str(number)}, "events": [event("Later")]}
    return [
        Call(SPACE, "shop/web", Request("identify", first)),  # type: ignore[arg-type]
        taken(bought, by, NOW_MS),
        Call(
            SPACE, "shop/web", Request("modify", mpid=0, changes=(IdentityChange("email", None, f"{number}@x.org"),))
        ),
        taken(later, source("server"), NOW_MS),
    ]


async def use(it: World, calls: Sequence[Call]) -> None:
    """Have a user's calls decided; a modify names the MPID that the user was answered with before."""
    mpid = 0
    for call in calls:
        if call.request.kind == "modify":
            call = msgspec.structs.replace(call, request=msgspec.structs.replace(call.request, mpid=mpid))
        (outcome,) = await it.do(call)
        mpid = outcome.decision.mpid or mpid
