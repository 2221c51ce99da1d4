"""The identity core at work on one space, with the reference model judging every step.

``World`` keeps the state as the fold of the changes decided so far, shows each decision only what the request
is allowed to see of it, and asserts that the model comes to the same answer and the same state.
"""

from __future__ import annotations

from collections import defaultdict

from oneself.identity import (
    HOLDERS_READ,
    AliasRequest,
    Decision,
    IdentityChange,
    Kind,
    Policy,
    PolicySettings,
    Prepared,
    Request,
    View,
    apply,
    build,
    decide,
    prepare,
)
from oneself.identity.model import Alias, Create, Guard, Link, Release, Unlink
from reference_model import Answer, Model, Unlinked, Window

NOW_MS = 1_700_000_000_000

Holding = dict[str, dict[str, int]]
"""Of one profile: type to value to the position of its link."""


class World:
    """One space under one policy; each request takes the next journal position."""

    def __init__(self, settings: PolicySettings | Policy | None = None) -> None:
        self.policy = settings if isinstance(settings, Policy) else build(settings)
        self.state = View()
        self.model = Model(self.policy)
        self.position = 0
        self.decided: list[Decision] = []

    def seen(self, prepared: Prepared) -> View:
        """Return what an engine shows to a decision: what it must, and of the holders a few more than count."""
        state, view = self.state, View()
        for identity in prepared.identities:
            view.holders[identity] = state.holders.get(identity, [])[: HOLDERS_READ + self.position % 3]
            if identity in state.guarded:
                view.guarded.add(identity)
        for mpid in (*prepared.mpids, *(mpid for rows in view.holders.values() for _, mpid in rows)):
            if mpid in state.profiles:
                view.profiles[mpid] = state.profiles[mpid]
        for (mpid, identity), position in state.further.items():
            if mpid in view.profiles and identity in view.holders:
                view.further[mpid, identity] = position
        return view

    def run(self, request: Request, fresh_mpid: int | None = None, now_ms: int = NOW_MS) -> Decision:
        """Decide a request, take its changes into the state, and ask the model what it thinks of that."""
        self.position += 1
        fresh = 100 + self.position if fresh_mpid is None else fresh_mpid
        prepared = prepare(self.policy, request)
        decision = decide(prepared, self.seen(prepared), now_ms, fresh)
        for change in decision.changes:
            apply(self.state, change, self.position)
        self.decided.append(decision)
        answer = self.model.decide(request, self.position, now_ms, fresh)
        assert told(decision) == answer
        self.compare_states()
        return decision

    def compare_states(self) -> None:
        """Assert that the model holds the same identities and guards, with the same holders in the same order."""
        held: dict[int, Holding] = {mpid: {} for mpid in self.model.mpids}
        holders: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for link in self.model.links:
            held[link.mpid].setdefault(link.type, {})[link.value] = link.position
            holders.setdefault((link.type, link.value), []).append((link.position, link.mpid))
        assert holdings(self.state) == held
        newest_first = {identity: sorted(rows, reverse=True) for identity, rows in holders.items()}
        assert {identity: rows for identity, rows in self.state.holders.items() if rows} == newest_first
        assert self.state.guarded == self.model.guarded

    # -- the requests of the examples -------------------------------------------------------------------------------

    def resolve(self, kind: Kind, previous_mpid: int | None = None, **identities: str | None) -> Decision:
        """Run a request of one of the kinds that resolve."""
        return self.run(Request(kind, identities, previous_mpid))

    def identify(self, **identities: str | None) -> Decision:
        """Run an identify request."""
        return self.run(Request("identify", identities))

    def login(self, **identities: str | None) -> Decision:
        """Run a login request."""
        return self.run(Request("login", identities))

    def logout(self, **identities: str | None) -> Decision:
        """Run a logout request."""
        return self.run(Request("logout", identities))

    def search(self, **identities: str | None) -> Decision:
        """Run a search."""
        return self.run(Request("search", identities))

    def modify(self, mpid: int | None, *changes: tuple[str, str | None, str | None]) -> Decision:
        """Run a modify request of ``(type, old value, new value)``."""
        return self.run(Request("modify", mpid=mpid, changes=tuple(IdentityChange(*change) for change in changes)))

    def release(self, **identities: str | None) -> Decision:
        """Release guarded values."""
        return self.run(Request("release", identities))

    def alias(
        self, source: int, destination: int, start_ms: int | None = None, end_ms: int | None = None
    ) -> Decision:
        """Ask for an alias."""
        return self.run(Request("alias", alias=AliasRequest(source, destination, start_ms, end_ms)))

    def held(self, mpid: int | None) -> dict[str, set[str]]:
        """Return the identities of a profile, type to values."""
        assert mpid is not None
        return {type_: set(values) for type_, values in holdings(self.state)[mpid].items()}


def holdings(state: View) -> dict[int, Holding]:
    """Return what every profile holds, spilled values too; check that the records count those rightly."""
    found: dict[int, Holding] = {}
    spilled: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for mpid, profile in state.profiles.items():
        assert profile.mpid == mpid
        found[mpid] = {type_: dict(values) for type_, values in profile.held.items()}
    for (mpid, (type_, value)), position in state.further.items():
        found[mpid].setdefault(type_, {})[value] = position
        spilled[mpid][type_] += 1
    for mpid, profile in state.profiles.items():
        assert profile.more == spilled.get(mpid, {})
        for type_, values in found[mpid].items():
            assert values
            assert profile.count(type_) == len(values)
            assert type_ in profile.held
    return found


def told(decision: Decision) -> Answer:
    """Say a decision in the words of the model."""
    trace = decision.trace
    answer = Answer(trace.why, decision.mpid, decision.known, set(decision.matched), trace.tie)
    answer.refused = {(r.type, r.value, r.why, r.other) for r in trace.refused}  # type: ignore[misc]
    answer.dropped = {(d.type, d.value, d.why) for d in trace.dropped}
    answer.notes = [(n.type, n.why, n.other) for n in trace.notes]
    if decision.error is not None:
        answer.error = decision.error.status, decision.error.code
    for change in decision.changes:
        match change:
            case Create(mpid):
                answer.created.append(mpid)
            case Link(mpid, type_, value):
                answer.linked.add((mpid, type_, value))
            case Unlink(mpid, type_, value, why, moved_to):
                answer.unlinked.add(Unlinked(mpid, type_, value, why, moved_to))
            case Guard(type_, value):
                answer.guarded.add((type_, value))
            case Release(type_, value):
                answer.released.add((type_, value))
            case Alias(source, destination, start, end, due):
                answer.alias = Window(source, destination, start, end, due)
    return answer
