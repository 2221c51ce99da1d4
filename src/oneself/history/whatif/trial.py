"""One space's history under another policy: each recorded request is decided again over its own state."""

from __future__ import annotations

import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Final, NamedTuple, cast

import msgspec

from oneself.history.numbers import Numbers
from oneself.history.recorded import Recorded, Was, decode_request
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
    Prepared,
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

RESOLVED: Final = frozenset({"identify", "login", "logout"})
SETTLED: Final = RESOLVED | {"batch"}
"""The kinds whose answers are settled where they change nothing: devices that come back ask the same again."""

_BATCH: Final = b'{"kind":"batch"'
_RESOLVED: Final = tuple(f'{{"kind":"{kind}"'.encode() for kind in sorted(RESOLVED))
_LOGOUT: Final = b'{"kind":"logout"'
_STAMP: Final = "device_application_stamp"
_SPOOLED: Final = 64 * 1024 * 1024


class _Kind(msgspec.Struct, frozen=True):
    kind: str


_decode_kind: Final = msgspec.json.Decoder(_Kind).decode
_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(tuple[int, Request, Decision]).decode

Watch = Callable[[int, Request, int, Decision], None]
"""Told of each request that is decided again: its position, the request with the MPIDs that the client would have,
the MPID for a new profile, and the decision."""


def _key(raw: bytes, known: bool) -> int:
    """Return what stands for a recorded request and whether its user was known: 64 bits of a keyed hash."""
    return hash(raw) ^ known


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
    batches that are answered with a profile both ways, and their pairs. ``shortcuts`` spare deciding where the
    decision is known beforehand; without them it comes to the same. ``alike`` are the recorded policy versions that
    take the same values of a request in the same order as ``policy``.
    """

    def __init__(
        self,
        space: str,
        policy: Policy,
        was: Policy,
        watch: Watch | None = None,
        *,
        shortcuts: bool = True,
        alike: Collection[int] = (),
    ) -> None:
        self.space = space
        self.policy = policy
        self.was = was
        numbers = Numbers()
        self._numbers = numbers.numbers
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
        self._shortcuts = shortcuts and watch is None  # who watches is told of each decision
        self._alike = frozenset(alike) if self._shortcuts else frozenset[int]()
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
        if was.mpid is not None and _decode_kind(entry.request).kind in USERS:
            number = self.tally.number(was.mpid)
            self.tally.count(number, number)

    def take(self, position: int, entry: Recorded) -> None:
        """Decide an entry's request again."""
        if self._waiting and self._waiting[0][0] <= entry.at_ms:
            self._apply_aliases(position, entry.at_ms)
        was = entry.decision
        if was.changes:
            if entry.policy not in self._alike or not self._is_new_again(was, bytes(entry.request), position):
                self._decide(position, entry)
            return
        number = 0 if was.mpid is None else self._numbers.get(was.mpid, 0)
        tally, settled, raw = self.tally, self.world.settled, bytes(entry.request)
        after = tally.partner[number]
        if after >= len(settled) or settled[after] != _key(raw, was.known) or number in tally.parted:
            self._decide(position, entry)
            return
        self.decided += 1
        tally.requests[number] += 1
        if was.trace.dropped or was.trace.refused:
            self._recorded(was)
        if raw.startswith(_BATCH):
            self._batch(position, number, after)

    def _is_new_again(self, was: Was, raw: bytes, position: int) -> bool:
        """Make a recorded new user again, as ``_is_plainly_new`` does; tell whether that is so.

        All that counted of the request was linked then, so it need not be read again: the same values count now.
        """
        changes = was.changes
        made = changes[0]
        if type(made) is not Create or len(changes) == 1 or made.mpid in self._made_up:
            return False
        if was.trace.dropped or was.trace.refused or not raw.startswith(_RESOLVED):
            return False
        identities: list[Identity] = []
        login, was_login = self.policy.login, self.was.login
        known, was_known_by = False, 0
        for change in changes[1:]:
            if type(change) is not Link:
                return False
            type_ = change.type
            identities.append((type_, change.value))
            if type_ in login:
                known = True
            if type_ in was_login:
                was_known_by += 1
        if was.known != known:
            return False
        unheard = self.world.is_unheard(identities)
        if not unheard and (not raw.startswith(_LOGOUT) or not self._is_plain_logout(identities)):
            return False
        number = self.tally.number(made.mpid)
        if not self.tally.make(number, len(identities), was_known_by):
            return False
        self.decided += 1
        if unheard:
            self.world.make(made.mpid, identities, position)
        else:
            self.world.keep(changes, position)
        return True

    def _decide(self, position: int, entry: Recorded) -> None:
        was, request = entry.decision, decode_request(entry.request)
        kind = request.kind
        if kind not in DECIDED or (was.error is not None and was.error.code == "INVALID_BATCH"):
            self.left_out[kind] += 1
            self._recorded(was)
            self._note(self.after, was)
            return
        self.decided += 1
        if request.mpid is not None or request.alias is not None:
            request = self._mapped(request)
        fresh = was.made
        if fresh is None or fresh in self._made_up:
            fresh = self._fresh
        prepared = prepare(self.policy, request)
        if self._shortcuts and request.mpid is None and self._is_plain(entry, prepared, fresh, position):
            return
        if request.previous_mpid is not None:
            mapped = self._mapped(request)
            if mapped is not request:
                request, prepared = mapped, msgspec.structs.replace(prepared, request=mapped)
        decision = decide(prepared, self.world.seen(prepared), entry.at_ms, fresh)
        if self._watch is not None:
            self._watch(position, request, fresh, decision)
        self._keep(position, decision)
        if (
            decision.changes
            and decision.changes == was.changes
            and kind in RESOLVED
            and self._both_make(was, decision.known)
        ):
            return
        self._recorded(was)
        if kind == "alias" and decision.error is None and was.error is not None:
            (alias,) = decision.changes
            heappush(self._waiting, (cast(Alias, alias).due_ms, position))
        if kind in USERS:
            self._compare(position, was, decision, kind == "batch", request)

    def _is_plain(self, entry: Recorded, prepared: Prepared, fresh: int, position: int) -> bool:
        """Take an entry whose request is plainly that of a new user or of a known one; tell whether it is."""
        kind = prepared.request.kind
        if not entry.decision.changes:
            return kind in SETTLED and self._is_plainly_matched(entry, prepared, position)
        # Where the policies are alike, it was found already that nobody is new.
        if kind not in RESOLVED or entry.policy in self._alike:
            return False
        return self._is_plainly_new(entry.decision, prepared, fresh, position)

    def _is_plainly_new(self, was: Was, prepared: Prepared, fresh: int, position: int) -> bool:
        """Make the same new user both ways where nobody holds any of the identities, or on a plain logout.

        Whatever the policy, there is no candidate then, and nothing to refuse or to guard: the request makes a
        profile, known by any login identity, which is linked to all of them. Tells whether that is so.
        """
        changes, identities, usable = was.changes, prepared.identities, prepared.usable
        made = changes[0]
        if len(changes) != len(identities) + 1 or not identities:
            return False
        if type(made) is not Create or made.mpid != fresh or was.known != bool(usable.login) or usable.dropped:
            return False
        for change, identity in zip(changes[1:], identities, strict=True):
            if type(change) is not Link or change.value != identity[1] or change.type != identity[0]:
                return False
        unheard = self.world.is_unheard(identities)
        is_plain = unheard or (prepared.request.kind == "logout" and self._is_plain_logout(identities))
        if not is_plain or not self._both_make(was, was.known):
            return False
        if unheard:
            self.world.make(fresh, identities, position)
        else:
            self.world.keep(was.changes, position)
        return True

    def _is_plain_logout(self, identities: Sequence[Identity]) -> bool:
        """Tell whether a logout with some identities makes a new profile that has all of them, whoever holds them."""
        policy, guarded = self.policy, self.world.view.guarded
        if policy.on_logout != "create":
            return False
        for identity in identities:
            if identity[0] in policy.login or identity[0] in policy.unique or identity in guarded:
                return False
        return True

    def _is_plainly_matched(self, entry: Recorded, prepared: Prepared, position: int) -> bool:
        """Count a request whose identities one profile holds alone, and that stays with it; tell whether that is so.

        That profile is the only candidate, so nothing ties and ``previous_mpid`` is not asked; it is found if a login
        and an immutable identity of the request match, where it has such; nothing is left to link, to refuse or to
        guard. Neither the time nor the MPID for a new profile plays a part.
        """
        usable, policy, was = prepared.usable, self.policy, entry.decision
        if was.mpid is None or not usable.walk or usable.dropped:
            return False
        profile = self.world.sole_holder(prepared.identities)
        if profile is None:
            return False
        known = not policy.login.isdisjoint(profile.held)
        if not usable.login and (known or (prepared.request.kind == "logout" and policy.on_logout == "create")):
            return False
        if not usable.immutable and not policy.immutable.isdisjoint(profile.held):
            return False
        if known != was.known or not self.tally.stays(was.mpid, profile.mpid):
            return False
        if prepared.request.kind == "batch":
            number = self._numbers[was.mpid]
            self._batch(position, number, self.tally.partner[number])
        if was.trace.dropped or was.trace.refused:
            self._recorded(was)
        self.world.settle(profile.mpid, _key(bytes(entry.request), known))
        return True

    def _both_make(self, was: Was, known: bool) -> bool:
        """Count a request that makes the same new user both ways, as most do; tell whether it is one."""
        made = was.changes[0]
        if type(made) is not Create or was.known != known or was.trace.dropped or was.trace.refused:
            return False
        login = self.was.login
        known_by = 0
        for change in was.changes[1:]:
            if type(change) is not Link:
                return False
            if change.type in login:
                known_by += 1
        return self.tally.make(self.tally.number(made.mpid), len(was.changes) - 1, known_by)

    def _keep(self, position: int, decision: Decision) -> None:
        """Make a decision's changes, and count what is out of the ordinary in it."""
        changes, trace = decision.changes, decision.trace
        if changes:
            if not self.world.keep(changes, position):
                for change in changes:
                    self.after.change(change)
            if decision.mpid == self._fresh:
                self._fresh = self._next_fresh()
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
        return Evidence(*_unpack(packed))

    # -- what was recorded -------------------------------------------------------------------------------------

    def _recorded(self, was: Was) -> None:
        """Count a recorded decision, and what its changes make of profiles."""
        if was.error is not None:
            self.before.answers[was.error.code] += 1
        if was.trace.dropped or was.trace.refused:
            self.before.trace(was.trace.dropped, was.trace.refused)
        if not was.changes:
            return
        tally, login = self.tally, self.was.login
        for change in was.changes:
            if type(change) is Link or type(change) is Unlink:
                number = tally.number(change.mpid)
                one = 1 if type(change) is Link else -1
                tally.held[number] += one
                if change.type in login:
                    tally.login[number] += one
            elif type(change) is Create:
                tally.made[tally.number(change.mpid)] = 1
            else:
                self.before.change(change)
                if isinstance(change, Guard):
                    self.guarded.add((change.type, change.value))
                elif isinstance(change, Release):
                    self.guarded.discard((change.type, change.value))

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

    def rest(self) -> None:
        """Give back memory that can be spared; for between two entries, now and then."""
        self.world.rest()
        self.tally.fit()

    # -- comparing ---------------------------------------------------------------------------------------------

    def _compare(self, position: int, was: Was, decision: Decision, is_batch: bool, request: Request) -> None:
        """Count whose a user's request was and is."""
        tally, before, after = self.tally, was.mpid, decision.mpid
        if before is None or after is None:
            for mpid, counted in ((before, tally.unanswered), (after, tally.newly_answered)):
                if mpid is not None:
                    number = tally.number(mpid)
                    counted[number] = counted.get(number, 0) + 1
            return
        if not is_batch and was.known == decision.known and tally.stays(before, after):
            return
        number, other = tally.number(before), tally.number(after)
        if tally.count(number, other):
            self.evidence[number << 32 | other] = self._put_by(position, request, decision)
        if was.known != decision.known and number not in self.turned:
            self.turned[number] = self._put_by(position, request, decision)
        if is_batch:
            self._batch(position, number, other)
        if number in tally.parted:
            tally.part(number, other, request.identities.get(_STAMP))

    def _batch(self, position: int, number: int, other: int) -> None:
        self.batch_at.append(position)
        self.batch_pairs.append(number << 32 | other)

    def _put_by(self, position: int, request: Request, decision: Decision) -> int:
        """Keep a decision for the report, on disk where there are many; return its place."""
        place = self._spooled
        packed = _pack((position, request, decision))
        self._spool.write(len(packed).to_bytes(4, "little") + packed)
        self._spooled += 4 + len(packed)
        return place
