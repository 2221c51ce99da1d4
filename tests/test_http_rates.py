"""How often something may happen, and what those are told who ask too often (docs/events.md, "Limits")."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_batches import BATCH_PATHS, CREDENTIALS, OLD, body_for
from http_edge import (
    BASIC,
    CONFIG,
    FORWARDING_PATHS,
    KEY,
    NOW,
    SHOP,
    WEB_EVENT_PATHS,
    StrawEngine,
    ask,
    basic,
    batch,
)
from oneself.http import App, Siblings, create_app
from oneself.http.rates import Rate


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The clock of every rate that the edge makes from now on."""
    clock = Clock()
    monkeypatch.setattr("oneself.http.events.Rate", partial(Rate, clock=clock))
    return clock


def limited(engine: StrawEngine, per_second: int, siblings: Siblings | None = None) -> App:
    workspaces = (msgspec.structs.replace(SHOP, max_batches_per_second=per_second), *CONFIG.workspaces[1:])
    return create_app(
        msgspec.structs.replace(CONFIG, workspaces=workspaces), engine, clock=lambda: NOW, siblings=siblings
    )


# -- the bucket ----------------------------------------------------------------------------------------------------


def test_a_second_s_worth_at_once_and_then_on_average() -> None:
    clock = Clock()
    rate = Rate(4, clock)
    assert [rate.take() for _ in range(5)] == [0, 0, 0, 0, 1]
    clock.now += 0.25
    assert [rate.take(), rate.take()] == [0, 1]
    clock.now += 100
    assert [rate.take() for _ in range(5)] == [0, 0, 0, 0, 1]


def test_what_is_refused_costs_nothing() -> None:
    clock = Clock()
    rate = Rate(2, clock)
    assert rate.take(2) == 0
    assert [rate.take() for _ in range(50)] == [1] * 50
    clock.now += 0.5
    assert rate.take() == 0


def test_more_than_a_second_s_worth_has_to_be_made_up_for() -> None:
    clock = Clock()
    rate = Rate(10, clock)
    assert rate.take() == 0
    assert rate.take(100) == 1  # not while a second's worth is not whole
    clock.now += 1
    assert rate.take(100) == 0
    assert rate.take() == 10
    clock.now += 9
    assert rate.take() == 1
    clock.now += 1
    assert rate.take() == 0


def test_zero_is_no_limit() -> None:
    rate = Rate(0)
    assert [rate.take(10**9) for _ in range(3)] == [0, 0, 0]
    assert rate.used() == 0


def test_how_much_is_used() -> None:
    clock = Clock()
    rate = Rate(10, clock)
    assert rate.used() == 0
    rate.take(4)
    assert rate.used() == 40
    clock.now += 0.2
    assert rate.used() == 20
    clock.now += 60
    rate.take(30)
    assert rate.used() == 100


@given(
    per_second=st.integers(1, 500),
    asked=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 100)), min_size=1, max_size=60),
)
def test_never_more_than_the_rate_and_never_later_than_said(per_second: int, asked: list[tuple[float, int]]) -> None:
    """Over any time the rate holds, but for one second's worth and the last that was taken; waits are whole."""
    clock = Clock()
    rate = Rate(per_second, clock)
    began, taken, last = clock.now, 0, 0
    for pause, count in asked:
        clock.now += pause
        wait = rate.take(count)
        assert isinstance(wait, int)
        if wait:
            assert wait >= 1
            clock.now += wait + 1e-6
            assert rate.take(count) == 0
        taken, last = taken + count, count
        assert taken <= (clock.now - began) * per_second + per_second + last + 1e-3
        assert 0 <= rate.used() <= 100


# -- the answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*BATCH_PATHS, *WEB_EVENT_PATHS])
def test_too_many_batches_are_told_to_wait(path: str, clock: Clock) -> None:
    engine = StrawEngine()
    app = limited(engine, 2)
    first, second, third = (ask(app, "POST", path, body_for(path), CREDENTIALS[path]) for _ in range(3))
    assert [answer.status for answer in (first, second, third)] == [202, 202, 429]
    assert first.headers["x-mp-rate-limit-percentage-used"] == "50"
    assert second.headers["x-mp-rate-limit-percentage-used"] == "100"
    assert third.headers["retry-after"] == "1"
    assert third.headers["x-mp-rate-limit-exceeded"] == ("feed" if CREDENTIALS[path] == BASIC else "app")
    assert third.headers["access-control-allow-origin"] == "*"
    assert third.json["code"] == "TOO_MANY_REQUESTS"
    assert "max_batches_per_second" in third.message
    assert len(engine.calls) == 2
    clock.now += 0.5
    assert ask(app, "POST", path, body_for(path), CREDENTIALS[path]).status == 202


def test_each_input_has_its_own_and_other_workspaces_have_none(clock: Clock) -> None:
    app = limited(StrawEngine(), 1)
    callers = [BASIC, KEY, {"x-mp-key": "bare-key"}]
    for wanted in (202, 429):
        assert [ask(app, "POST", "/v2/events", batch(), caller).status for caller in callers] == [wanted] * 3
        assert ask(app, "POST", WEB_EVENT_PATHS[0], batch(), {}).status == 429
    for _ in range(5):
        answer = ask(app, "POST", "/v2/events", batch(), basic("other-key", "other-secret"))
        assert answer.status == 202
        assert "x-mp-rate-limit-percentage-used" not in answer.headers
    assert ask(app, "POST", FORWARDING_PATHS[0], {}, {}).status == 202
    assert ask(app, "POST", "/v1/identify", b'{"environment":"production"}', KEY).status == 400


@pytest.mark.parametrize(("per_second", "at_once", "wait"), [(8, 2, 1), (4, 1, 1), (1, 1, 4)])
def test_each_of_several_workers_allows_its_share(
    per_second: int, at_once: int, wait: int, clock: Clock, tmp_path: Path
) -> None:
    app = limited(StrawEngine(), per_second, Siblings(tmp_path, 0, 4))
    for _ in range(3):
        answers = [ask(app, "POST", "/v2/events", batch(), BASIC) for _ in range(at_once + 1)]
        assert [answer.status for answer in answers] == [202] * at_once + [429]
        assert answers[-1].headers["retry-after"] == str(wait)
        clock.now += wait


def test_each_of_many_batches_counts(clock: Clock) -> None:
    engine = StrawEngine()
    app = limited(engine, 10)
    assert ask(app, "POST", "/v2/bulkevents", [batch(OLD)] * 6, BASIC).status == 202
    refused = ask(app, "POST", "/v2/bulkevents", [batch(OLD)] * 6, BASIC)
    assert (refused.status, len(engine.calls)) == (429, 6)
    assert ask(app, "POST", "/v2/bulkevents", [batch(OLD)] * 4, BASIC).status == 202
    clock.now += 1
    assert ask(app, "POST", "/v2/bulkevents", [batch(OLD)] * 100, BASIC).status == 202
    later = ask(app, "POST", "/v2/bulkevents", [batch(OLD)], BASIC)
    assert (later.status, later.headers["retry-after"]) == (429, "10")
