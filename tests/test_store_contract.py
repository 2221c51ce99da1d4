"""What every storage engine promises (docs/storage.md, "The contract"), on every engine and in every state of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from journal_fold import assert_store_is, fold_of
from oneself.identity import (
    HOLDERS_READ,
    INLINE_VALUES,
    Alias,
    Create,
    Guard,
    Link,
    Profile,
    Refused,
    Release,
    Unlink,
)
from oneself.journal import Entry
from oneself.store import History, PolicyVersion, StoredProfile, Wanted
from oneself.store.keys import request_key
from store_factories import AT_MS, BACKENDS, BESIDE, SPACE, Backend, Draft, draft, entry_of, wanted_by

pytestmark = pytest.mark.anyio

OTHER_SPACE = "acme/development"
EMAIL = ("email", "a@example.com")
DEVICE = ("device_application_stamp", "d1")
FIRST, LAST = -(1 << 63), (1 << 63) - 1
WORDS = ("null\0byte", "quote\"'s", "[1,2]", "{}", "☃ 雪 🎿", "x" * 256, "line\nbreak", "%00", "123", "1e3", "-0")
"""Values that a careless statement would change."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=(*BACKENDS, *BESIDE), ids=lambda kind: kind.__name__)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """A store of every engine in every state, empty."""
    made: Backend = request.param(tmp_path)
    await made.start()
    yield made
    async with asyncio.timeout(30):
        await made.stop()


def others(count: int, begin: int = 0) -> list[tuple[str, str]]:
    return [("other", f"v{number}") for number in range(begin, begin + count)]


# -- read ---------------------------------------------------------------------------------------------------------


async def test_a_new_store_knows_nobody(backend: Backend) -> None:
    store = backend.store
    assert store.position == 0
    reading = await store.read({SPACE: Wanted([EMAIL], [7])}, [request_key("shop/web", "r1")], margin=3)
    view = reading.views[SPACE]
    assert (reading.position, reading.answered) == (1, {})
    assert (view.holders, view.profiles, view.guarded, view.further) == ({EMAIL: []}, {}, set(), {})
    assert await store.existing([7]) == set()
    assert await store.entry(1) is None
    assert [row async for row in store.entries()] == []
    assert await store.find_request("r1") == []
    assert await store.profile(7) is None
    assert await store.guarded(SPACE) == []
    assert await store.policies() == []


async def test_a_space_of_which_nothing_is_wanted_gets_an_empty_view(backend: Backend) -> None:
    await backend.one(Create(7), Link(7, *EMAIL))
    view = (await backend.see()).views[SPACE]
    assert (view.holders, view.profiles) == ({}, {})


async def test_the_holders_of_a_value_come_with_their_profiles_most_recently_linked_first(backend: Backend) -> None:
    for mpid in (5, -3, 9):
        await backend.one(Create(mpid), Link(mpid, *DEVICE))
    view = (await backend.see(DEVICE)).views[SPACE]
    assert view.holders == {DEVICE: [(3, 9), (2, -3), (1, 5)]}
    held = {DEVICE[0]: {DEVICE[1]: 2}}
    assert view.profiles.keys() == {5, -3, 9}
    assert view.profiles[-3] == Profile(-3, 2, held)


@pytest.mark.parametrize("margin", [0, 7])
async def test_of_many_holders_as_many_are_read_as_a_walk_and_its_margin_need(backend: Backend, margin: int) -> None:
    count = HOLDERS_READ + 60
    for begin in range(0, count, 40):
        await backend.group(*(draft(Create(mpid), Link(mpid, *DEVICE)) for mpid in range(begin + 1, begin + 41)))
    rows = (await backend.see(DEVICE, margin=margin)).views[SPACE].holders[DEVICE]
    assert len(rows) >= HOLDERS_READ + margin
    assert rows == [(at, at) for at in range(count, count - len(rows), -1)]


async def test_holders_without_number_are_not_read(backend: Backend) -> None:
    """The cost of a decision must not grow with the profiles behind a shared device."""
    for begin in range(0, 1_200, 400):
        await backend.group(*(draft(Create(mpid), Link(mpid, *DEVICE)) for mpid in range(begin + 1, begin + 401)))
    view = (await backend.see(DEVICE)).views[SPACE]
    assert len(view.holders[DEVICE]) <= 2 * HOLDERS_READ
    assert len(view.profiles) <= 2 * HOLDERS_READ


async def test_holders_that_left_do_not_use_up_what_is_read(backend: Backend) -> None:
    count = HOLDERS_READ + 40
    for begin in range(0, count, 70):
        await backend.group(*(draft(Create(mpid), Link(mpid, *DEVICE)) for mpid in range(begin + 1, begin + 71)))
    await backend.group(*(draft(Unlink(mpid, *DEVICE, "removed")) for mpid in range(count - 34, count + 1)))
    rows = (await backend.see(DEVICE)).views[SPACE].holders[DEVICE]
    assert rows[:HOLDERS_READ] == [(at, at) for at in range(count - 35, count - 35 - HOLDERS_READ, -1)]


async def test_spaces_see_nothing_of_each_other(backend: Backend) -> None:
    await backend.group(
        draft(Create(1), Link(1, *EMAIL), Guard(*DEVICE, "max_values_per_profile")),
        draft(Create(2), Link(2, *EMAIL), space=OTHER_SPACE),
    )
    for space, own, foreign in ((SPACE, 1, 2), (OTHER_SPACE, 2, 1)):
        view = (await backend.see(EMAIL, DEVICE, mpids=[own, foreign, 99], space=space)).views[space]
        assert [mpid for _, mpid in view.holders[EMAIL]] == [own]
        assert view.profiles.keys() == {own}
        assert view.guarded == ({DEVICE} if space == SPACE else set())
    both = await backend.store.read({SPACE: Wanted([EMAIL]), OTHER_SPACE: Wanted([EMAIL])})
    assert {space: view.profiles.keys() for space, view in both.views.items()} == {SPACE: {1}, OTHER_SPACE: {2}}
    assert await backend.store.existing([1, 2, 99]) == {1, 2}


async def test_the_same_value_of_two_types_is_two_identities(backend: Backend) -> None:
    await backend.one(Create(1), Link(1, "other", "x"), Link(1, "other2", "y"))
    view = (await backend.see(("other", "y"), ("other2", "x"))).views[SPACE]
    assert view.holders == {("other", "y"): [], ("other2", "x"): []}


async def test_values_beyond_those_in_the_record_are_read_where_they_are_asked_for(backend: Backend) -> None:
    count = INLINE_VALUES + 4
    for identity in others(count):
        await backend.one(*([] if await backend.store.existing([1]) else [Create(1)]), Link(1, *identity))
    beyond = others(4, INLINE_VALUES)
    view = (await backend.see(*beyond[:2], ("other", "v0"), ("other", "never"))).views[SPACE]
    assert view.profiles[1].held == {"other": {f"v{at - 1}": at for at in range(1, INLINE_VALUES + 1)}}
    assert view.profiles[1].more == {"other": 4}
    assert view.further == {(1, beyond[0]): INLINE_VALUES + 1, (1, beyond[1]): INLINE_VALUES + 2}
    assert [view.holds(view.profiles[1], *i) for i in (beyond[1], ("other", "v0"), ("other", "never"))] == [
        True,
        True,
        False,
    ]
    named = (await backend.see(beyond[0], mpids=[1])).views[SPACE]
    assert named.further == {(1, beyond[0]): INLINE_VALUES + 1}


async def test_a_value_beyond_the_record_that_left_and_came_back_is_held(backend: Backend) -> None:
    identity = ("other", f"v{INLINE_VALUES}")
    await backend.one(Create(1), *(Link(1, *i) for i in others(INLINE_VALUES + 1)))
    assert (await backend.see(identity)).views[SPACE].further == {(1, identity): 1}
    await backend.one(Unlink(1, *identity, "removed"))
    assert (await backend.see(identity, mpids=[1])).views[SPACE].further == {}
    await backend.one(Link(1, *identity))
    view = (await backend.see(identity, mpids=[1])).views[SPACE]
    assert view.holders == {identity: [(3, 1)]}
    # a place in the record was free only where one of its own values had left
    assert (view.further, view.profiles[1].more) == ({(1, identity): 3}, {"other": 1})
    await backend.group(
        draft(Unlink(1, *identity, "removed")), draft(Link(1, *identity)), draft(Unlink(1, *identity, "removed")),
        draft(Link(1, *identity)),
    )  # fmt: skip
    view = (await backend.see(identity, mpids=[1])).views[SPACE]
    assert (view.holders, view.further) == ({identity: [(7, 1)]}, {(1, identity): 7})
    await assert_store_is(backend.store, await fold_of(backend.store))


async def test_a_value_beyond_the_record_that_many_hold_since_is_still_held(backend: Backend) -> None:
    shared, own = ("other", f"v{INLINE_VALUES}"), ("email", "a@example.com")
    await backend.one(Create(-1), Link(-1, *own), *(Link(-1, *i) for i in others(INLINE_VALUES + 1)))
    crowd = [draft(Create(mpid), Link(mpid, *shared)) for mpid in range(1, HOLDERS_READ + 51)]
    await backend.group(*crowd[:75])
    await backend.group(*crowd[75:])
    view = (await backend.see(shared, own)).views[SPACE]
    assert -1 not in {mpid for _, mpid in view.holders[shared]}
    assert view.further == {(-1, shared): 1}
    await backend.one(Unlink(-1, *shared, "removed"))
    assert (await backend.see(shared, own)).views[SPACE].further == {}
    await backend.one(Link(-1, *shared))
    view = (await backend.see(shared, own)).views[SPACE]
    assert view.further == {(-1, shared): HOLDERS_READ + 53}
    assert view.holders[shared][0] == (HOLDERS_READ + 53, -1)


async def test_a_type_whose_record_was_emptied_is_still_held_by_what_lies_beyond(backend: Backend) -> None:
    await backend.one(Create(1), *(Link(1, *i) for i in others(INLINE_VALUES + 1)))
    await backend.one(*(Unlink(1, *i, "removed") for i in others(INLINE_VALUES)))
    last = ("other", f"v{INLINE_VALUES}")
    view = (await backend.see(last)).views[SPACE]
    assert (view.profiles[1].held, view.profiles[1].more) == ({"other": {}}, {"other": 1})
    assert view.further == {(1, last): 1}
    await backend.one(Unlink(1, *last, "removed"))
    view = (await backend.see(last, mpids=[1])).views[SPACE]
    assert view.profiles[1] == Profile(1, 1)
    assert view.holders == {last: []}


async def test_which_requests_were_answered_is_told_by_input_and_id(backend: Backend) -> None:
    await backend.group(
        Draft(request_id="r1"),
        Draft(request_id="r1", input="shop/server"),
        Draft(request_id=""),
        Draft(request_id="r2"),
    )
    keys = [
        request_key(*name)
        for name in (("shop/web", "r1"), ("shop/server", "r1"), ("solo/app", "r1"), ("shop/web", "r2"))
    ]
    assert (await backend.store.read({}, keys)).answered == {keys[0]: 1, keys[1]: 2, keys[3]: 4}
    assert await backend.store.find_request("r1") == [1, 2]
    assert await backend.store.find_request("r3") == []
    assert await backend.store.find_request("") == []


# -- keep and commit ------------------------------------------------------------------------------------------------


async def test_what_was_kept_is_seen_by_the_next_decision_of_the_group_and_by_all_once_committed(
    backend: Backend,
) -> None:
    reading = await backend.see(EMAIL, mpids=[1])
    key = request_key("shop/web", "r1")
    assert reading.keep(entry_of(draft(Create(1), Link(1, *EMAIL), request_id="r1"))) == 1
    assert (reading.position, reading.answered) == (2, {key: 1})
    assert reading.views[SPACE].holders == {EMAIL: [(1, 1)]}
    assert (await backend.see(EMAIL, mpids=[1])).views[SPACE].profiles == {}
    assert backend.store.position == 0
    await backend.store.commit(reading)
    await backend.settle()
    view = (await backend.see(EMAIL)).views[SPACE]
    assert view.holders == {EMAIL: [(1, 1)]}
    assert view.profiles == {1: Profile(1, 1, {"email": {EMAIL[1]: 1}})}
    assert (await backend.store.read({}, [key])).answered == {key: 1}
    assert backend.store.position == 1


async def test_a_reading_that_is_let_go_leaves_nothing(backend: Backend) -> None:
    await backend.one(Create(1), *(Link(1, *i) for i in others(INLINE_VALUES + 1)))
    before = await backend.store.profile(1)
    drafts = [draft(Unlink(1, "other", "v0", "removed"), Link(1, *EMAIL), Guard(*DEVICE, "max_values_per_profile"))]
    reading = await backend.store.read(wanted_by(drafts))
    reading.keep(entry_of(drafts[0]))
    assert await backend.store.profile(1) == before
    assert await backend.store.guarded(SPACE) == []
    assert await backend.one(Create(2), Link(2, *EMAIL)) == 2
    await assert_store_is(backend.store, await fold_of(backend.store))


async def test_a_group_without_entries_is_a_no_op(backend: Backend) -> None:
    await backend.one(Create(1), Link(1, *EMAIL))
    await backend.store.commit(await backend.see(EMAIL))
    await backend.settle()
    assert backend.store.position == 1
    assert len([row async for row in backend.store.entries()]) == 1


async def test_an_entry_without_changes_is_kept(backend: Backend) -> None:
    assert await backend.one() == 1
    assert await backend.one(request_id="r1") == 2
    assert backend.store.position == 2
    assert await backend.store.entry(1) == entry_of(draft())
    assert await backend.store.find_request("r1") == [2]


async def test_a_unique_value_that_moves_has_one_holder(backend: Backend) -> None:
    await backend.group(draft(Create(1), Link(1, *EMAIL)), draft(Create(2)))
    for loser, winner in ((1, 2), (2, 1), (1, 2)):
        await backend.one(Unlink(loser, *EMAIL, "moved", winner), Link(winner, *EMAIL))
    view = (await backend.see(EMAIL, mpids=[1])).views[SPACE]
    assert view.holders == {EMAIL: [(5, 2)]}
    assert view.profiles[1] == Profile(1, 1)
    first = await backend.store.profile(1)
    assert first is not None
    assert first.identities == []
    assert first.history == [History(1, 3, *EMAIL, 1, "moved", 2), History(1, 5, *EMAIL, 4, "moved", 2)]
    assert first.decisions == [1, 3, 4, 5]


async def test_a_value_that_comes_and_goes_within_a_decision_ends_as_the_decision_ends(backend: Backend) -> None:
    await backend.one(Create(1), Link(1, "other", "a"))
    link_a, link_b = Link(1, "other", "a"), Link(1, "other", "b")
    gone_a, gone_b = Unlink(1, "other", "a", "modified"), Unlink(1, "other", "b", "modified")
    await backend.one(link_b, gone_b, link_b)
    await backend.one(gone_a, link_a, gone_a)
    view = (await backend.see(("other", "a"), ("other", "b"))).views[SPACE]
    assert view.holders == {("other", "a"): [], ("other", "b"): [(2, 1)]}
    profile = await backend.store.profile(1)
    assert profile is not None
    assert profile.identities == [("other", "b", 2)]
    assert profile.history == [History(1, 3, "other", "a", 1, "modified", 0)]
    await backend.one(*(Link(1, *i) for i in others(INLINE_VALUES)))
    await backend.one(link_a, gone_a, link_a, gone_a, link_a)
    await assert_store_is(backend.store, await fold_of(backend.store))


async def test_words_that_look_like_something_else_are_kept_as_they_are(backend: Backend) -> None:
    links = [Link(1, "other", word) for word in WORDS]
    await backend.one(Create(1), *links, *(Guard("other2", word, "max_values_per_profile") for word in WORDS))
    await backend.one(*(Unlink(1, "other", word, "removed") for word in WORDS[::2]), request_id=WORDS[0])
    assert await backend.store.find_request(WORDS[0]) == [2]
    assert {row[1] for row in await backend.store.guarded(SPACE)} == set(WORDS)
    await assert_store_is(backend.store, await fold_of(backend.store))


async def test_every_64_bit_mpid_can_be_kept(backend: Backend) -> None:
    for mpid in (FIRST, -1, 1, LAST):
        await backend.one(Create(mpid), *(Link(mpid, *i) for i in others(INLINE_VALUES + 1)))
    view = (await backend.see(("other", "v8"), mpids=[FIRST, LAST])).views[SPACE]
    assert [mpid for _, mpid in view.holders["other", "v8"]] == [LAST, 1, -1, FIRST]
    assert {mpid for mpid, _ in view.further} == {FIRST, -1, 1, LAST}
    assert await backend.store.existing([FIRST, 5, LAST]) == {FIRST, LAST}
    await assert_store_is(backend.store, await fold_of(backend.store))


# -- guards ---------------------------------------------------------------------------------------------------------


async def test_guarded_values_are_told_until_they_are_released(backend: Backend) -> None:
    await backend.one(Guard(*DEVICE, "max_known_profiles_per_value"), Guard(*EMAIL, "max_values_per_profile"))
    await backend.one(Guard("other", "late", "max_values_per_profile"))
    assert (await backend.see(DEVICE, ("other", "x"))).views[SPACE].guarded == {DEVICE}
    told = await backend.store.guarded(SPACE)
    assert sorted(told) == [
        (*DEVICE, "max_known_profiles_per_value", 1), (*EMAIL, "max_values_per_profile", 1),
        ("other", "late", "max_values_per_profile", 2),
    ]  # fmt: skip
    assert [row[3] for row in told] == [1, 1, 2]
    await backend.one(Release(*DEVICE))
    assert (await backend.see(DEVICE, EMAIL)).views[SPACE].guarded == {EMAIL}
    assert [row[:2] for row in await backend.store.guarded(SPACE)] == [EMAIL, ("other", "late")]
    assert await backend.store.guarded(OTHER_SPACE) == []


async def test_the_last_word_of_a_group_on_a_guarded_value_counts(backend: Backend) -> None:
    guard, release = draft(Guard(*DEVICE, "max_values_per_profile")), draft(Release(*DEVICE))
    await backend.group(guard, release, guard)
    assert (await backend.see(DEVICE)).views[SPACE].guarded == {DEVICE}
    assert await backend.store.guarded(SPACE) == [(*DEVICE, "max_values_per_profile", 3)]
    await backend.group(release, guard, release)
    assert (await backend.see(DEVICE)).views[SPACE].guarded == set()
    assert await backend.store.guarded(SPACE) == []


# -- looking things up ----------------------------------------------------------------------------------------------


async def test_the_journal_is_told_in_its_order_from_any_position_on(backend: Backend) -> None:
    kept: list[tuple[int, Entry]] = []
    for size in (1, 3, 2):
        drafts = [draft(request_id=f"r{len(kept) + number}") for number in range(size)]
        kept += zip(await backend.group(*drafts), map(entry_of, drafts), strict=True)
    assert [at for at, _ in kept] == [1, 2, 3, 4, 5, 6]
    assert [row async for row in backend.store.entries()] == kept
    assert [row async for row in backend.store.entries(4)] == kept[4:]
    assert [row async for row in backend.store.entries(6)] == []
    assert await backend.store.entry(3) == kept[2][1]
    assert await backend.store.entry(0) is None
    assert await backend.store.entry(7) is None


async def test_a_profile_is_told_with_what_it_held_and_what_concerned_it(backend: Backend) -> None:
    await backend.one(Create(1), Link(1, *DEVICE))
    await backend.one(Create(2), Link(2, "customerid", "c"))
    await backend.one(Link(1, *EMAIL))
    await backend.one(Unlink(1, *DEVICE, "replaced"), Link(1, DEVICE[0], "d2"))
    await backend.one(Alias(2, 1, 10, 20, 30))
    await backend.group(Draft(mpid=1, refused=(Refused("customerid", "c", "unique", 2),)), Draft(mpid=1))
    assert await backend.store.profile(1) == StoredProfile(
        1, SPACE, 1, [(*EMAIL, 3), (DEVICE[0], "d2", 4)], [History(1, 4, *DEVICE, 1, "replaced", 0)], [1, 3, 4, 5, 6]
    )
    second = await backend.store.profile(2)
    assert second is not None
    assert second.decisions == [2, 5]
    assert await backend.store.profile(3) is None


async def test_a_profile_that_was_created_refused_counts_the_decision_once(backend: Backend) -> None:
    await backend.group(Draft((Create(1),), mpid=1, refused=(Refused(*EMAIL, "unique", 2),)))
    profile = await backend.store.profile(1)
    assert profile is not None
    assert profile.decisions == [1]


# -- policies -------------------------------------------------------------------------------------------------------


async def test_policy_versions_count_by_scope_and_hold_from_the_next_position(backend: Backend) -> None:
    store = backend.store
    one = await store.add_policy("acme", AT_MS, '{"a":1}')
    assert one == PolicyVersion("acme", 1, AT_MS, 1, '{"a":1}')
    two = await store.add_policy("acme", AT_MS + 1, '{"a":2}')
    assert (two.version, two.position) == (2, 1)
    await backend.one(Create(1))
    other = await backend.store.add_policy("solo", AT_MS + 2, "{}")
    assert (other.version, other.position) == (1, 2)
    await backend.one()
    three = await backend.store.add_policy("acme", AT_MS + 3, '{"a":1}')
    assert (three.version, three.position) == (3, 3)
    assert await backend.store.policies() == [one, two, other, three]
    await backend.reopen()
    assert await backend.store.policies() == [one, two, other, three]


async def test_policy_versions_keep_their_order_when_the_clock_goes_back(backend: Backend) -> None:
    for number in range(4):
        await backend.store.add_policy("acme", AT_MS - number * 1_000, f"{{{number}}}")
        if number == 1:
            await backend.one(Create(1))
    assert [row.version for row in await backend.store.policies()] == [1, 2, 3, 4]


# -- opening and closing --------------------------------------------------------------------------------------------


async def test_what_was_kept_is_there_when_the_store_is_opened_again(backend: Backend) -> None:
    await backend.group(
        draft(Create(1), *(Link(1, *i) for i in others(INLINE_VALUES + 2)), request_id="r1"),
        draft(Create(2), Link(2, *EMAIL), request_id="r2"),
        draft(Unlink(2, *EMAIL, "moved", 1), Link(1, *EMAIL), Guard(*DEVICE, "max_values_per_profile")),
        draft(Unlink(1, "other", f"v{INLINE_VALUES}", "removed"), Alias(1, 2, 1, 2, 3)),
    )
    fold = await fold_of(backend.store)
    for _ in range(3):
        await assert_store_is(backend.store, fold, margin=3)
        await backend.reopen()
    assert await backend.one(Create(3)) == 5


async def test_a_store_that_is_not_open_may_be_closed(backend: Backend) -> None:
    await backend.make().close()
    await backend.stop()
    await backend.store.close()
    await backend.start()


async def test_many_small_groups_come_to_what_their_journal_says(backend: Backend) -> None:
    dice = random.Random(20)
    held: set[tuple[int, str]] = set()
    await backend.group(*(draft(Create(mpid)) for mpid in range(1, 6)))
    for _ in range(40):
        drafts = []
        for _ in range(dice.randrange(1, 4)):
            mpid, value = dice.randrange(1, 6), f"v{dice.randrange(14)}"
            change = Unlink(mpid, "other", value, "removed") if (mpid, value) in held else Link(mpid, "other", value)
            held ^= {(mpid, value)}
            drafts.append(draft(change))
        await backend.group(*drafts)
    await assert_store_is(backend.store, await fold_of(backend.store))
