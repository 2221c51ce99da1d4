"""Properties of the identity core, on random policies and random histories."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import assume, event, given, note, settings

from identity_histories import CODE, Code, History, histories, request_of
from identity_world import NOW_MS, World, holdings
from oneself.identity import Decision, Request, View, apply, decide, prepare
from oneself.identity.model import Link
from oneself.journal import Entry, decode, encode


def play(history: History) -> Iterator[tuple[World, Request, Decision]]:
    """Run a history, judged by the model; yield each step after it was taken."""
    world = World(history.policy)
    note(str(history.policy))
    for code in history.codes:
        request = request_of(code, history.types, world.model.mpids)
        note(str(request))
        yield world, request, world.run(request, fresh_mpid(world))


def fresh_mpid(world: World) -> int:
    """Return an MPID that no profile has; later ones are not always larger."""
    step = world.position + 1
    return step * 7 % 31 * (-1 if step % 2 else 1)


def played(history: History) -> World:
    """Run a whole history."""
    world = World(history.policy)
    for code in history.codes:
        world.run(request_of(code, history.types, world.model.mpids), fresh_mpid(world))
    return world


@settings(max_examples=6 * settings().max_examples)
@given(histories())
def test_the_core_and_the_reference_model_agree(history: History) -> None:
    for _, request, decision in play(history):
        event(f"{request.kind}: {decision.error.code if decision.error else decision.trace.why}")
        for refused in decision.trace.refused:
            event(f"refused on {'modify' if request.kind == 'modify' else 'link'}: {refused.why}")
        for remark in decision.trace.notes:
            event(f"note: {remark.why}")
        if decision.trace.tie:
            event(f"tie: {decision.trace.tie}")


@given(histories(), CODE)
def test_the_same_arguments_give_the_same_decision_and_change_nothing(history: History, last: bytes) -> None:
    world = played(history)
    request = request_of(last, history.types, world.model.mpids)
    prepared = prepare(history.policy, request)
    view = world.seen(prepared)
    before = snapshot(view)
    first = decide(prepared, view, NOW_MS, 5000)
    assert decide(prepare(history.policy, request), view, NOW_MS, 5000) == first
    assert snapshot(view) == before


@given(histories(), CODE)
def test_seeing_more_than_it_must_does_not_change_a_decision(history: History, last: bytes) -> None:
    world = played(history)
    prepared = prepare(history.policy, request_of(last, history.types, world.model.mpids))
    for identity in prepared.identities:
        world.state.holders.setdefault(identity, [])
    assert decide(prepared, world.state, NOW_MS, 5000) == decide(prepared, world.seen(prepared), NOW_MS, 5000)


@settings(max_examples=2 * settings().max_examples)
@given(histories(), CODE)
def test_identifying_again_changes_nothing(history: History, last: bytes) -> None:
    world = played(history)
    request = Request("identify", Code(last).identities(history.types))
    first = world.run(request, 5000)
    look_ups = prepare(history.policy, request).usable.walk
    assume(not world.model.answer.guarded)
    assume(first.mpid is not None and any(world.model.holds(first.mpid, *look_up) for look_up in look_ups))
    again = world.run(request, 5001)
    assert again.mpid == first.mpid
    assert not again.changes


@given(histories())
def test_a_unique_value_is_never_on_two_profiles(history: History) -> None:
    for world, _, _ in play(history):
        for (type_, _), rows in world.state.holders.items():
            assert type_ not in history.policy.unique or len(rows) <= 1


@given(histories())
def test_a_unique_type_has_one_value_on_a_profile(history: History) -> None:
    for world, _, _ in play(history):
        for profile in world.state.profiles.values():
            assert all(profile.count(type_) <= 1 for type_ in history.policy.unique)


@given(histories())
def test_an_immutable_identity_stays_for_good(history: History) -> None:
    fixed: dict[tuple[int, str], dict[str, int]] = {}
    for world, _, _ in play(history):
        for mpid, profile in world.state.profiles.items():
            for type_ in history.policy.immutable & profile.held.keys():
                fixed.setdefault((mpid, type_), profile.held[type_])
        assert all(world.state.profiles[mpid].held.get(type_) == held for (mpid, type_), held in fixed.items())


@given(histories())
def test_under_create_an_anonymous_profile_becomes_known_only_by_modify(history: History) -> None:
    policy = history.policy
    anonymous: set[int] = set()
    for world, request, _ in play(history):
        known = {mpid for mpid, p in world.state.profiles.items() if not policy.login.isdisjoint(p.held)}
        assert policy.on_new_known != "create" or request.kind == "modify" or not anonymous & known
        anonymous = set(world.state.profiles) - known


@given(histories())
def test_searches_and_refusals_change_nothing(history: History) -> None:
    for _, request, decision in play(history):
        if request.kind == "search" or decision.error:
            assert not decision.changes
        if decision.error:
            assert decision.mpid is None


@given(histories())
def test_only_the_kinds_that_resolve_make_profiles_and_each_at_most_one(history: History) -> None:
    before: set[int] = set()
    for world, request, decision in play(history):
        made = set(world.state.profiles) - before
        assert made <= {decision.mpid}
        assert not made or request.kind in ("identify", "login", "logout")
        before |= made


@given(histories())
def test_a_guarded_value_finds_nobody_and_is_linked_to_nobody(history: History) -> None:
    guarded: set[tuple[str, str]] = set()
    for world, request, decision in play(history):
        linked = {(change.type, change.value) for change in decision.changes if isinstance(change, Link)}
        assert not linked & guarded
        walked = {step.type for step in decision.trace.steps}
        named = prepare(history.policy, request).identities
        assert not walked & {type_ for type_, value in named if (type_, value) in guarded}
        guarded = set(world.state.guarded)


@given(histories())
def test_the_journal_folds_to_the_same_state(history: History) -> None:
    world, folded = World(history.policy), View()
    for world, request, decision in play(history):
        entry = Entry(NOW_MS, "acme/production", "shop/web", 1, request, decision, "r-1")
        kept = decode(encode(entry))
        assert kept == entry
        for change in kept.decision.changes:
            apply(folded, change, world.position)
    assert snapshot(folded) == snapshot(world.state)


@given(histories())
def test_folding_into_what_a_request_may_see_agrees_with_folding_into_everything(history: History) -> None:
    world = World(history.policy)
    for code in history.codes:
        request = request_of(code, history.types, world.model.mpids)
        prepared = prepare(history.policy, request)
        view = world.seen(prepared)
        for change in world.run(request, fresh_mpid(world)).changes:
            apply(view, change, world.position)
        assert view.profiles.items() <= world.state.profiles.items()
        assert all(view.holders[i] == world.state.holders.get(i, []) for i in prepared.identities)
        assert view.further.items() <= world.state.further.items()


def snapshot(view: View) -> tuple[object, ...]:
    """Return the whole of a view as a value."""
    holders = {identity: list(rows) for identity, rows in view.holders.items() if rows}
    return holdings(view), dict(view.profiles), holders, set(view.guarded), dict(view.further)
