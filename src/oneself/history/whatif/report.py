"""What a what-if found: everything it tells, as values that encode to JSON (docs/whatif.md)."""

from __future__ import annotations

import msgspec

__all__ = [
    "Answers", "Example", "Gain", "Largest", "Moved", "Profiles", "Report", "Setting", "Share", "Side", "SpaceReport",
    "Users",
]  # fmt: skip


class Profiles(msgspec.Struct, frozen=True):
    """How many profiles there are at the end; an orphan holds no identity and is not anonymous.

    ``identities`` is how many they hold, and ``by_identities`` how many profiles hold none, 1, 2, 3–4, 5–8, 9–16, and
    more.
    """

    all: int
    known: int
    anonymous: int
    orphans: int
    identities: int
    by_identities: tuple[int, ...]


class Answers(msgspec.Struct, frozen=True):
    """What became of requests: how many have a user, errors by code; values that did not count and links refused, by
    reason; values guarded, by reason, and how many are at the end; aliases by what became of them."""

    users: int
    errors: dict[str, int]
    dropped: dict[str, int]
    refused: dict[str, int]
    guarded: dict[str, int]
    guarded_at_end: int
    aliases: dict[str, int]


class Largest(msgspec.Struct, frozen=True):
    """One of the largest profiles."""

    mpid: str
    known: bool
    identities: int
    requests: int


class Side(msgspec.Struct, frozen=True):
    """The history before, as it was recorded, or after, as the other policy decides it.

    ``known_requests`` are those of users who are known at the end.
    """

    profiles: Profiles
    known_requests: int
    answers: Answers
    most_identities: list[Largest]
    most_requests: list[Largest]


class Users(msgspec.Struct, frozen=True):
    """What becomes of recorded profiles that have requests.

    One is kept where its requests stay together and alone, split where they come to several profiles, fused where
    they come to one with those of others; it may be split and fused at once (``both``). It is unanswered where no
    request of it has a user any more.
    """

    all: int
    kept: int
    split: int
    fused: int
    both: int
    unanswered: int


class Moved(msgspec.Struct, frozen=True):
    """What does not stay with the larger part of its user, of all requests that have a user before and after.

    ``batches`` are those of the requests that are batches, ``events`` are in them; ``batches_without_events`` have
    lost theirs to retention.
    """

    requests: int
    batches: int
    events: int
    batches_without_events: int


class Gain(msgspec.Struct, frozen=True):
    """Anonymous history that known users gain or lose: how many users, and their requests in it."""

    users: int
    requests: int


class Share(msgspec.Struct, frozen=True):
    """A part of a user: a profile, and how many of the user's requests stand on it."""

    mpid: str
    known: bool
    identities: int
    requests: int


class Example(msgspec.Struct, frozen=True):
    """A telling user: who, what becomes of them, and the first decision that does it, as recorded and as it would be.

    ``others`` are the profiles on the other side, the largest first, and ``others_in_all`` how many there are;
    ``requests`` are those that make it telling. Of the decision there is the position, the time (unix ms), the id of
    the request where values are shown, and both decisions in words.
    """

    mpid: str
    known: bool
    identities: int
    requests: int
    others: list[Share]
    others_in_all: int
    position: int
    at_ms: int
    request_id: str
    recorded: list[str]
    instead: list[str]


class Setting(msgspec.Struct, frozen=True):
    """A setting of a policy that is another, in words."""

    name: str
    before: str
    after: str


class SpaceReport(msgspec.Struct, frozen=True):
    """One space: what was compared, and what is different.

    ``settings`` are those of the policy that differ from the ones in force at the end of the record.
    ``folded`` entries stay as they were decided, ``decided`` were decided again, and those in ``left_out`` (by kind)
    decide nothing of users. Of all these, ``answered`` requests have a user before and after, ``unanswered`` only
    before, ``newly_answered`` only after.
    """

    space: str
    settings: list[Setting]
    folded: int
    decided: int
    left_out: dict[str, int]
    answered: int
    unanswered: int
    newly_answered: int
    before: Side
    after: Side
    users: Users
    known_users: Users
    moved: Moved
    gained: Gain
    lost: Gain
    split: list[Example]
    fused: list[Example]
    gained_most: list[Example]
    lost_most: list[Example]

    @property
    def differs(self) -> bool:
        """Whether anything is different."""
        same = self.users.kept == self.users.all and self.before == self.after
        return not same or bool(
            self.moved.requests or self.newly_answered or self.gained.requests or self.lost.requests
        )


class Report(msgspec.Struct, frozen=True):
    """A what-if: the positions and times (unix ms) that were compared, and each space.

    ``left`` are spaces whose scope has no policy in the new configuration; they stay as they are. ``values_shown``
    tells that identity values stand in the words as they are; else each is a digest of its own.
    """

    first: int
    last: int
    from_ms: int
    to_ms: int
    values_shown: bool
    spaces: list[SpaceReport]
    left: list[str]

    @property
    def differs(self) -> bool:
        """Whether anything is different."""
        return any(space.differs for space in self.spaces)
