"""The identity rules as plainly as they can be said: the judge of the fast core.

``Model`` keeps a list of links (who holds which identity since when) and looks through all of it for every
question. It shares only the shapes of requests and policies with the code it judges.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

import phonenumbers

from oneself.identity import Policy, Request
from oneself.identity.model import AliasRequest, IdentityChange

MOST_RECENT = 100
LONGEST = 256
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
PHONES = {"mobile_number", "phone_number_2", "phone_number_3"}
DEVICES = {
    "ios_idfa", "ios_idfv", "android_aaid", "android_uuid", "fire_aid", "roku_aid", "roku_publisher_id",
    "microsoft_aid", "microsoft_publisher_id", "device_application_stamp",
}  # fmt: skip

Identities = dict[str, str]


class Link(NamedTuple):
    """A profile holds an identity since a position in the journal."""

    mpid: int
    type: str
    value: str
    position: int


class Unlinked(NamedTuple):
    """An identity left a profile, perhaps for another one."""

    mpid: int
    type: str
    value: str
    why: str
    moved_to: int = 0


class Refused(NamedTuple):
    """An identity was not linked."""

    type: str
    value: str
    why: str
    other: int = 0


class Window(NamedTuple):
    """An accepted alias."""

    source: int
    destination: int
    start_ms: int
    end_ms: int
    due_ms: int


@dataclass
class Answer:
    """What one request came to."""

    why: str = ""
    mpid: int | None = None
    known: bool = False
    matched: set[str] = field(default_factory=set)
    tie: str = ""
    created: list[int] = field(default_factory=list)
    linked: set[tuple[int, str, str]] = field(default_factory=set)
    unlinked: set[Unlinked] = field(default_factory=set)
    refused: set[Refused] = field(default_factory=set)
    dropped: set[tuple[str, str, str]] = field(default_factory=set)
    guarded: set[tuple[str, str]] = field(default_factory=set)
    released: set[tuple[str, str]] = field(default_factory=set)
    notes: list[tuple[str, str, int]] = field(default_factory=list)
    alias: Window | None = None
    error: tuple[int, str] | None = None


class Impossible(Exception):
    """The request is answered with an error: a status and a code."""


class Model:
    """The state of one space and the rules of one policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.mpids: list[int] = []
        self.links: list[Link] = []
        self.guarded: set[tuple[str, str]] = set()

    # -- questions ----------------------------------------------------------------------------------------------

    def holders(self, type_: str, value: str) -> list[int]:
        """Return who holds an identity, most recently linked first."""
        found = [link for link in self.links if (link.type, link.value) == (type_, value)]
        return [link.mpid for link in sorted(found, key=lambda link: (-link.position, link.mpid))]

    def values(self, mpid: int, type_: str) -> set[str]:
        """Return the values of a type that a profile holds."""
        return {link.value for link in self.links if (link.mpid, link.type) == (mpid, type_)}

    def identities(self, mpid: int) -> set[tuple[str, str]]:
        """Return all that a profile holds."""
        return {(link.type, link.value) for link in self.links if link.mpid == mpid}

    def holds(self, mpid: int, type_: str, value: str) -> bool:
        """Tell whether a profile holds an identity."""
        return value in self.values(mpid, type_)

    def known(self, mpid: int) -> bool:
        """Tell whether a profile holds a login identity."""
        return any(self.values(mpid, type_) for type_ in self.policy.login)

    # -- which values count (section 6) ---------------------------------------------------------------------------

    def normal(self, type_: str, value: str) -> str:
        """Return the form under which a value is compared."""
        if type_ == "email":
            return value.strip().lower()
        if type_ in DEVICES and UUID.fullmatch(value):
            return value.lower()
        if type_ in PHONES:
            try:
                number = phonenumbers.parse(value, self.policy.phone_region)
            except phonenumbers.NumberParseException:
                return value
            if phonenumbers.is_possible_number(number):
                return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        return value

    def why_dropped(self, type_: str, value: str, sent: str) -> str:
        """Say why a normalised value does not count, or nothing."""
        if len(value) > LONGEST:
            return "too_long"
        if value.strip() == "":
            return "empty"
        if {value.strip().lower(), sent.strip().lower()} & self.policy.junk:
            return "junk"
        return "guarded" if (type_, value) in self.guarded else ""

    def usable(self, sent: dict[str, str | None], answer: Answer) -> Identities:
        """Return R: what counts of the identities that were sent."""
        usable = {}
        for type_, as_sent in sent.items():
            if as_sent is None:
                continue
            value = self.normal(type_, as_sent)
            why = self.why_dropped(type_, value, as_sent)
            if why:
                answer.dropped.add((type_, value[:LONGEST], why))
            else:
                usable[type_] = value
        return usable

    # -- the request ------------------------------------------------------------------------------------------------

    def decide(self, request: Request, position: int, now_ms: int, fresh_mpid: int) -> Answer:
        """Answer a request and take its effects into the state."""
        self.position, self.fresh_mpid = position, fresh_mpid
        before = list(self.mpids), list(self.links), set(self.guarded)
        self.answer = Answer()
        try:
            if request.kind == "modify":
                assert request.mpid is not None
                self.modify(request.mpid, request.changes)
            elif request.kind == "alias":
                assert request.alias is not None
                self.alias(request.alias, now_ms)
            elif request.kind == "release":
                self.release(request.identities)
            else:
                self.resolve(request)
        except Impossible as error:
            self.mpids, self.links, self.guarded = before
            not_found = request.kind == "search" and error.args[0] == 404
            refused = Answer("not_found" if not_found else "refused", error=error.args)
            refused.dropped = self.answer.dropped
            self.answer = refused
        return self.answer

    # -- resolving (section 3) --------------------------------------------------------------------------------------

    def resolve(self, request: Request) -> None:
        """Identify, login, logout or search."""
        answer, policy = self.answer, self.policy
        usable = self.usable(request.identities, answer)
        guarded = any(why == "guarded" for _, _, why in answer.dropped)
        if not usable and not guarded:
            raise Impossible(400, "LOOKUP_ERROR")

        searching = request.kind == "search"
        if request.kind == "logout" and policy.on_logout == "create" and not self.logins(usable):
            answer.why = "logout_created"
            self.finish(self.create(), usable, None)
            return
        candidates, deciding = self.walk(usable, searching)
        found = self.choose(candidates, deciding, usable, request.previous_mpid)
        if searching:
            if found is None:
                raise Impossible(404, "NOT_FOUND_ERROR")
            answer.why, answer.mpid, answer.known = "matched", found, self.known(found)
            answer.matched = {type_ for type_, value in usable.items() if self.holds(found, type_, value)}
            return

        if self.is_new_known_user(found, usable):
            if found is not None and policy.on_new_known == "convert":
                answer.why = "new_known_converted"
            else:
                answer.why, found = "new_known_created", None
        elif found is None:
            answer.why = "guarded_created" if guarded and not self.look_ups(usable) else "new"
        else:
            answer.why = "matched"
        if found is None:
            found, deciding = self.create(), None
        self.finish(found, usable, deciding)

    def finish(self, found: int, usable: Identities, deciding: str | None) -> None:
        """Answer with a profile and link R to it."""
        self.link_all(found, usable, deciding)
        self.answer.mpid, self.answer.known = found, self.known(found)

    def look_ups(self, usable: Identities) -> Identities:
        """Return the identities of a request that can find anybody."""
        return {type_: value for type_, value in usable.items() if type_ in self.policy.priority}

    def logins(self, usable: Identities) -> Identities:
        """Return the login identities of a request."""
        return {type_: value for type_, value in usable.items() if type_ in self.policy.login}

    def eligible(self, mpid: int, usable: Identities) -> bool:
        """Rule 1: a known profile is found only with a login identity, a protected one with an immutable one."""
        for guarding in (self.policy.login, self.policy.immutable):
            held = {(type_, value) for type_, value in self.identities(mpid) if type_ in guarding}
            if held and not held & set(usable.items()):
                return False
        return True

    def contradicted(self, mpid: int, usable: Identities, by: str) -> bool:
        """Rule 2: a login type above the one that found the candidate names another account."""
        above = self.policy.priority[: self.policy.priority.index(by)]
        return any(
            type_ in above and self.values(mpid, type_) and not self.holds(mpid, type_, value)
            for type_, value in self.logins(usable).items()
        )

    def walk(self, usable: Identities, searching: bool) -> tuple[list[int], str | None]:
        """Rule 3: go down the priority; return the candidates and the type of the deciding value."""
        candidates: list[int] = []
        deciding = None
        for type_ in self.policy.priority:
            if type_ not in usable:
                continue
            if searching and self.policy.search_immutable_only and type_ not in self.policy.immutable:
                continue
            step = [
                mpid
                for mpid in self.holders(type_, usable[type_])[:MOST_RECENT]
                if (searching or self.eligible(mpid, usable)) and not self.contradicted(mpid, usable, type_)
            ]
            left = [mpid for mpid in candidates if mpid in step] if candidates else step
            if left and left != candidates:
                candidates, deciding = left, type_
            if len(candidates) == 1:
                break
        return candidates, deciding

    def choose(
        self, candidates: list[int], deciding: str | None, usable: Identities, previous_mpid: int | None
    ) -> int | None:
        """Rule 4: the previous user, else the latest on the deciding value, else the lowest MPID."""
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        if previous_mpid in candidates:
            self.answer.tie = "previous_mpid"
            return previous_mpid
        since = {
            link.mpid: link.position
            for link in self.links
            if deciding and (link.type, link.value) == (deciding, usable[deciding]) and link.mpid in candidates
        }
        latest = [mpid for mpid in candidates if since[mpid] == max(since.values())]
        self.answer.tie = "latest" if len(latest) == 1 else "lowest"
        return min(latest)

    def is_new_known_user(self, found: int | None, usable: Identities) -> bool:
        """Rule 5: nobody known was found, and the request brings a login identity to make a known user with."""
        if found is not None and self.known(found):
            return False
        for type_, value in self.logins(usable).items():
            free = not self.holders(type_, value)
            if free or (self.policy.on_new_known == "create" and type_ not in self.policy.unique):
                return True
        return False

    # -- linking (rule 7) -------------------------------------------------------------------------------------------

    def create(self) -> int:
        """Make a new, empty profile."""
        self.mpids.append(self.fresh_mpid)
        self.answer.created.append(self.fresh_mpid)
        return self.fresh_mpid

    def link(self, mpid: int, type_: str, value: str) -> None:
        """Give a profile an identity."""
        self.links.append(Link(mpid, type_, value, self.position))
        self.answer.linked.add((mpid, type_, value))

    def unlink(self, mpid: int, type_: str, value: str, why: str, moved_to: int = 0) -> None:
        """Take an identity from a profile."""
        self.links = [link for link in self.links if link[:3] != (mpid, type_, value)]
        self.answer.unlinked.add(Unlinked(mpid, type_, value, why, moved_to))

    def guard(self, type_: str, value: str) -> None:
        """Let a value find nobody from now on."""
        self.guarded.add((type_, value))
        self.answer.guarded.add((type_, value))

    def link_all(self, mpid: int, usable: Identities, deciding: str | None) -> None:
        """Link all of R to the answer, but for what may not be."""
        answer, policy = self.answer, self.policy
        was_known = self.known(mpid)
        answer.matched = {type_ for type_, value in usable.items() if self.holds(mpid, type_, value)}
        # Login types first: they say whether the profile will be known, which the guard of the others asks.
        for type_ in sorted(usable, key=lambda type_: type_ not in policy.login):
            value = usable[type_]
            if type_ in answer.matched:
                continue
            elsewhere = [other for other in self.holders(type_, value) if other != mpid]
            if type_ in policy.immutable and self.values(mpid, type_):
                answer.refused.add(Refused(type_, value, "immutable", mpid))
            elif type_ in policy.unique and elsewhere:
                answer.refused.add(Refused(type_, value, "unique", elsewhere[0]))
            elif self.full(mpid, type_):
                answer.refused.add(Refused(type_, value, "max_values_per_profile", mpid))
                assert deciding is not None
                self.guard(deciding, usable[deciding])
            elif (self.known(mpid) or type_ in policy.login) and self.shared_enough(mpid, type_, value):
                answer.refused.add(Refused(type_, value, "max_known_profiles_per_value"))
                self.guard(type_, value)
            else:
                if type_ in policy.unique:
                    for old in self.values(mpid, type_):
                        self.unlink(mpid, type_, old, "replaced")
                self.link(mpid, type_, value)
        if self.known(mpid) and not was_known:
            for type_ in answer.matched:
                self.guard_if_shared(mpid, type_, usable[type_])

    def shared_enough(self, mpid: int, type_: str, value: str) -> bool:
        """Tell whether as many known profiles as may be hold a value, apart from this profile."""
        limit = self.policy.max_known_profiles_per_value
        if not limit or type_ in self.policy.unique or type_ not in self.policy.priority:
            return False
        recent = self.holders(type_, value)[:MOST_RECENT]
        return len([other for other in recent if other != mpid and self.known(other)]) >= limit

    def guard_if_shared(self, mpid: int, type_: str, value: str | None) -> None:
        """Guard, but leave in place, a value of an anonymous profile that has become known."""
        normal = None if value is None else self.normal(type_, value)
        if normal is None or (type_, normal) in self.guarded:
            return
        if self.holds(mpid, type_, normal) and self.shared_enough(mpid, type_, normal):
            self.guard(type_, normal)

    def full(self, mpid: int, type_: str) -> bool:
        """Tell whether a profile holds as many values of a type as it may; a unique type's value is replaced."""
        limit = self.policy.max_values_per_profile
        return bool(limit) and type_ not in self.policy.unique and len(self.values(mpid, type_)) >= limit

    # -- modify (section 4) -----------------------------------------------------------------------------------------

    def modify(self, mpid: int, changes: tuple[IdentityChange, ...]) -> None:
        """Apply all changes in their order, or none."""
        answer = self.answer
        if mpid not in self.mpids:
            raise Impossible(404, "NOT_FOUND_ERROR")
        was_known = self.known(mpid)
        dropped = 0
        for change in changes:
            type_ = change.identity_type
            old = None if change.old_value is None else self.normal(type_, change.old_value)
            new = None if change.new_value is None else self.normal(type_, change.new_value)
            why = "" if new is None else self.why_dropped(type_, new, change.new_value or "")
            if new is None:
                self.remove(mpid, type_, old)
            elif why:
                answer.dropped.add((type_, new[:LONGEST], why))
                dropped += 1
            else:
                self.put(mpid, type_, old, new)
        if dropped == len(changes):
            raise Impossible(400, "LOOKUP_ERROR")
        if self.known(mpid) and not was_known:
            for change in changes:
                self.guard_if_shared(mpid, change.identity_type, change.new_value)
        answer.why, answer.mpid, answer.known = "modified", mpid, self.known(mpid)

    def remove(self, mpid: int, type_: str, old: str | None) -> None:
        """Take a value from the profile."""
        if old is None or not self.holds(mpid, type_, old):
            self.answer.notes.append((type_, "absent", 0))
        elif type_ in self.policy.immutable:
            raise Impossible(400, "IMMUTABLE_IDENTITY")
        else:
            self.unlink(mpid, type_, old, "removed")

    def put(self, mpid: int, type_: str, old: str | None, new: str) -> None:
        """Give the profile a value, in the place of the old one where it holds that."""
        answer, policy = self.answer, self.policy
        replaces = {old} if old is not None and old != new and self.holds(mpid, type_, old) else set()
        if self.holds(mpid, type_, new):
            for value in replaces:
                self.unlink(mpid, type_, value, "removed")
            answer.notes.append((type_, "unchanged", 0))
            return
        if type_ in policy.unique:
            replaces = self.values(mpid, type_)
        elsewhere = [other for other in self.holders(type_, new) if other != mpid]
        if type_ in policy.immutable and (replaces or elsewhere):
            raise Impossible(400, "IMMUTABLE_IDENTITY")
        if not replaces and self.full(mpid, type_):
            answer.refused.add(Refused(type_, new, "max_values_per_profile", mpid))
            return
        if (self.known(mpid) or type_ in policy.login) and self.shared_enough(mpid, type_, new):
            answer.refused.add(Refused(type_, new, "max_known_profiles_per_value"))
            self.guard(type_, new)
            return
        if old is not None and old not in replaces:
            answer.notes.append((type_, "added", 0))
        for value in replaces:
            self.unlink(mpid, type_, value, "modified" if value == old else "replaced")
        if type_ in policy.unique:
            for other in elsewhere:
                self.unlink(other, type_, new, "moved", mpid)
                answer.notes.append((type_, "moved", other))
        self.link(mpid, type_, new)

    # -- alias (section 5) and release (section 6) ------------------------------------------------------------------

    def alias(self, asked: AliasRequest, now_ms: int) -> None:
        """Accept a window of one profile's events for another."""
        policy = self.policy
        if policy.strategy not in ("default", "profile_conversion", "profile_link"):
            raise Impossible(403, "ALIAS_NOT_ALLOWED")
        earliest = now_ms - policy.alias_window_ms
        start = earliest if asked.start_ms is None else asked.start_ms
        end = now_ms if asked.end_ms is None else asked.end_ms
        unknown = asked.source not in self.mpids or asked.destination not in self.mpids
        if asked.source == asked.destination or start > end or start > now_ms or end < earliest or unknown:
            raise Impossible(400, "INVALID_DATA")
        due = now_ms + policy.alias_delay_ms
        self.answer.alias = Window(asked.source, asked.destination, max(earliest, start), min(end, now_ms), due)
        self.answer.why, self.answer.mpid = "alias_accepted", asked.destination
        self.answer.known = self.known(asked.destination)

    def release(self, sent: dict[str, str | None]) -> None:
        """Let guarded values find profiles again."""
        named = {(type_, self.normal(type_, value)) for type_, value in sent.items() if value is not None}
        if not named & self.guarded:
            raise Impossible(404, "NOT_FOUND_ERROR")
        self.answer.why = "released"
        self.answer.released = named & self.guarded
        self.guarded -= named
