"""The lives of profiles and of identities, against the journal folded by hand, on every engine (docs/why.md)."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine_at_work import SPACE, running
from histories import SCOPES, SPACES, counted
from oneself.engine import Call, Engine
from oneself.history import IdentityLife, Told, decisions_told, identity_life, life, request_told
from oneself.history.recorded import newest_policies
from oneself.identity import Guard, Identity, IdentityChange, Link, PolicySettings, Release, Request, Unlink, build
from oneself.journal import Entry
from recorded_histories import Player
from store_factories import Backend, InMemory, InTables, Postgres, Reopened

pytestmark = pytest.mark.anyio

LOGINS = {scope: build(settings).login for scope, settings in SCOPES.items()}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=(InMemory, InTables, Reopened, Postgres), ids=lambda kind: kind.__name__)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made: Backend = request.param(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def played(backend: Backend, calls: int = 400) -> list[tuple[int, Entry]]:
    """Play a random history; return the journal."""
    player = Player(random.Random(7))
    mpids = counted()
    for _ in range(4):
        async with running(backend.store, mpids=mpids) as engine:
            await player.play(engine, calls // 4)
        await backend.settle()
    return [row async for row in backend.store.entries()]


def folded(entries: list[tuple[int, Entry]]) -> dict[int, list[tuple[int, str]]]:
    """Return when each profile became something else, folding the journal by hand."""
    held: defaultdict[int, set[Identity]] = defaultdict(set)
    turns: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    for position, entry in entries:
        touched = []
        for change in entry.decision.changes:
            if isinstance(change, Link):
                held[change.mpid].add((change.type, change.value))
            elif isinstance(change, Unlink):
                held[change.mpid].discard((change.type, change.value))
            mpid = getattr(change, "mpid", 0)
            touched += [mpid] if mpid else []
        login = LOGINS[entry.space.rpartition("/")[0]]
        for mpid in touched:
            types = {type_ for type_, _ in held[mpid]}
            now = "orphan" if not types else "anonymous" if login.isdisjoint(types) else "known"
            if not turns[mpid] or turns[mpid][-1][1] != now:
                turns[mpid].append((position, now))
    return turns


async def test_a_life_tells_when_a_profile_became_what(backend: Backend) -> None:
    turns = folded(await played(backend))
    assert len(turns) > 50
    assert {became for of in turns.values() for _, became in of} >= {"known", "anonymous"}
    for mpid, of in turns.items():
        found = await life(backend.store, mpid)
        assert found is not None
        assert [(one.position, one.became) for one in found.milestones] == of
        assert (found.made, found.state) == (of[0][0], of[-1][1])


async def test_a_life_tells_every_decision_page_by_page(backend: Backend) -> None:
    await played(backend)
    for mpid in await backend.store.mpids(SPACES, limit=40):
        stored = await backend.store.profile(mpid)
        assert stored is not None
        positions: list[int] = []
        before = 0
        while True:
            page = await life(backend.store, mpid, before=before, limit=3)
            assert page is not None
            assert page.decisions_total == len(stored.decisions)
            positions[:0] = [one.position for one in page.decisions]
            if page.next is None:
                break
            before = page.next
        assert positions == stored.decisions
        whole = await life(backend.store, mpid)
        assert whole is not None
        assert "created" in whole.decisions[0].did
        assert [(one.type, one.value, one.since) for one in whole.identities] == stored.identities
        assert whole.former_total == len(stored.history)
    assert await life(backend.store, 404) is None


async def test_an_identity_tells_who_held_it_when_and_whether_it_was_guarded(backend: Backend) -> None:
    entries = await played(backend)
    spans: defaultdict[tuple[str, Identity], list[list[int]]] = defaultdict(list)
    guards: defaultdict[tuple[str, Identity], list[list[int]]] = defaultdict(list)
    for position, entry in entries:
        for change in entry.decision.changes:
            if not isinstance(change, Link | Unlink | Guard | Release):
                continue
            place = entry.space, (change.type, change.value)
            if isinstance(change, Link):
                spans[place].append([change.mpid, position, 0])
            elif isinstance(change, Unlink):
                next(row for row in spans[place] if row[0] == change.mpid and not row[2])[2] = position
            elif isinstance(change, Guard):
                guards[place].append([position, 0])
            else:
                guards[place][-1][1] = position
    assert any(len(rows) > 1 for rows in spans.values())
    assert guards
    policies = await newest_policies(backend.store)
    for space, identity in {*spans, *guards}:
        (told,) = await identity_life(backend.store, [space], policies, *identity)
        rows = [[int(one.mpid), one.since.position, 0] for one in told.holders]
        rows += [[int(one.mpid), one.since.position, one.until.position] for one in told.former if one.until]
        held = [row for row in spans[space, identity] if row[1] != row[2]]
        assert sorted(rows) == sorted(held)
        assert [[one.since.position, one.until.position if one.until else 0] for one in told.guards] == guards[
            space, identity
        ]
        assert told.guarded == bool(guards[space, identity] and not guards[space, identity][-1][1])
        assert told.heard == bool(held or guards[space, identity])


async def test_an_identity_is_told_in_each_space_and_as_it_is_compared(backend: Backend) -> None:
    scopes = {"acme": PolicySettings(), "solo": PolicySettings(junk_also=("shared@x.org",))}
    async with running(backend.store, scopes) as engine:
        await engine.submit(Call(SPACE, "shop/web", Request("identify", {"email": "Ana@X.org "}), "ana-comes"))
    spaces = ["acme/production", "acme/development", "solo/production"]
    policies = {name: build(settings) for name, settings in scopes.items()}

    async def told(value: str) -> list[IdentityLife]:
        return await identity_life(backend.store, spaces, policies, "email", value)

    here, there, elsewhere = await told(" ANA@x.org")
    assert (here.value, here.heard, there.heard, elsewhere.heard) == ("ana@x.org", True, False, False)
    (holder,) = here.holders
    assert (holder.since.position, holder.since.request_id, holder.until) == (1, "ana-comes", None)
    assert [one.dropped for one in await told("shared@x.org")] == ["", "", "junk"]
    assert [one.dropped for one in await told("null")] == ["junk"] * 3


async def test_requests_and_decisions_are_told_with_what_they_did(backend: Backend) -> None:
    async def ask(engine: Engine, id_: str, request: Request) -> Told:
        outcome = await engine.submit(Call(SPACE, "shop/web", request, id_))
        (told,) = await request_told(backend.store, id_)
        assert (told.position, told.request_id, told.kind) == (outcome.position, id_, request.kind)
        assert [told] == await decisions_told(backend.store, [told.position])
        return told

    scopes = {"acme": PolicySettings("profile_link", max_known_profiles_per_value=1)}
    async with running(backend.store, scopes) as engine:
        given = {"email": "a@x.org", "other": "o", "ios_idfa": "null"}
        first = await ask(engine, "first", Request("identify", {**given}))
        assert first.did == ["created", "linked", "dropped"]
        second = await ask(engine, "second", Request("identify", {"customerid": "c", "other": "o"}))
        assert second.did == ["created", "linked", "guarded", "refused"]
        changes = (IdentityChange("email", None, "a@x.org"),)
        third = await ask(engine, "third", Request("modify", mpid=int(second.mpid or 0), changes=changes))
        assert third.did == ["moved", "received"]
        junk = await ask(engine, "junk", Request("identify", {"email": "undefined"}))
        assert (junk.error, junk.did) == ("LOOKUP_ERROR", ["denied", "dropped"])
        released = await ask(engine, "released", Request("release", {"other": "o"}))
        assert released.did == ["released"]
    old = await life(backend.store, int(first.mpid or 0))
    assert old is not None
    assert [one.did for one in old.decisions] == [["created", "linked", "dropped", "known"], ["moved", "anonymous"]]
    assert (old.state, old.former[0].moved_to) == ("anonymous", second.mpid)
    assert await request_told(backend.store, "nobody's") == []
    assert await decisions_told(backend.store, [99]) == []
