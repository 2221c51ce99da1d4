"""What undos do to rows, on every engine and in every state of it (docs/undo.md, docs/storage.md)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batches import WEB, kept, put
from oneself.identity import (
    HOLDERS_READ,
    INLINE_VALUES,
    Create,
    Guard,
    Link,
    Move,
    NoPast,
    Past,
    Profile,
    Reguard,
    Release,
    Remove,
    Request,
    Restore,
    Revive,
    Unlink,
    Withdraw,
)
from oneself.journal import BatchRecord, Entry
from oneself.profiles import read_batch
from oneself.store import UNDONE, History, Store, is_removed
from oneself.store.moving import Moving
from profile_world import NOW_MS
from store_factories import BACKENDS, SPACE, Backend, draft, entry_of, wanted_by

pytestmark = pytest.mark.anyio

EMAIL = ("email", "a@example.com")
OTHER = ("other", "o")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=BACKENDS, ids=lambda kind: kind.__name__)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made: Backend = request.param(tmp_path)
    await made.start()
    yield made
    async with asyncio.timeout(30):
        await made.stop()


async def identities(store: Store, mpid: int) -> list[tuple[str, str, int]]:
    stored = await store.profile(mpid)
    assert stored is not None
    return stored.identities


async def test_links_come_back_to_the_places_that_they_had(backend: Backend) -> None:
    for mpid in (1, 2, 3):
        await backend.one(Create(mpid), Link(mpid, *OTHER))
    await backend.one(Withdraw(2, *OTHER))
    assert (await backend.see(OTHER)).views[SPACE].holders[OTHER] == [(3, 3), (1, 1)]
    assert await identities(backend.store, 2) == []
    assert (await backend.store.profile(2)).history == []  # type: ignore[union-attr]
    await backend.one(Restore(2, *OTHER, 2))
    view = (await backend.see(OTHER)).views[SPACE]
    assert view.holders[OTHER] == [(3, 3), (2, 2), (1, 1)]
    assert view.profiles[2] == Profile(2, 2, {"other": {"o": 2}}, {})
    await backend.one(Withdraw(3, *OTHER))
    await backend.one(Withdraw(2, *OTHER), Restore(3, *OTHER, 3))
    assert (await backend.see(OTHER)).views[SPACE].holders[OTHER] == [(3, 3), (1, 1)]
    await backend.one(Restore(2, *OTHER, 2))
    await backend.one(Unlink(2, *OTHER, "removed"))
    assert (await backend.see(OTHER)).views[SPACE].holders[OTHER] == [(3, 3), (1, 1)]
    assert (await backend.store.profile(2)).history == [  # type: ignore[union-attr]
        History(2, 9, "other", "o", 2, "removed", 0)
    ]


async def test_among_many_holders_each_comes_back_to_its_place(
    backend: Backend, request: pytest.FixtureRequest
) -> None:
    dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} holders")
    count = HOLDERS_READ + 40
    positions = await backend.group(*(draft(Create(mpid), Link(mpid, *OTHER)) for mpid in range(1, count + 1)))
    held = dict(zip(positions, range(1, count + 1), strict=True))
    gone: dict[int, int] = {}
    for _ in range(6):
        changes: list[Withdraw | Restore] = []
        leaving = dice.sample(sorted(held), 12)
        coming = dice.sample(sorted(gone), len(gone) // 2)
        for at in leaving:
            gone[at] = held.pop(at)
            changes.append(Withdraw(gone[at], *OTHER))
        for at in coming:
            held[at] = gone.pop(at)
            changes.append(Restore(held[at], *OTHER, at))
        await backend.one(*changes)
        expected = sorted(held.items(), reverse=True)
        for margin in (0, 3, count):
            found = (await backend.see(OTHER, margin=margin)).views[SPACE].holders[OTHER]
            assert found == expected[: HOLDERS_READ + margin]


async def test_values_beyond_the_record_come_and_go(backend: Backend) -> None:
    values = [("other", f"v{number}") for number in range(INLINE_VALUES + 3)]
    await backend.one(Create(1), *(Link(1, *one) for one in values))
    gone = [values[2], values[-1]]
    await backend.one(*(Withdraw(1, *one) for one in gone))
    assert {row[:2] for row in await identities(backend.store, 1)} == set(values) - set(gone)
    await backend.one(*(Restore(1, *one, 1) for one in gone))
    assert set(await identities(backend.store, 1)) == {(*one, 1) for one in values}
    view = (await backend.see(*values, mpids=[1])).views[SPACE]
    assert all(view.holds(view.profiles[1], *one) for one in values)
    assert view.profiles[1].count("other") == len(values)


async def test_a_removed_profile_is_nobodys_and_its_mpid_is_given(backend: Backend) -> None:
    await backend.one(Create(7), Link(7, *EMAIL))
    await backend.one(Withdraw(7, *EMAIL), Remove(7))
    store = backend.store
    view = (await backend.see(EMAIL, mpids=[7])).views[SPACE]
    assert (view.profiles, view.holders[EMAIL]) == ({}, [])
    assert await store.mpids([SPACE]) == []
    assert await store.user(7, "shop") is None
    assert await store.existing([7]) == {7}
    stored = await store.profile(7)
    assert stored is not None
    assert is_removed(stored.space)
    assert (stored.identities, stored.decisions) == ([], [1, 2])
    await backend.one(Revive(7, 1), Restore(7, *EMAIL, 1))
    assert (await backend.see(EMAIL)).views[SPACE].profiles[7] == Profile(7, 1, {"email": {EMAIL[1]: 1}}, {})
    assert await backend.store.mpids([SPACE]) == [7]


async def test_history_comes_and_goes(backend: Backend) -> None:
    await backend.one(Create(1), Link(1, *EMAIL))
    await backend.one(Unlink(1, *EMAIL, "removed"))
    row = History(1, 2, *EMAIL, 1, "removed", 0)
    assert (await backend.store.profile(1)).history == [row]  # type: ignore[union-attr]
    await backend.one(NoPast(1, 2, *EMAIL), Restore(1, *EMAIL, 1))
    assert (await backend.store.profile(1)).history == []  # type: ignore[union-attr]
    await backend.one(Withdraw(1, *EMAIL), Past(1, 2, *EMAIL, 1, "removed"))
    assert (await backend.store.profile(1)).history == [row]  # type: ignore[union-attr]
    assert (await backend.store.profile(1)).decisions == [1, 2, 3, 4]  # type: ignore[union-attr]


async def test_a_row_of_history_is_another_one_in_its_place(backend: Backend) -> None:
    await backend.one(Create(1), Link(1, *EMAIL))
    await backend.one(Link(1, *OTHER))
    await backend.one(Unlink(1, *EMAIL, "removed"))
    await backend.one(NoPast(1, 3, *EMAIL), Past(1, 3, *EMAIL, 2, "moved", 5))
    assert (await backend.store.profile(1)).history == [  # type: ignore[union-attr]
        History(1, 3, *EMAIL, 2, "moved", 5)
    ]


async def test_a_guard_comes_back_as_of_its_decision(backend: Backend) -> None:
    await backend.one(Guard(*OTHER, "max_values_per_profile"))
    await backend.one(Release(*OTHER))
    await backend.one(Reguard(*OTHER, "max_values_per_profile", 1))
    assert await backend.store.guarded(SPACE) == [("other", "o", "max_values_per_profile", 1)]
    assert OTHER in (await backend.see(OTHER)).views[SPACE].guarded


def batch(name: str, number: int) -> BatchRecord:
    document = {
        "user_identities": {"customer_id": "c"}, "mp_deviceid": f"{name}-device",
        "events": [{"event_type": "custom_event", "data": {
            "event_name": name, "custom_event_type": "other", "timestamp_unixtime_ms": NOW_MS + number,
        }}],
    }  # fmt: skip
    read, aside = read_batch(document, WEB, NOW_MS)
    return BatchRecord(read, aside)


async def moved(backend: Backend, source: int, target: int, *positions: int) -> None:
    """Move batches as an undo does."""
    store, moving = backend.store, Moving()
    for mpid in {source, target} - {0}:
        moving.own(mpid, await store.made_of(mpid), *await store.expiries(mpid))
    moving.move(source, target, positions)
    rows = moving.rewritten(await store.batches(sorted(moving.needed)))
    made = draft(Move(source, target, positions))
    reading = await store.read(wanted_by([draft(Create(source), Create(target))]))
    entry = entry_of(made)
    reading.keep(Entry(entry.at_ms, SPACE, "/undo", 1, Request("undo"), entry.decision))
    reading.rewrite(rows)
    await store.commit(reading)
    await backend.settle()


async def test_batches_move_with_all_that_they_made(backend: Backend) -> None:
    await backend.one(Create(1))
    await backend.one(Create(2))
    records = [batch(name, number) for number, name in enumerate(("Tea", "Cups", "Coffee"))]
    positions = [(await put(backend, kept(1, record)))[0] for record in records]
    first = await backend.store.user(1, "shop")
    await moved(backend, 1, 2, positions[1])
    store = backend.store
    assert [row.position for row in await store.activity(1, "shop")] == [positions[2], positions[0]]
    assert [row.position for row in await store.activity(2, "shop")] == [positions[1]]
    assert [name for name, _ in await store.devices(1, "shop")] == ["Coffee-device", "Tea-device"]
    assert [name for name, _ in await store.devices(2, "shop")] == ["Cups-device"]
    assert (await store.made_of(1), await store.made_of(2)) == ([positions[0], positions[2]], [positions[1]])
    second = await store.user(2, "shop")
    assert second is not None
    assert second.person is not None
    assert second.person.last_seen_ms == NOW_MS + 1
    assert (await store.batches([positions[1]]))[positions[1]].moved_to == 2
    await moved(backend, 1, 0, positions[0], positions[2])
    user = await backend.store.user(1, "shop")
    assert user is not None
    assert (user.person, user.workspace) == (None, None)
    assert await backend.store.activity(1, "shop") == []
    assert await backend.store.devices(1, "shop") == []
    await moved(backend, 0, 1, positions[0], positions[2])
    await moved(backend, 2, 1, positions[1])
    assert await backend.store.user(1, "shop") == first
    assert len(await backend.store.activity(1, "shop")) == 3
    assert await backend.store.made_of(2) == []
    assert await backend.store.swept(UNDONE) == backend.store.position


async def test_another_batch_after_a_move_joins_what_was_made_anew(backend: Backend) -> None:
    await backend.one(Create(1))
    await backend.one(Create(2))
    (tea,), (cups,) = await put(backend, kept(1, batch("Tea", 0))), await put(backend, kept(1, batch("Cups", 1)))
    await moved(backend, 1, 2, cups)
    await put(backend, kept(2, batch("Cups", 5)))
    await put(backend, kept(1, batch("Cups", 6)))
    for mpid, count, last in ((1, 2, 6), (2, 2, 5)):
        user = await backend.store.user(mpid, "shop")
        assert user is not None
        assert user.person is not None
        assert user.person.last_seen_ms == NOW_MS + last
        assert len(await backend.store.activity(mpid, "shop")) == count
    assert tea in await backend.store.made_of(1)


async def test_a_store_beside_sees_the_same_and_is_read_only(backend: Backend) -> None:
    await backend.one(Create(1), Link(1, *EMAIL))
    beside = backend.store.beside()
    await beside.open()
    assert await beside.profile(1) == await backend.store.profile(1)
    await beside.close()
