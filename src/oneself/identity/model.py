"""The words of the identity core: requests, profiles, changes, traces and decisions (docs/identity.md).

Everything here is a value. Positions are places in the journal: larger is later.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from oneself.identity.revision import Move, NoPast, Past, Reguard, Remove, Restore, Revive, Withdraw

Identity = tuple[str, str]
"""``(type, value)``; the value is normalised."""

Kind = Literal["identify", "login", "logout", "search"]
"""What resolves identities to a profile."""

Protection = Literal["create_and_update", "only_update", "only_read"]
"""What an input may do to profiles (docs/profiles.md, "Input protection")."""

HOLDERS_READ: Final = 100
"""Of the holders of one value, only this many most recently linked take part in a walk (docs/identity.md)."""

INLINE_VALUES: Final = 8
"""A profile's record keeps this many values a type in itself; further ones are rows of their own."""


class IdentityChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change that a modify request asks for: no old value adds, no new value removes, both replace."""

    identity_type: str
    old_value: str | None = None
    new_value: str | None = None


class AliasRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """An alias as asked for; times are unix ms, None where the client left the default."""

    source: int
    destination: int
    start_ms: int | None = None
    end_ms: int | None = None
    scope: str = ""
    device: str = ""


class Upkeep(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the server asks of itself, in small steps (docs/retention.md); a request has what its kind needs.

    ``retention``: the batches of ``workspaces`` after one position and ``through`` another lose their events;
    there are ``batches`` of them with ``events``, whose ``names`` (workspace, name) stay known. ``expiry``: of
    ``mpids``, those of which the workspace heard nothing since ``before_ms`` (unix ms). ``forget``: the ids of
    requests ``through`` a position. ``discard``: what is left of the batches at ``positions``.
    """

    workspaces: tuple[str, ...] = ()
    after: int = 0
    through: int = 0
    batches: int = 0
    events: int = 0
    names: tuple[tuple[str, str], ...] = ()
    before_ms: int = 0
    mpids: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()


Later = Literal["", "redecide", "keep"]
"""What becomes of later decisions that depend on what is undone (docs/undo.md): where it is empty, they stand in the
way; they are decided again; or what they depend on is kept."""


class Undo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be undone: the decisions at ``positions``, or all that an identity ``value`` of a type caused.

    ``input``, ``first`` and ``last`` say by which input and span the decisions were chosen, where they were.
    ``guard`` has the value guarded afterwards, so that it does not fuse people again.
    """

    positions: tuple[int, ...] = ()
    type: str = ""
    value: str = ""
    later: Later = ""
    guard: bool = True
    input: str = ""
    first: int = 0
    last: int = 0


class Request(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a caller asks of the core, with every value as it was sent.

    ``identities`` (type to value) and ``previous_mpid`` belong to the kinds that resolve, ``mpid`` and
    ``changes`` to ``modify``, ``alias`` to ``alias``; ``release`` names guarded values in ``identities``. A
    ``batch`` has an ``mpid`` or else ``identities``, and what its input may do. ``position`` is that of the
    accepted alias that is processed or undone; ``upkeep`` is what the server asks of itself. A ``split`` takes
    the old values of its ``changes`` from the profile ``mpid``; ``undo`` is what is to be undone.
    """

    kind: Literal[
        "identify", "login", "logout", "search", "modify", "alias", "release", "batch",
        "alias_process", "alias_undo", "retention", "expiry", "forget", "discard", "undo", "split",
    ]  # fmt: skip
    identities: dict[str, str | None] = {}
    previous_mpid: int | None = None
    mpid: int | None = None
    protection: Protection = "create_and_update"
    changes: tuple[IdentityChange, ...] = ()
    alias: AliasRequest | None = None
    position: int = 0
    upkeep: Upkeep | None = None
    undo: Undo | None = None


class Profile(msgspec.Struct, frozen=True, gc=False):
    """One profile as decisions see it.

    ``held`` maps each type it holds to ``{value: position of its link}``, at most ``INLINE_VALUES`` a type;
    ``more`` counts, for the types that hold more, the values beyond those.
    """

    mpid: int
    created: int
    held: dict[str, dict[str, int]] = {}
    more: dict[str, int] = {}

    def count(self, type_: str) -> int:
        """Return how many values of a type this profile holds."""
        return len(self.held.get(type_, ())) + self.more.get(type_, 0)


AliasState = Literal["waiting", "applied", "dropped", "undone"]
AliasWhy = Literal[
    "", "source_overlaps", "source_was_destination", "destination_was_source",
    "source_unknown", "destination_unknown",
]  # fmt: skip


class AliasRow(msgspec.Struct, frozen=True):
    """An accepted alias and what became of it; ``position`` is that of its request and names it.

    ``why`` says what an alias was dropped for; ``processed`` is the position of its latest outcome, 0 while it
    waits. Times are unix ms, both ends of the window in it.
    """

    position: int
    source: int
    destination: int
    start_ms: int
    end_ms: int
    due_ms: int
    scope: str = ""
    device: str = ""
    outcome: AliasState = "waiting"
    why: AliasWhy = ""
    processed: int = 0


# -- changes: what a decision does to the state; the journal keeps them, and the state is their fold ----------


class Create(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="change", tag="create"):
    """A new, empty profile."""

    mpid: int


class Link(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="change", tag="link"):
    """An identity becomes one of a profile's."""

    mpid: int
    type: str
    value: str


class Unlink(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="change", tag="unlink"):
    """An identity leaves a profile and goes to its history; ``moved_to`` is its new holder, 0 where none."""

    mpid: int
    type: str
    value: str
    why: Literal["replaced", "modified", "removed", "moved", "split"]
    moved_to: int = 0


class Guard(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="change", tag="guard"):
    """An identity value finds nobody from now on, until it is released by hand."""

    type: str
    value: str
    why: Literal["max_known_profiles_per_value", "max_values_per_profile", "undone"]


class Release(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="change", tag="release"):
    """A guarded value finds profiles again."""

    type: str
    value: str


class Alias(msgspec.Struct, frozen=True, array_like=True, tag_field="change", tag="alias"):
    """A window of a source profile's events is to be seen in a destination profile (unix ms, both ends in)."""

    source: int
    destination: int
    start_ms: int
    end_ms: int
    due_ms: int
    scope: str = ""
    device: str = ""


class AliasOutcome(msgspec.Struct, frozen=True, array_like=True, tag_field="change", tag="alias_outcome"):
    """What becomes of the alias that was accepted at a position.

    ``why`` is what it is dropped for, and ``other`` the position of the alias that stands against it, 0 where
    none does.
    """

    position: int
    source: int
    destination: int
    outcome: AliasState
    why: AliasWhy = ""
    other: int = 0


class Trim(msgspec.Struct, frozen=True, array_like=True, tag_field="change", tag="trim"):
    """The batches of some workspaces after one position and through another have lost their events for good.

    ``batches`` and ``events`` count them; ``names`` are those of events and screens that stay known.
    """

    workspaces: tuple[str, ...]
    after: int
    through: int
    batches: int = 0
    events: int = 0
    names: tuple[tuple[str, str], ...] = ()


class Expire(msgspec.Struct, frozen=True, array_like=True, tag_field="change", tag="expire"):
    """What a workspace knows of a profile is forgotten.

    ``last``: no other workspace knows of it, and what is known over all goes, too. Its MPID and identities stay.
    """

    mpid: int
    workspace: str
    last: bool


class Forget(msgspec.Struct, frozen=True, array_like=True, tag_field="change", tag="forget"):
    """The ids of requests, batches and events through a position are no longer known: sent again, they are new."""

    through: int


class Discard(msgspec.Struct, frozen=True, array_like=True, tag_field="change", tag="discard"):
    """What was left of batches is deleted, since no profile is made of them any more."""

    positions: tuple[int, ...]


Revision = Remove | Revive | Restore | Withdraw | Past | NoPast | Reguard | Move
"""What an undo or a split does to what was."""

Change = Create | Link | Unlink | Guard | Release | Alias | AliasOutcome | Trim | Expire | Forget | Discard | Revision


class Revised(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the decision at a position counts for since an undo: its answer and its changes.

    ``standing`` says how that came: it was left out (``undone``), kept in part (``kept``), decided again
    (``redecided``), counts as before (``restored``), or its batch went along with a split (``moved``).
    """

    position: int
    standing: Literal["undone", "kept", "redecided", "restored", "moved"]
    mpid: int | None = None
    changes: list[Change] = []


# -- the trace: why a decision came out as it did ---------------------------------------------------------------


class Seen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One candidate of a step and why it was passed over; an empty ``passed`` means that it was taken.

    ``passed``: ``login`` (known, and none of its login identities is in the request), ``immutable`` (none of
    its immutable identities is), ``contradicted:TYPE`` (the request names another account in TYPE),
    ``outside`` (eligible, but not among the candidates left by earlier steps).
    """

    mpid: int
    passed: str = ""


class Step(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One look-up of the walk, with every profile that holds the value, most recently linked first."""

    type: str
    outcome: Literal["none", "found", "narrowed", "unchanged"]
    seen: list[Seen]


class Dropped(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A value of the request that did not count: ``junk``, ``too_long``, ``empty`` or ``guarded``."""

    type: str
    value: str
    why: Literal["junk", "too_long", "empty", "guarded"]


class Refused(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An identity that was not linked; ``other`` is the profile that keeps it, 0 where none is meant.

    ``why``: ``unique`` (another profile holds the unique value), ``immutable`` (the profile keeps its value),
    ``max_known_profiles_per_value``, ``max_values_per_profile``.
    """

    type: str
    value: str
    why: Literal["unique", "immutable", "max_known_profiles_per_value", "max_values_per_profile"]
    other: int = 0


class Note(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A remark on one change of a modify request: ``added`` (the old value was not held), ``unchanged``,
    ``absent`` (nothing to remove), ``moved`` (taken from profile ``other``)."""

    type: str
    why: Literal["added", "unchanged", "absent", "moved"]
    other: int = 0


Why = Literal[
    "matched", "new", "new_known_converted", "new_known_created", "logout_created", "guarded_created",
    "not_found", "modified", "alias_accepted", "released", "refused",
    "mpid_given", "only_read", "user_unknown",
    "alias_applied", "alias_dropped", "alias_undone",
    "trimmed", "expired", "none_expired", "forgotten", "discarded",
    "undone", "split",
]  # fmt: skip


class Trace(msgspec.Struct, omit_defaults=True, gc=False):
    """How a decision was made, step by step; ``tie`` says what decided among several candidates."""

    why: Why
    steps: list[Step] = []
    tie: Literal["", "previous_mpid", "latest", "lowest"] = ""
    among: list[int] = []
    dropped: list[Dropped] = []
    refused: list[Refused] = []
    notes: list[Note] = []


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was answered with an error: HTTP status, code and message, and the field that is meant."""

    status: int
    code: str
    message: str


class Decision(msgspec.Struct, omit_defaults=True, gc=False):
    """The outcome of one request.

    ``mpid`` is the answer, None where there is none (not found, refused, would-be new on ``read_only``);
    ``matched`` are the types of the request whose value the answer already held. ``revised`` are the decisions that
    count for something else since an undo.
    """

    trace: Trace
    mpid: int | None = None
    known: bool = False
    matched: list[str] = []
    changes: list[Change] = []
    error: Refusal | None = None
    revised: list[Revised] = []


class View:
    """What a decision may know: the part of one space's state that its request touches.

    ``holders`` has an entry for every identity of the request: ``(position, mpid)`` of its holders, most
    recently linked first, the first ``HOLDERS_READ`` of them at least. ``profiles`` has every one of those
    holders and every MPID the request names, where it exists. ``further`` has, for profiles with more values
    than their record keeps, those of the request's identities that they hold: ``{(mpid, identity): position}``.
    ``aliases`` has, by position, each alias that the request names, and of the applied ones that could stand
    against it the latest at least; ``profiles`` has its source and destination. ``stored`` has, for each MPID
    that may expire, when a batch for it last came to each workspace that knows it (unix ms).
    """

    __slots__ = ("aliases", "further", "guarded", "holders", "profiles", "stored")

    def __init__(self) -> None:
        self.holders: dict[Identity, list[tuple[int, int]]] = {}
        self.profiles: dict[int, Profile] = {}
        self.guarded: set[Identity] = set()
        self.further: dict[tuple[int, Identity], int] = {}
        self.aliases: dict[int, AliasRow] = {}
        self.stored: dict[int, dict[str, int]] = {}

    def holds(self, profile: Profile, type_: str, value: str) -> bool:
        """Tell whether a profile holds an identity of the request."""
        values = profile.held.get(type_)
        if values is None:
            return False
        if value in values:
            return True
        return type_ in profile.more and (profile.mpid, (type_, value)) in self.further

    def part(self, identities: Iterable[Identity], mpid: int) -> View:
        """Return what of this view a request on one profile and some identities must see, to be changed apart."""
        part = View()
        for identity in identities:
            rows = part.holders[identity] = self.holders[identity]
            if identity in self.guarded:
                part.guarded.add(identity)
            for holder in (mpid, *(other for _, other in rows)):
                part.profiles[holder] = self.profiles[holder]
                if (holder, identity) in self.further:
                    part.further[holder, identity] = self.further[holder, identity]
        part.profiles[mpid] = self.profiles[mpid]
        return part
