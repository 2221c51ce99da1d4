"""What a what-if decides once for many comes out as if it had been decided, on random histories (docs/whatif.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity_histories import NOW_MS, History, histories, policies, request_of
from oneself.history.recorded import Recorded, decode
from oneself.history.whatif.trial import Trial
from oneself.history.world import World
from oneself.identity import Create, IdentityChange, Policy, PolicySettings, Request, build
from oneself.identity.names import PHONE_TYPES
from oneself.identity.values import NORMALISERS, normalise
from oneself.journal import Entry, encode

SPACE = "acme/production"
DEVICE = Request("identify", {"device_application_stamp": "d1"})
USER = Request("login", {"customerid": "c1", "device_application_stamp": "d1"})


def recorded(policy: Policy, requests: Iterable[Request]) -> list[tuple[int, Recorded]]:
    """Return requests as a server under a policy records them."""
    world, rows = World(), []
    for position, request in enumerate(requests, 1):
        at_ms = NOW_MS + 1_000 * position
        decision = world.decide(policy, request, at_ms, 1_000 + position)
        if request.kind == "search":
            continue
        world.keep(decision.changes, position)
        entry = Entry(at_ms, SPACE, "shop/web", 1, request, decision)
        rows.append((position, decode(encode(entry))))
    return rows


def asked(history: History, again: list[int], as_batches: int) -> list[Request]:
    """Return the requests of a history, some of them made again and again, some as batches, with releases between."""
    mpids: list[int] = []
    world = World()
    requests: list[Request] = []
    for position, code in enumerate(history.codes, 1):
        request = request_of(code, history.types, mpids)
        decision = world.decide(history.policy, request, NOW_MS, 1_000 + position)
        world.keep(decision.changes, position)
        mpids += [change.mpid for change in decision.changes if isinstance(change, Create)]
        if request.kind == "identify" and as_batches >> position % 8 & 1:
            request = Request("batch", request.identities)
        requests.append(request)
    for place in again:
        chosen = requests[place % len(requests)]
        requests.append(Request("release", chosen.identities) if place % 11 == 10 else chosen)
    return requests


def tried(rows: list[tuple[int, Recorded]], policy: Policy, was: Policy, *, share: bool) -> Trial:
    trial = Trial(SPACE, policy, was, share=share)
    for position, entry in rows:
        trial.take(position, entry)
    return trial


def outcome(trial: Trial) -> dict[str, Any]:
    """Return all that a trial came to."""
    world, tally, size = trial.world, trial.tally, len(trial.tally.numbers) + 1
    held = {identity: world.holders(identity) for identity in world.identities()}
    return {
        "profiles": {profile.mpid: profile for profile in world.profiles()},
        "holders": {identity: list(rows) for identity, rows in held.items() if rows},
        "further": world.further,
        "guarded": world.guarded,
        "aliases": world.aliases,
        "numbers": list(tally.numbers.mpids),
        "tally": [list(by[:size]) for by in (tally.made, tally.held, tally.login, tally.partner, tally.requests)],
        "pairs": list(tally.pairs()),
        "parted": [tally.parted, tally._on_device, tally.unanswered, tally.newly_answered],
        "counts": [vars(trial.before), vars(trial.after), trial.decided, trial.left_out, trial.guarded],
        "batches": [list(trial.batch_at), list(trial.batch_pairs)],
        "evidence": {pair: trial.evidence_at(place) for pair, place in trial.evidence.items()},
        "turned": {number: trial.evidence_at(place) for number, place in trial.turned.items()},
    }


def same_both_ways(rows: list[tuple[int, Recorded]], policy: Policy, was: Policy) -> Trial:
    quick = tried(rows, policy, was, share=True)
    slow = tried(rows, policy, was, share=False)
    came_to, expected = outcome(quick), outcome(slow)
    quick.close()
    slow.close()
    assert came_to == expected
    return quick


@settings(max_examples=300)
@given(
    history=histories(),
    other=st.none() | policies(),
    again=st.lists(st.integers(0, 1 << 16), max_size=60),
    as_batches=st.integers(0, 255),
)
def test_with_and_without_sharing_decisions_it_comes_to_the_same(
    history: History, other: Policy | None, again: list[int], as_batches: int
) -> None:
    rows = recorded(history.policy, asked(history, again, as_batches))
    same_both_ways(rows, history.policy if other is None else other, history.policy)


@settings(max_examples=300)
@given(
    history=histories(),
    again=st.lists(st.integers(0, 1 << 16), max_size=60),
    rules=st.fixed_dictionaries({
        "on_new_known": st.sampled_from(("convert", "create")),
        "on_logout": st.sampled_from(("create", "return_anonymous", "none")),
        "max_known_profiles_per_value": st.sampled_from((0, 1, 2, 20)),
        "max_values_per_profile": st.sampled_from((0, 1, 2, 100)),
    }),
    lax=st.booleans(),
)  # fmt: skip
def test_under_other_rules_for_the_same_values_it_comes_to_the_same(
    history: History, again: list[int], rules: dict[str, Any], lax: bool
) -> None:
    """What was recorded is taken at its word, as far as values go."""
    policy = msgspec.structs.replace(history.policy, **rules)
    if lax:
        policy = msgspec.structs.replace(policy, unique=frozenset(), immutable=frozenset())
    rows = recorded(history.policy, asked(history, again, 0))
    same_both_ways(rows, policy, history.policy)


def play(*requests: Request, **policy: Any) -> Trial:
    """Record some requests, and try them under the same policy."""
    rules = build(PolicySettings(**policy))
    return same_both_ways(recorded(rules, requests), rules, rules)


def decided(trial: Trial) -> int:
    """Return how many patterns were decided."""
    assert trial.patterns is not None
    return trial.patterns.found


def test_requests_that_are_alike_but_for_the_names_are_decided_once() -> None:
    devices = [Request("identify", {"device_application_stamp": f"d{n % 9}"}) for n in range(60)]
    users = [
        Request("login", {"customerid": f"c{n % 7}", "device_application_stamp": f"e{n % 7}"}) for n in range(50)
    ]
    assert decided(play(*devices)) == 2, "a new device, and one that comes back"
    assert decided(play(*users)) == 2
    assert decided(play(*devices, *users)) == 4
    assert decided(play(*devices, *(Request("batch", device.identities) for device in devices))) == 3


def test_requests_with_ties_or_many_holders_are_decided_each_by_itself() -> None:
    guests = [Request("login", {"customerid": f"c{n}", "device_application_stamp": "d"}) for n in range(9)]
    device = Request("identify", {"device_application_stamp": "d"})
    for requests in (guests[:2], guests):
        trial = play(*requests, *[device] * 5, strategy="best_match")
        assert decided(trial) <= 6


def test_a_batch_with_an_mpid_is_not_found_by_its_identities() -> None:
    batch = Request("batch", {"device_application_stamp": "d1"})
    named = [msgspec.structs.replace(batch, mpid=1_001), msgspec.structs.replace(batch, protection="only_read")]
    trial = play(DEVICE, USER, batch, *named, batch)
    assert decided(trial) == 4


def test_a_guard_and_a_release_count_from_then_on() -> None:
    guards = {"strategy": "profile_link", "max_values_per_profile": 1}
    first = Request("identify", {"other": "o1", "other2": "a"})
    again = Request("identify", {"other": "o1"})
    too_many = Request("identify", {"other": "o1", "other2": "b"})
    release = Request("release", {"other": "o1"})
    trial = play(first, again, too_many, again, release, again, again, **guards)
    assert trial.world.guarded == set()
    assert play(first, again, again, too_many, **guards).world.guarded == {("other", "o1")}


def test_a_value_that_is_replaced_is_taken_from_the_very_profile() -> None:
    logins = [Request("login", {"email": f"e{n}@x.org", "device_application_stamp": f"d{n % 2}"}) for n in range(8)]
    trial = play(*logins, strategy="profile_conversion", login=["customerid"], unique=["customerid", "email"])
    assert len([profile for profile in trial.world.profiles() if profile.count("email")]) > 0


def test_a_policy_with_few_values_a_type_counts_them() -> None:
    devices = [Request("login", {"customerid": "c", "device_application_stamp": f"d{n % 20}"}) for n in range(60)]
    for most in (1, 3, 8, 9, 12, 100):
        trial = play(*devices, max_values_per_profile=most)
        assert max(profile.count("device_application_stamp") for profile in trial.world.profiles()) == min(most, 20)


def test_sharing_decisions_tells_requests_and_what_their_users_were_apart() -> None:
    rules = build(PolicySettings())
    rows = recorded(rules, [USER, USER, USER])
    position, last = rows[-1]
    turned = msgspec.structs.replace(last, decision=msgspec.structs.replace(last.decision, known=False))
    same_both_ways([*rows[:-1], (position, turned)], rules, rules)


@given(type_=st.sampled_from(sorted(NORMALISERS.keys() - PHONE_TYPES)), value=st.text() | st.uuids().map(str))
def test_a_value_in_its_usual_form_has_that_very_form(type_: str, value: str) -> None:
    """Patterns look a value up as it was sent, and take what they find for its usual form."""
    for sent in (value, value.upper()):
        usual = normalise(type_, sent)
        assert normalise(type_, usual) == usual


def test_an_immutable_identity_that_does_not_match_counts() -> None:
    login = {"login": ("customerid", "email"), "unique": ("customerid",)}
    was = build(PolicySettings("profile_conversion", **login))
    now = build(PolicySettings("profile_conversion", **login, immutable=("customerid",)))
    by_mail = Request("identify", {"email": "a@x.org"})
    rows = recorded(was, [Request("login", {"customerid": "c1", "email": "a@x.org"}), by_mail, by_mail])
    trial = same_both_ways(rows, now, was)
    assert len(trial.world) > 1


def test_a_guarded_value_that_nobody_holds_any_more_counts() -> None:
    was, now = (build(PolicySettings("profile_link", max_values_per_profile=limit)) for limit in (0, 1))
    gone = Request("modify", mpid=1_001, changes=(IdentityChange("other", "o1", None),))
    rows = recorded(was, [
        Request("identify", {"other": "o1", "other2": "a"}), Request("identify", {"other": "o1", "other2": "b"}),
        gone, Request("identify", {"other": "o1"}),
    ])  # fmt: skip
    trial = same_both_ways(rows, now, was)
    assert trial.world.holders(("other", "o1")) == []
    assert trial.world.guarded == {("other", "o1")}


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("settings", [{}, {"unique": ("customerid", "device_application_stamp")}])
def test_a_logout_on_a_device_that_others_hold_comes_to_the_same(settings: dict[str, Any], guard: bool) -> None:
    rules = build(PolicySettings(**settings, max_known_profiles_per_value=int(guard)))
    out = Request("logout", {"device_application_stamp": "d1"})
    other = Request("login", {"customerid": "c2", "device_application_stamp": "d1"})
    trial = same_both_ways(recorded(build(PolicySettings()), [USER, out, other, out, out]), rules, rules)
    assert bool(trial.world.guarded) == (guard and not settings)
