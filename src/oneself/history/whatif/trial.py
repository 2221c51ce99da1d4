"""One space's history under another policy: each recorded request is decided again over its own state."""

from __future__ import annotations

import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Final, NamedTuple, cast

import msgspec

from oneself.history.numbers import Numbers
from oneself.history.recorded import Recorded, Was
from oneself.history.whatif.patterns import Match, Pattern, Patterns, decide_pattern
from oneself.history.whatif.tally import Tally
from oneself.history.world import World
from oneself.identity import (
    Alias,
    AliasOutcome,
    Change,
    Create,
    Decision,
    Dropped,
    Guard,
    Identity,
    Link,
    Policy,
    Refused,
    Release,
    Request,
    Unlink,
    decide,
    prepare,
)

__all__ = ["Counts", "Evidence", "Trial", "Watch"]

USERS: Final = frozenset({"identify", "login", "logout", "modify", "batch"})
"""The kinds of request that a user stands behind."""

DECIDED: Final = USERS | {"alias", "alias_process", "alias_undo", "release"}
"""The kinds that are decided again; what the server asks of itself to delete old data decides nothing of users."""

_STAMP: Final = "device_application_stamp"
_SPOOLED: Final = 64 * 1024 * 1024


class _Sight(msgspec.Struct, frozen=True, array_like=True):
    """What a request was decided over that has a pattern: that, the MPIDs in it, and the one for a new profile."""

    pattern: Pattern
    mpids: list[int]
    fresh: int


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(tuple[int, Request, Decision | None, _Sight | None]).decode

Watch = Callable[[int, Request, int, Decision], None]
"""Told of each request that is decided again: its position, the request with the MPIDs that the client would have,
the MPID for a new profile, and the decision."""


class Counts:
    """How requests were answered: errors by code, values dropped, links refused and values guarded by reason,
    aliases by what became of them."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.guarded: Counter[str] = Counter()
        self.aliases: Counter[str] = Counter()

    def trace(self, dropped: Iterable[Dropped], refused: Iterable[Refused]) -> None:
        """Count what a decision did not take."""
        for value in dropped:
            self.dropped[value.why] += 1
        for link in refused:
            self.refused[link.why] += 1

    def change(self, change: Change) -> None:
        """Count a change that is neither a new profile nor one of a profile's identities."""
        if isinstance(change, Guard):
            self.guarded[change.why] += 1
        elif isinstance(change, Alias):
            self.aliases["accepted"] += 1
        elif isinstance(change, AliasOutcome):
            self.aliases[change.outcome] += 1


class Evidence(NamedTuple):
    """The first request that stood on a pair: its position, the request with mapped MPIDs, and the decision."""

    position: int
    request: Request
    decision: Decision


class Trial:
    """A history of one space, recorded and under ``policy``.

    ``fold`` takes the entries that stay as they are, ``take`` those that are decided again. ``was`` is the policy
    that the record is judged by, the one in force at its end. ``batch_at`` and ``batch_pairs`` have the positions of
    batches that are answered with a profile both ways, and their pairs. Requests with the same pattern are decided
    once, unless they are not to ``share`` a decision; it comes to the same.
    """

    def __init__(
        self, space: str, policy: Policy, was: Policy, watch: Watch | None = None, *, share: bool = True
    ) -> None:
        self.space = space
        self.policy = policy
        self.was = was
        numbers = Numbers()
        self.world = World(numbers)
        self.tally = Tally(numbers)
        self.before, self.after = Counts(), Counts()
        self.guarded: set[Identity] = set()  # as recorded
        self.folded = self.decided = 0
        self.left_out: Counter[str] = Counter()
        self.batch_at = array("q")
        self.batch_pairs = array("Q")
        self.turned: dict[int, int] = {}
        self.evidence: dict[int, int] = {}
        self._watch = watch
        # Who watches is told of each decision.
        self.patterns = Patterns(policy, self.world) if share and watch is None else None
        self._spool = tempfile.SpooledTemporaryFile(_SPOOLED)  # noqa: SIM115  (closed with the trial)
        self._spooled = 0  # bytes
        self._waiting: list[tuple[int, int]] = []  # aliases that only the other policy accepts: due, position
        self._made_up: set[int] = set()
        self._fresh = self._next_fresh()

    def fold(self, position: int, entry: Recorded) -> None:
        """Take an entry as it was decided, both ways."""
        was = entry.decision
        self.folded += 1
        self._recorded(was)
        self._note(self.after, was)
        self.world.keep(was.changes, position)
        if was.mpid is not None and entry.request.kind in USERS:
            number = self.tally.number(was.mpid)
            self.tally.count(number, number)

    def take(self, position: int, entry: Recorded) -> None:
        """Decide an entry's request again."""
        if self._waiting and self._waiting[0][0] <= entry.at_ms:
            self._apply_aliases(position, entry.at_ms)
        was, request = entry.decision, entry.request
        match = None if self.patterns is None or was.error is not None else self.patterns.match(request)
        if match is None:
            self._decide(position, entry)
            return
        (answer, known, links, refused, _), profiles, identities = match
        world, tally = self.world, self.tally
        self.decided += 1
        made = self._recorded(was) if was.changes or was.trace.dropped or was.trace.refused else 0
        if answer >= 0:
            after, link = profiles[answer], world.link
        else:
            after, link = self._made(made), world.links.link  # what it holds is of different types, and so not much
            world.links.make(after, position)
        for place in links:
            link(after, identities[place], position)
        for why in refused:
            self.after.refused[why] += 1
        before, mpids = was.mpid, tally.numbers.mpids
        if before == mpids[after]:
            number = after
        elif before is not None:
            number = tally.number(before)
        else:
            tally.newly_answered[after] = tally.newly_answered.get(after, 0) + 1
            return
        if was.known != known or not tally.meets(number, after):
            self._differ(position, entry, match, number, after)
        if request.kind == "batch":
            self._batch(position, number, after)

    def _differ(self, position: int, entry: Recorded, match: Match, number: int, after: int) -> None:
        """Count a request with a pattern that stands on a pair which is not the only one of both profiles."""
        mpids, request = self.tally.numbers.mpids, self._mapped(entry.request)

        def put_by() -> int:
            sight = _Sight(match[0].pattern, [mpids[profile] for profile in match[1]], mpids[after])
            return self._put_by(position, request, None, sight)

        self._count(number, after, request, put_by, turned=entry.decision.known != match[0].known)

    def _decide(self, position: int, entry: Recorded) -> None:
        """Decide an entry's request by itself."""
        was, request = entry.decision, entry.request
        kind = request.kind
        self._recorded(was)
        if kind not in DECIDED or (was.error is not None and was.error.code == "INVALID_BATCH"):
            self.left_out[kind] += 1
            self._note(self.after, was)
            return
        self.decided += 1
        request, fresh = self._mapped(request), self._fresh_for(was)
        prepared = prepare(self.policy, request)
        decision = decide(prepared, self.world.seen(prepared), entry.at_ms, fresh)
        if self._watch is not None:
            self._watch(position, request, fresh, decision)
        self._keep(position, decision)
        if kind == "alias" and decision.error is None and was.error is not None:
            (alias,) = decision.changes
            heappush(self._waiting, (cast(Alias, alias).due_ms, position))
        if kind in USERS:
            self._compare(position, was, decision, request)

    def _fresh_for(self, was: Was) -> int:
        """Return the MPID for a new profile: the recorded one, unless it was made up for another before."""
        made = was.made
        return self._fresh if made is None or made in self._made_up else made

    def _made(self, made: int) -> int:
        """Return the number of the profile that a request makes, which made one by its number in the record."""
        if made and self.tally.numbers.mpids[made] not in self._made_up:
            return made
        number = self.tally.number(self._fresh)
        self._use(self._fresh)
        return number

    def _use(self, mpid: int | None) -> None:
        """Have another MPID for the next new profile, if this one is taken."""
        if mpid == self._fresh:
            self._fresh = self._next_fresh()

    def _keep(self, position: int, decision: Decision) -> None:
        """Make a decision's changes, and count what is out of the ordinary in it."""
        changes, trace = decision.changes, decision.trace
        if changes:
            if not self.world.keep(changes, position):
                for change in changes:
                    self.after.change(change)
            self._use(decision.mpid)
        elif decision.error is not None:
            self.after.answers[decision.error.code] += 1
        if trace.dropped or trace.refused:
            self.after.trace(trace.dropped, trace.refused)

    def close(self) -> None:
        """Forget the evidence."""
        self._spool.close()

    def evidence_at(self, place: int) -> Evidence:
        """Return what was kept of a request, by its place in ``evidence`` or ``turned``."""
        self._spool.seek(place)
        length = int.from_bytes(self._spool.read(4), "little")
        packed = self._spool.read(length)
        self._spool.seek(self._spooled)
        position, request, decision, sight = _unpack(packed)
        if decision is None:
            assert sight is not None
            types = self.world.links.names
            decision = decide_pattern(self.policy, request, sight.pattern, sight.mpids, types, sight.fresh)
        return Evidence(position, request, decision)

    # -- what was recorded -------------------------------------------------------------------------------------

    def _recorded(self, was: Was) -> int:
        """Count a recorded decision, and what its changes make of profiles; return the number of one that it made."""
        if was.error is not None:
            self.before.answers[was.error.code] += 1
        if was.trace.dropped or was.trace.refused:
            self.before.trace(was.trace.dropped, was.trace.refused)
        tally, login = self.tally, self.was.login
        mpid = number = made = 0
        for change in was.changes:
            if type(change) is Link or type(change) is Unlink:
                if change.mpid != mpid:
                    mpid = change.mpid
                    number = tally.number(mpid)
                one = 1 if type(change) is Link else -1
                tally.held[number] += one
                if change.type in login:
                    tally.login[number] += one
            elif type(change) is Create:
                mpid = change.mpid
                number = tally.number(mpid)
                tally.made[number] = 1
                made = made or number
            else:
                self.before.change(change)
                if isinstance(change, Guard):
                    self.guarded.add((change.type, change.value))
                elif isinstance(change, Release):
                    self.guarded.discard((change.type, change.value))
        return made

    @staticmethod
    def _note(counts: Counts, was: Was) -> None:
        """Count what is out of the ordinary in a recorded decision."""
        if was.error is not None:
            counts.answers[was.error.code] += 1
        counts.trace(was.trace.dropped, was.trace.refused)
        for change in was.changes:
            counts.change(change)

    # -- deciding again ----------------------------------------------------------------------------------------

    def _mapped(self, request: Request) -> Request:
        """Return a request with the MPIDs that its client would have been given."""
        answered = self.tally.answered
        if request.alias is not None:
            alias = request.alias
            source = answered(alias.source, alias.device or None)
            destination = answered(alias.destination, alias.device or None)
            if source != alias.source or destination != alias.destination:
                alias = msgspec.structs.replace(alias, source=source, destination=destination)
                return msgspec.structs.replace(request, alias=alias)
            return request
        if request.mpid is None and request.previous_mpid is None:
            return request
        device = request.identities.get(_STAMP)
        mpid, previous = request.mpid, request.previous_mpid
        if mpid is not None:
            mpid = answered(mpid, device)
        if previous is not None:
            previous = answered(previous, device)
        if mpid == request.mpid and previous == request.previous_mpid:
            return request
        return msgspec.structs.replace(request, mpid=mpid, previous_mpid=previous)

    def _next_fresh(self) -> int:
        """Return an MPID that nobody has, the same one in every run."""
        number = len(self._made_up)
        while True:
            number += 1
            digest = blake2b(f"{self.space}\0{number}".encode(), digest_size=8).digest()
            mpid = int.from_bytes(digest, "little", signed=True)
            if mpid and mpid not in self.tally.numbers.numbers and mpid not in self._made_up:
                self._made_up.add(mpid)
                return mpid

    def _apply_aliases(self, position: int, now_ms: int) -> None:
        """Let those aliases take effect that are due and that no entry of the record speaks of."""
        while self._waiting and self._waiting[0][0] <= now_ms:
            _, accepted = heappop(self._waiting)
            request = Request("alias_process", position=accepted)
            decision = self.world.decide(self.policy, request, now_ms, self._fresh)
            self._keep(position, decision)

    # -- comparing ---------------------------------------------------------------------------------------------

    def _compare(self, position: int, was: Was, decision: Decision, request: Request) -> None:
        """Count whose a user's request was and is."""
        tally, before, after = self.tally, was.mpid, decision.mpid
        if before is None or after is None:
            for mpid, counted in ((before, tally.unanswered), (after, tally.newly_answered)):
                if mpid is not None:
                    number = tally.number(mpid)
                    counted[number] = counted.get(number, 0) + 1
            return
        number, other, turned = tally.number(before), tally.number(after), was.known != decision.known
        if turned or not tally.meets(number, other):
            self._count(
                number, other, request, lambda: self._put_by(position, request, decision, None), turned=turned
            )
        if request.kind == "batch":
            self._batch(position, number, other)

    def _count(self, number: int, other: int, request: Request, put_by: Callable[[], int], *, turned: bool) -> None:
        """Count a request that stands on a pair, and put its decision by for the report if it is the first to tell.

        ``turned`` says that its user is known on one side only.
        """
        tally = self.tally
        if tally.count(number, other):
            self.evidence[number << 32 | other] = put_by()
        if turned and number not in self.turned:
            self.turned[number] = put_by()
        if number in tally.parted:
            tally.part(number, other, request.identities.get(_STAMP))

    def _batch(self, position: int, number: int, other: int) -> None:
        self.batch_at.append(position)
        self.batch_pairs.append(number << 32 | other)

    def _put_by(self, position: int, request: Request, decision: Decision | None, sight: _Sight | None) -> int:
        """Keep a decision for the report, on disk where there are many; return its place."""
        place = self._spooled
        packed = _pack((position, request, decision, sight))
        self._spool.write(len(packed).to_bytes(4, "little") + packed)
        self._spooled += 4 + len(packed)
        return place
