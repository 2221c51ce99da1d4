"""What a store tells of an identity's past and of crowds, on every engine in every state (docs/storage.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from oneself.identity import Create, Guard, Link, Release, Unlink
from oneself.store import PARTS, Crowds, History
from oneself.store.keys import holder_key
from store_factories import BACKENDS, SPACE, Backend, draft

pytestmark = pytest.mark.anyio

OTHER_SPACE = "acme/development"
EMAIL = ("email", "a@example.com")
ODD = ("other", "null\0byte ☃")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=BACKENDS, ids=lambda kind: kind.__name__)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """A store of every engine in every state, empty."""
    made: Backend = request.param(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def test_an_identity_tells_who_lost_it_in_its_space_the_latest_first(backend: Backend) -> None:
    for identity in (EMAIL, ODD):
        mpids = range(10, 14) if identity == EMAIL else range(20, 24)
        linked = {}
        for mpid in mpids:
            linked[mpid] = await backend.one(Create(mpid), Link(mpid, *identity))
        await backend.group(
            draft(Create(-mpids[0]), Link(-mpids[0], *identity), space=OTHER_SPACE),
            draft(Unlink(-mpids[0], *identity, "removed"), space=OTHER_SPACE),
        )
        ended = {mpid: await backend.one(Unlink(mpid, *identity, "moved", mpid + 1)) for mpid in mpids[:3]}
        past = await backend.store.identity_past(SPACE, identity)
        assert past.lost == [
            History(mpid, ended[mpid], *identity, linked[mpid], "moved", mpid + 1) for mpid in reversed(mpids[:3])
        ]
        assert past.guards == []
        latest = await backend.store.identity_past(SPACE, identity, limit=1)
        assert latest.lost == past.lost[:1]
        (there,) = (await backend.store.identity_past(OTHER_SPACE, identity)).lost
        assert (there.mpid, there.why) == (-mpids[0], "removed")
    assert (await backend.store.identity_past(SPACE, ("email", "nobody@example.com"))).lost == []


async def test_every_guard_and_release_of_a_value_is_found(backend: Backend) -> None:
    guard, release = Guard(*EMAIL, "max_known_profiles_per_value"), Release(*EMAIL)
    positions = [await backend.one(change) for change in (guard, release, guard, release)]
    positions += await backend.group(draft(guard), draft(Guard(*ODD, "max_values_per_profile")), draft(release))
    aside = positions.pop(5)
    assert (await backend.store.identity_past(SPACE, EMAIL)).guards == positions
    assert (await backend.store.identity_past(SPACE, ODD)).guards == [aside]
    assert (await backend.store.identity_past(OTHER_SPACE, EMAIL)).guards == []


async def crowds(backend: Backend, *, holders: int, values: int) -> Crowds:
    """Return what is in crowds in all parts."""
    found = Crowds({}, {}, {})
    for part in range(PARTS):
        one = await backend.store.crowds(part, holders=holders, values=values)
        assert not found.values.keys() & one.values.keys()
        for all_, some in zip(found, one, strict=True):
            all_.update(some)
    return found


async def test_crowds_are_found_wherever_their_rows_are(backend: Backend) -> None:
    """Rows that are just being written may be counted twice, so a crowd may be told too early, never too late."""
    shared: Counter[str] = Counter()
    for number in range(1, 13):
        mpid = (-1) ** number * number * (1 << 58) + number
        links = [Link(mpid, "other", f"v{place}") for place in range(12) if number % (place + 1) == 0]
        shared.update(link.value for link in links)
        await backend.one(Create(mpid), *links)
    hub = 1 << 61
    await backend.one(Create(hub))
    for number in range(6):
        await backend.one(*(Link(hub, "ios_idfa", f"{number}-{place}") for place in range(4)))
        if number:
            await backend.one(
                Unlink(hub, "email", f"{number - 1}@x.org", "replaced"), Link(hub, "email", f"{number}@x.org")
            )
        else:
            await backend.one(Link(hub, "email", "0@x.org"))
    found = await crowds(backend, holders=4, values=5)
    least = {holder_key(SPACE, "other", value): count for value, count in shared.items() if count >= 4}
    for key, count in least.items():
        total, position = found.values[key]
        assert count <= total <= 2 * count
        entry = await backend.store.entry(position)
        assert entry is not None
        assert key in {holder_key(SPACE, c.type, c.value) for c in entry.decision.changes if isinstance(c, Link)}
    assert found.further[hub, "ios_idfa"] >= 24 - 8
    assert found.replaced[hub, "email"] >= 5
    assert {mpid for mpid, _ in (*found.further, *found.replaced)} == {hub}
    assert not any(await crowds(backend, holders=100, values=100))
