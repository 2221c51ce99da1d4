"""The engine: idempotent, in one order, all of a group or nothing, never longer a queue than it can answer."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest

from histories import INPUTS, SCOPES, Caller, counted, in_bursts, mpid_of
from journal_fold import assert_store_is, assert_unique, fold_of, replay
from oneself.engine import Call, Engine, Outcome, adopt_policies
from oneself.engine import engine as engine_module
from oneself.errors import Overloaded, StoreDamaged, StoreUnavailable
from oneself.identity import IdentityChange, PolicySettings, Request, build
from oneself.identity.policy import Strategy
from oneself.store import EmbeddedStore, Reading, Store
from store_factories import BACKENDS, Backend, InMemory, Mixed

pytestmark = pytest.mark.anyio

SPACE = "acme/production"
DEVICE = {"device_application_stamp": "d1"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Faulty(EmbeddedStore):
    """A store whose commits fail, wait or count when the test says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.fault: BaseException | None = None
        self.gate: asyncio.Event | None = None
        self.groups: list[int] = []

    def begin(self, reading: Reading) -> Awaitable[None]:
        if self.fault is not None:
            raise self.fault
        self.groups.append(len(reading.effects.entries))
        begun = super().begin(reading)
        return begun if self.gate is None else self._wait(self.gate, begun)

    async def _wait(self, gate: asyncio.Event, begun: Awaitable[None]) -> None:
        await gate.wait()
        await begun


class FullDisk(EmbeddedStore):
    """A store whose journal refuses to be synced some times, and waits for ``go`` before each."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.refusals = 0
        self.go = threading.Event()
        self.go.set()

    def _sync(self) -> None:
        assert self.go.wait(20)
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("The disk is full.")
        super()._sync()


@asynccontextmanager
async def running(store: Store, scopes: dict[str, PolicySettings] = SCOPES, **options: Any) -> AsyncIterator[Engine]:
    """An engine at work on an open store."""
    options.setdefault("mpids", counted())
    engine = Engine(store, await adopt_policies(store, scopes, lambda: 0), **options)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


@asynccontextmanager
async def working(folder: Path, **options: Any) -> AsyncIterator[tuple[Engine, Faulty]]:
    """An engine at work on a store that can be told to fail."""
    store = Faulty(folder / "data")
    await store.open()
    try:
        async with running(store, **options) as engine:
            try:
                yield engine, store
            finally:
                store.fault = None
                if store.gate is not None:
                    store.gate.set()
    finally:
        await store.close()


def identify(request_id: str = "", *, read_only: bool = False, input: str = "shop/web", **identities: str) -> Call:
    return Call(SPACE, input, Request("identify", dict(identities or DEVICE)), request_id, read_only)


def logout(request_id: str = "", **identities: str) -> Call:
    return Call(SPACE, "shop/web", Request("logout", dict(identities or DEVICE)), request_id)


async def all_of(engine: Engine, *calls: Call) -> list[Outcome]:
    """Submit calls at once, so that they stand in one group, and return their outcomes."""
    return list(await asyncio.gather(*[engine.submit(made) for made in calls]))


# -- idempotence --------------------------------------------------------------------------------------------------


async def test_a_repeated_request_gets_the_same_answer_and_has_no_second_effect(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        first = await engine.submit(logout("r1"))
        again = await engine.submit(logout("r1"))
        assert (first.repeated, again.repeated) == (False, True)
        assert (again.decision, again.position, again.request) == (first.decision, 1, first.request)
        assert store.position == 1
        assert (await engine.submit(logout("r2"))).decision.mpid != first.decision.mpid


async def test_a_request_repeated_within_its_group_is_answered_once(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        outcomes = await all_of(engine, logout("r1"), logout("r2"), logout("r1"), logout("r1"))
        assert store.groups == [2]
        assert [outcome.repeated for outcome in outcomes] == [False, False, True, True]
        assert {outcome.decision.mpid for outcome in (outcomes[0], *outcomes[2:])} == {mpid_of(1)}
        assert [outcome.position for outcome in outcomes] == [1, 2, 1, 1]


@pytest.mark.parametrize("crash", [False, True])
async def test_a_repeated_request_gets_the_same_answer_after_a_restart(tmp_path: Path, crash: bool) -> None:
    backend = InMemory(tmp_path)
    await backend.start()
    async with running(backend.store) as engine:
        first = await all_of(engine, logout("r1"), logout("r2"))
    await (backend.crash() if crash else backend.reopen())
    async with running(backend.store, mpids=lambda: 77) as engine:
        again = await all_of(engine, logout("r2"), logout("r1"))
    assert [outcome.decision for outcome in again] == [first[1].decision, first[0].decision]
    assert backend.store.position == 2
    await backend.stop()


async def test_requests_of_two_inputs_with_one_id_are_two_requests(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        outcomes = await all_of(engine, *(identify("r1", input=name) for name in INPUTS))
        assert not any(outcome.repeated for outcome in outcomes)
        assert await store.find_request("r1") == [1, 2, 3]


async def test_requests_without_an_id_are_each_decided(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, _):
        outcomes = await all_of(engine, logout(), logout())
        assert len({outcome.decision.mpid for outcome in outcomes}) == 2


async def test_an_id_that_was_used_for_another_kind_is_refused_and_nothing_is_done(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        first, second = await all_of(engine, identify("r1"), logout("r1"))
        third = await engine.submit(Call(SPACE, "shop/web", Request("modify", mpid=5), "r1"))
        for outcome in (second, third):
            assert outcome.decision.error is not None
            assert (outcome.decision.error.status, outcome.decision.error.code) == (400, "BAD_REQUEST")
            assert "request_id" in outcome.decision.error.message
            assert (outcome.decision.mpid, outcome.position) == (None, 0)
        assert store.position == 1
        assert (await engine.submit(identify("r1"))).decision == first.decision


async def test_a_refusal_is_repeated_too(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        first = await engine.submit(identify("r1", email="null"))
        again = await engine.submit(identify("r1", email="null"))
        assert first.decision.error is not None
        assert (again.decision, again.repeated, store.position) == (first.decision, True, 1)


# -- what writes nothing --------------------------------------------------------------------------------------------


async def test_searches_and_read_only_requests_write_nothing(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        known = await engine.submit(identify(email="a@example.com"))
        before = [row async for row in store.entries()]
        mpid = known.decision.mpid
        change = Request("modify", mpid=mpid, changes=(IdentityChange("other", None, "x"),))
        asked = [
            identify("q1", read_only=True, email="a@example.com", other="new"),
            identify("q2", read_only=True, email="b@example.com"),
            Call(SPACE, "shop/web", Request("search", {"email": "a@example.com"}), "q3"),
            Call(SPACE, "shop/web", Request("search", {"email": "b@example.com"}), "q4"),
            Call(SPACE, "shop/web", change, "q5", read_only=True),
        ]
        outcomes = await all_of(engine, *asked)
        assert [outcome.position for outcome in outcomes] == [0, 0, 0, 0, 0]
        assert [outcome.decision.mpid for outcome in outcomes] == [mpid, None, mpid, None, mpid]
        assert outcomes[1].decision.error is None
        assert outcomes[3].decision.error is not None
        assert [row async for row in store.entries()] == before
        assert [await store.find_request(f"q{number}") for number in range(1, 6)] == [[]] * 5
        assert sum(store.groups) == 1


async def test_a_read_only_request_sees_the_requests_that_stand_before_it_in_its_group(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, _):
        before, made, after = await all_of(engine, identify(read_only=True), identify(), identify(read_only=True))
        assert (before.decision.mpid, after.decision.mpid) == (None, made.decision.mpid)


async def test_an_id_that_a_read_only_request_had_is_still_free(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, _):
        asked, made = await all_of(engine, identify("r1", read_only=True), identify("r1"))
        assert (asked.decision.mpid, made.repeated) == (None, False)
        assert made.decision.mpid is not None


# -- new profiles ---------------------------------------------------------------------------------------------------


async def test_an_mpid_that_was_drawn_before_is_not_given_again(tmp_path: Path) -> None:
    drawn = iter([5, 5, 6, 7, 7, 8, 9])
    async with working(tmp_path, mpids=lambda: next(drawn)) as (engine, store):
        assert (await engine.submit(identify())).decision.mpid == 5
        other = Call("acme/development", "shop/web", Request("identify", {**DEVICE}))
        assert (await engine.submit(other)).decision.mpid == 6
        outcomes = await all_of(engine, logout(), logout())
        assert {outcome.decision.mpid for outcome in outcomes} == {8, 9}
        await assert_store_is(store, await fold_of(store))


# -- the journal ----------------------------------------------------------------------------------------------------


async def play(backend: Backend, caller: Caller, engine: Engine, groups: int) -> list[tuple[Call, Outcome]]:
    """Submit a random history in groups of random sizes; return what each call came to."""
    dice = caller.dice
    made: list[tuple[Call, Outcome]] = []
    for _ in range(groups):
        calls = [caller.call() for _ in range(1 + int(dice.expovariate(0.3)))]
        for asked, outcome in zip(calls, await in_bursts(engine, dice, calls), strict=True):
            assert isinstance(outcome, Outcome), repr(outcome)
            made.append((asked, outcome))
            caller.learn(asked, outcome.decision.mpid)
        await backend.settle()
        engine.store = backend.store
    return made


@pytest.mark.parametrize("kind", [Mixed, *BACKENDS], ids=lambda kind: kind.__name__)
async def test_a_store_comes_to_what_its_journal_says_and_the_journal_to_what_was_answered(
    kind: type[Backend], tmp_path: Path, request: pytest.FixtureRequest, small_generations: None
) -> None:
    for round_ in range(4 if kind is Mixed else 1):
        dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} {kind.__name__} {round_}")
        backend = kind(tmp_path / str(round_))
        if isinstance(backend, Mixed):
            backend.dice = dice
        await backend.start()
        async with running(backend.store) as engine:
            made = await play(backend, Caller(dice), engine, 80)
        fold = await fold_of(backend.store)
        await assert_store_is(backend.store, fold, margin=dice.randrange(3))
        for scope, settings in SCOPES.items():
            assert_unique(fold, scope, build(settings))
        assert await replay(backend.store) == fold.position
        assert fold.position > 100
        for asked, outcome in made:
            if outcome.position:
                entry = await backend.store.entry(outcome.position)
                assert entry is not None
                assert (entry.decision, entry.request) == (outcome.decision, outcome.request)
                assert outcome.repeated or entry.request == asked.request
        await backend.reopen()
        await assert_store_is(backend.store, fold)
        await backend.stop()


async def test_a_journal_of_changing_rules_is_decided_again_each_entry_by_its_own(
    tmp_path: Path, request: pytest.FixtureRequest, small_generations: None
) -> None:
    dice = random.Random(f"{request.config.getoption('--hypothesis-seed')} changing rules")
    backend, caller, mpids = Mixed(tmp_path), Caller(dice), counted()
    backend.dice = dice
    await backend.start()
    for _ in range(6):
        strategies = dice.choices(get_args(Strategy), k=len(SCOPES))
        scopes = {
            scope: PolicySettings(strategy, max_known_profiles_per_value=dice.choice((0, 2, 20)), alias_delay=0)
            for scope, strategy in zip(SCOPES, strategies, strict=True)
        }
        async with running(backend.store, scopes, mpids=mpids) as engine:
            await play(backend, caller, engine, 20)
    fold = await fold_of(backend.store)
    await assert_store_is(backend.store, fold)
    assert await replay(backend.store) == fold.position
    await backend.stop()


@pytest.fixture
def small_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the embedded engine write its tables after every few rows, not only when a test says so."""
    monkeypatch.setattr("oneself.store.embedded.store.FLUSH_ROWS", 150)


async def test_the_order_of_the_journal_is_that_of_the_answers(tmp_path: Path) -> None:
    """Concurrent callers: an answer's position is past every position answered before the call was made."""
    dice = random.Random(5)
    caller = Caller(dice)
    async with working(tmp_path) as (engine, store):

        async def client(number: int) -> None:
            last = 0
            for step in range(12):
                outcome = await engine.submit(caller.call() if dice.random() < 0.7 else logout(f"c{number} {step}"))
                if outcome.position and not outcome.repeated:
                    assert outcome.position > last
                    last = outcome.position
                if dice.random() < 0.5:
                    await asyncio.sleep(0)

        await asyncio.gather(*[client(number) for number in range(20)])
        assert await replay(store) == store.position
        assert max(store.groups) > 1
        await assert_store_is(store, await fold_of(store))


async def test_one_group_takes_no_more_than_its_limit(tmp_path: Path) -> None:
    async with working(tmp_path, max_group=7) as (engine, store):
        await all_of(engine, *(logout(f"r{number}") for number in range(7)))
        store.gate = asyncio.Event()
        rest = [engine.submit(logout(f"s{number}")) for number in range(7)]
        await asyncio.sleep(0.01)
        rest += [engine.submit(logout(f"t{number}")) for number in range(7)]
        store.gate.set()
        await asyncio.gather(*rest)
        assert store.groups == [7, 7, 7]


# -- overload -------------------------------------------------------------------------------------------------------


async def test_too_many_calls_are_refused_at_once_and_the_others_answered(tmp_path: Path) -> None:
    async with working(tmp_path, max_group=4, max_waiting=10) as (engine, store):
        store.gate = asyncio.Event()
        taken: list[asyncio.Future[Outcome]] = []
        refusals: list[Overloaded] = []
        for number in range(40):
            try:
                taken.append(engine.submit(logout(f"r{number}")))
            except Overloaded as refusal:
                refusals.append(refusal)
            assert engine.waiting <= 10
            if number == 5:
                await asyncio.sleep(0.01)  # what is taken from the queue makes room
        assert len(taken) > 10
        assert refusals
        assert all(type(refusal.retry_after) is int and refusal.retry_after >= 1 for refusal in refusals)
        store.gate.set()
        assert len({(await answer).decision.mpid for answer in taken}) == len(taken)
        assert store.position == len(taken)
        assert (await engine.submit(logout("one more"))).position == len(taken) + 1


async def test_calls_that_would_wait_too_long_are_refused_while_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "MAX_WAIT_SECONDS", 0.0)
    async with working(tmp_path, max_group=4) as (engine, store):
        for turn in range(3):
            await all_of(engine, *(logout(f"r{turn} {number}") for number in range(4)))
        store.gate = asyncio.Event()
        taken = [engine.submit(logout(f"s{number}")) for number in range(4)]
        await asyncio.sleep(0.01)
        taken += [engine.submit(logout(f"t{number}")) for number in range(4)]
        taken.append(engine.submit(logout("one more")))
        with pytest.raises(Overloaded) as refusal:
            engine.submit(logout("too many"))
        assert type(refusal.value.retry_after) is int
        store.gate.set()
        await asyncio.gather(*taken)


async def test_a_burst_after_quiet_is_answered(tmp_path: Path) -> None:
    """Lone requests say nothing of how many could be answered together."""
    async with working(tmp_path, max_group=8) as (engine, store):
        commit = store._sync

        def slow() -> None:
            threading.Event().wait(0.05)
            commit()

        store._sync = slow  # type: ignore[method-assign]
        for number in range(10):
            await engine.submit(logout(f"r{number}"))
        outcomes = await all_of(engine, *(logout(f"s{number}") for number in range(100)))
        assert len({outcome.decision.mpid for outcome in outcomes}) == 100


# -- faults ---------------------------------------------------------------------------------------------------------


async def test_a_group_that_cannot_be_kept_leaves_no_trace(tmp_path: Path) -> None:
    backend = InMemory(tmp_path)
    store = FullDisk(tmp_path / "data")
    backend.store = store
    await store.open()
    async with running(store) as engine:
        held = await engine.submit(identify("r0", email="a@example.com", other="o1"))
        mpid = held.decision.mpid
        assert mpid is not None
        before = await store.profile(mpid)
        store.refusals = 1
        calls = [
            identify("r1", email="a@example.com", other="o2"),
            logout("r2"),
            Call(
                SPACE, "shop/web", Request("modify", mpid=mpid, changes=(IdentityChange("other", "o1", None),)), "r3"
            ),
            identify(read_only=True, email="a@example.com"),
        ]
        answers = await asyncio.gather(*[engine.submit(made) for made in calls], return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailable] * 4
        assert await store.profile(mpid) == before
        assert store.position == 1
        assert [await store.find_request(f"r{number}") for number in range(4)] == [[1], [], [], []]
        assert [at async for at, _ in store.entries()] == [1]
        outcomes = await all_of(engine, *calls)
        assert [outcome.position for outcome in outcomes] == [2, 3, 4, 0]
        assert not any(outcome.repeated for outcome in outcomes)
        await assert_store_is(store, await fold_of(store))
    await backend.crash()
    await assert_store_is(backend.store, await fold_of(backend.store))
    await backend.stop()


@pytest.mark.parametrize("refused", [False, True])
async def test_what_is_decided_while_a_group_is_on_its_way_sees_it_and_is_decided_again_if_that_fails(
    tmp_path: Path, refused: bool
) -> None:
    store = FullDisk(tmp_path / "data")
    await store.open()
    async with running(store) as engine:
        held = (await engine.submit(identify("r0", email="a@example.com"))).decision.mpid
        store.refusals = int(refused)
        store.go.clear()
        change = Request("modify", mpid=held, changes=(IdentityChange("email", "a@example.com", None),))
        first = [engine.submit(identify("r1")), engine.submit(Call(SPACE, "shop/web", change, "r2"))]
        await asyncio.sleep(0.01)
        second = [
            engine.submit(identify("r1")),
            engine.submit(identify("r3")),
            engine.submit(identify("r4", email="a@example.com")),
            engine.submit(identify(read_only=True, other="o1", email="a@example.com")),
        ]
        await asyncio.sleep(0.01)
        third = engine.submit(identify(read_only=True))
        await asyncio.sleep(0.01)
        early = [answer.done() for answer in (*first, *second, third)]
        told = store.position, [at async for at, _ in store.entries()], await store.find_request("r1")
        store.go.set()
        answers = await asyncio.gather(*first, return_exceptions=True)
        again, same, found, looked = await asyncio.gather(*second)
        assert not any(early)
        assert told == (1, [1], [])
        assert again.decision.mpid == same.decision.mpid == (await third).decision.mpid
        assert found.decision.mpid == looked.decision.mpid
        if refused:
            assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
            assert [again.repeated, again.position, same.position, found.position] == [False, 2, 3, 4]
            assert found.decision.mpid == held
        else:
            assert [again.repeated, again.position, same.position, found.position] == [True, 2, 4, 5]
            assert found.decision.mpid != held
        await assert_store_is(store, await fold_of(store))
        assert await replay(store) == store.position
    await store.close()


async def test_readiness_goes_when_answers_fail_and_comes_back(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        assert engine.ready
        store.fault = StoreUnavailable("The disk is full.", 3600)
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await engine.submit(identify())
        assert not engine.ready
        store.fault = None
        await engine.submit(identify())
        assert engine.ready
        store.fault = StoreUnavailable("The disk is full.", 0)
        with pytest.raises(StoreUnavailable):
            await engine.submit(identify())
        assert engine.ready  # after that time it may be tried again
        store.fault = None
    assert not engine.ready


async def test_a_damaged_store_is_told_as_such(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        store.fault = StoreDamaged("journal.db is damaged.")
        with pytest.raises(StoreUnavailable, match=r"journal\.db is damaged"):
            await engine.submit(identify())
        assert not engine.ready
        store.fault = None
        await engine.submit(identify())


async def test_a_call_that_cannot_be_kept_does_not_fail_its_neighbours(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        unwritable = identify("r2", other="\ud800")
        answers = await asyncio.gather(
            *[engine.submit(made) for made in (logout("r1"), unwritable, logout("r3"))], return_exceptions=True
        )
        assert isinstance(answers[1], UnicodeEncodeError)
        for answer in (answers[0], answers[2]):
            assert isinstance(answer, Outcome)
        assert engine.ready
        assert store.position == 2
        await assert_store_is(store, await fold_of(store))


async def test_a_call_that_was_given_up_does_not_hurt_its_neighbours(tmp_path: Path) -> None:
    async with working(tmp_path) as (engine, store):
        first, given_up, last = (engine.submit(logout(f"r{number}")) for number in range(3))
        given_up.cancel()
        assert len({(await first).decision.mpid, (await last).decision.mpid}) == 2
        assert given_up.cancelled()
        store.fault = StoreUnavailable("The disk is full.")
        first, given_up, last = (engine.submit(logout(f"s{number}")) for number in range(3))
        given_up.cancel()
        for answer in (first, last):
            with pytest.raises(StoreUnavailable):
                await answer
        store.fault = None
        assert (await engine.submit(logout("t"))).decision.mpid is not None


# -- starting and stopping ------------------------------------------------------------------------------------------


async def test_stopping_answers_what_was_accepted(tmp_path: Path) -> None:
    async with working(tmp_path, max_group=3) as (engine, store):
        store.gate = asyncio.Event()
        answers = [engine.submit(logout(f"r{number}")) for number in range(10)]
        stopping = asyncio.create_task(engine.stop())
        await asyncio.sleep(0.01)
        assert not stopping.done()
        assert not engine.ready
        with pytest.raises(StoreUnavailable):
            engine.submit(logout("late"))
        store.gate.set()
        await stopping
        assert all(answer.done() for answer in answers)
        assert len({answer.result().decision.mpid for answer in answers}) == 10
        assert store.position == 10


async def test_an_engine_that_was_not_started_takes_no_calls(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "data")
    await store.open()
    engine = Engine(store, await adopt_policies(store, SCOPES, lambda: 0))
    assert not engine.ready
    with pytest.raises(StoreUnavailable):
        engine.submit(identify())
    await engine.stop()
    await store.close()


async def test_each_group_is_reported_with_its_size(tmp_path: Path) -> None:
    sizes: list[int] = []
    report: Callable[[int, float], None] = lambda size, seconds: sizes.append(size if seconds > 0 else -1)  # noqa: E731
    async with working(tmp_path, on_group=report) as (engine, _):
        await all_of(engine, logout(), logout(), logout())
        await engine.submit(identify())
    assert sizes == [3, 1]


# -- policies -------------------------------------------------------------------------------------------------------


async def test_settings_that_are_new_become_the_next_version_of_their_scope(tmp_path: Path) -> None:
    backend = InMemory(tmp_path)
    await backend.start()
    first, second = {"acme": PolicySettings()}, {"acme": PolicySettings("profile_link"), "solo": PolicySettings()}
    clock = iter(range(1_000, 0, -100))  # a clock that goes back does not change what is newest

    async def adopt(scopes: dict[str, PolicySettings]) -> dict[str, int]:
        governing = await adopt_policies(backend.store, scopes, lambda: next(clock))
        for scope, settings in scopes.items():
            assert governing[scope].policy == build(settings)
        return {scope: of.version for scope, of in governing.items()}

    assert await adopt(first) == {"acme": 1}
    assert await adopt(first) == {"acme": 1}
    assert await adopt(second) == {"acme": 2, "solo": 1}
    assert await adopt(second) == {"acme": 2, "solo": 1}
    await backend.reopen()
    assert await adopt(second) == {"acme": 2, "solo": 1}
    assert await adopt(first) == {"acme": 3}
    assert [(row.scope, row.version) for row in await backend.store.policies()] == [
        ("acme", 1), ("solo", 1), ("acme", 2), ("acme", 3),
    ]  # fmt: skip
    await backend.stop()


async def test_entries_name_the_policy_version_that_decided(tmp_path: Path) -> None:
    backend = InMemory(tmp_path)
    await backend.start()
    for strategy in ("default", "profile_isolation", "default"):
        scopes = {"acme": PolicySettings(strategy, alias_delay=0)}
        engine = Engine(backend.store, await adopt_policies(backend.store, scopes, lambda: 0))
        await engine.start()
        for number in range(3):
            await engine.submit(logout(email=f"{number % 2}@example.com", device_application_stamp="d"))
        await engine.stop()
        await backend.reopen()
    assert [entry.policy async for _, entry in backend.store.entries()] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert await replay(backend.store) == 9
    await backend.stop()
