"""What another policy would make of histories written by hand (docs/whatif.md)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import apsw
import msgspec

from batches import event, taken
from engine_at_work import SPACE
from oneself.engine import Call
from oneself.history.recorded import Span
from oneself.history.whatif.report import Example, Gain, Moved, Report, SpaceReport, Users
from oneself.history.whatif.reporting import what_if
from oneself.identity import AliasRequest, IdentityChange, Kind, PolicySettings, Request, build
from profile_world import NOW_MS, source
from recorded_histories import Clock, at_work, looking

DEFAULT = PolicySettings()
ISOLATION = PolicySettings("profile_isolation")
LINK = PolicySettings("profile_link")
BEST = PolicySettings("best_match")


class Story:
    """A history in the making; each step gives the MPID that it was answered with."""

    def __init__(self, folder: Path, settings: PolicySettings = DEFAULT) -> None:
        self.folder = folder
        self.clock = Clock()
        self._scopes = {"acme": settings}
        self._asked: list[Any] = []
        self._ids = iter(range(1, 1000))

    async def _tell(self, call: Call) -> int | None:
        outcome = await self._engine.submit(call)
        return outcome.decision.mpid

    async def visit(self, kind: Kind, device: str = "d1", previous: int | None = None, **identities: str) -> int:
        sent: dict[str, str | None] = {**identities, "device_application_stamp": device}
        mpid = await self._tell(Call(SPACE, "shop/web", Request(kind, sent, previous), f"r{next(self._ids)}"))
        assert mpid is not None
        return mpid

    async def batch(self, mpid: int | None, *names: str, device: str = "d1", **fields: Any) -> int | None:
        document = {"mp_deviceid": device, "events": [event(name) for name in names], **fields}
        if mpid is not None:
            document["mpid"] = mpid
        return await self._tell(taken(document, source("web"), NOW_MS, scope="acme"))

    async def modify(self, mpid: int, type_: str, old: str | None, new: str | None) -> None:
        changes = (IdentityChange(type_, old, new),)
        await self._tell(Call(SPACE, "shop/server", Request("modify", mpid=mpid, changes=changes)))

    async def alias(self, source_: int, destination: int) -> None:
        await self._tell(Call(SPACE, "shop/web", Request("alias", alias=AliasRequest(source_, destination))))

    def write(self, tell: Any) -> None:
        """Let ``tell`` make the story happen."""

        async def run() -> None:
            async with at_work(self.folder, self._scopes, clock=self.clock) as self._engine:
                await tell(self)

        asyncio.run(run())

    def what_if(self, settings: PolicySettings, first: int = 1, **more: Any) -> SpaceReport:
        """Report on the story under another policy."""
        (space,) = self.report(settings, first, **more).spaces
        return space

    def report(self, settings: PolicySettings, first: int = 1, **more: Any) -> Report:
        async def run() -> Report:
            async with looking(self.folder) as store:
                return await what_if(store, {"acme": build(settings)}, Span(first, store.position), **more)

        return asyncio.run(run())


async def sign_up(story: Story) -> None:
    """An anonymous visitor with three events signs up, and sends two more."""
    visitor = await story.visit("identify")
    await story.batch(visitor, "looked", "liked", "left")
    user = await story.visit("login", previous=visitor, customerid="c1", email="a@x.org")
    assert user == visitor
    await story.batch(user, "bought", "paid")


def test_a_user_who_signed_up_is_split_where_anonymous_history_is_kept_apart(tmp_path: Path) -> None:
    story = Story(tmp_path / "data")
    story.write(sign_up)
    found = story.what_if(ISOLATION)
    assert found.users == Users(all=1, kept=0, split=1, fused=0, both=0, unanswered=0)
    assert found.known_users == found.users
    assert found.moved == Moved(requests=2, batches=1, events=2, batches_without_events=0)
    assert (found.gained, found.lost) == (Gain(0, 0), Gain(1, 2))
    assert (found.before.profiles.all, found.before.profiles.known) == (1, 1)
    assert (found.after.profiles.all, found.after.profiles.known, found.after.profiles.anonymous) == (2, 1, 1)
    (example,) = found.split
    assert (example.known, example.others_in_all, example.position) == (True, 2, 3)
    assert [share.known for share in example.others] == [False, True]
    assert [share.requests for share in example.others] == [2, 2]
    assert "why: a new known user: the anonymous profile that was found becomes theirs" in example.recorded
    assert "why: a new known user: a new profile" in example.instead
    (lost,) = found.lost_most
    assert (lost.mpid, lost.requests, lost.position) == (example.mpid, 2, 3)


def test_the_batches_of_a_client_follow_the_user_that_it_would_have_been_given(tmp_path: Path) -> None:
    """The second batch names the recorded MPID, and is the new user's under the other policy, the first is not."""
    story = Story(tmp_path / "data")
    story.write(sign_up)
    found = story.what_if(ISOLATION, show_values=True)
    before, after = found.split[0].others
    assert before.mpid == found.split[0].mpid, "what came first keeps its MPID"
    assert after.mpid != before.mpid
    assert [row.requests for row in found.after.most_requests] == [2, 2]
    assert found.split[0].request_id == "r2"
    assert "before it was MPID" in found.split[0].instead[0]


def test_anonymous_history_is_gained_where_visitors_become_the_users_who_sign_up(tmp_path: Path) -> None:
    story = Story(tmp_path / "data", ISOLATION)

    async def tell(story: Story) -> None:
        visitor = await story.visit("identify")
        await story.batch(visitor, "looked", "liked", "left")
        user = await story.visit("login", previous=visitor, customerid="c1", email="a@x.org")
        assert user != visitor
        await story.batch(user, "bought")

    story.write(tell)
    found = story.what_if(PolicySettings("profile_conversion"))
    assert found.users == Users(all=2, kept=0, split=0, fused=2, both=0, unanswered=0)
    assert found.known_users == Users(all=1, kept=0, split=0, fused=1, both=0, unanswered=0)
    assert (found.gained, found.lost) == (Gain(1, 2), Gain(0, 0))
    assert found.moved.requests == 2
    (fused,) = found.fused
    assert (fused.known, fused.requests, fused.others_in_all) == (True, 4, 2)
    assert sorted(share.known for share in fused.others) == [False, True]
    assert [example.requests for example in found.gained_most] == [2]
    assert found.gained_most[0].position == 3


def test_users_who_only_are_known_by_other_types_lose_their_history_where_they_stand(tmp_path: Path) -> None:
    """Nobody moves, but without login types nobody is known."""
    story = Story(tmp_path / "data")
    story.write(sign_up)
    found = story.what_if(BEST)
    assert found.users == Users(all=1, kept=1, split=0, fused=0, both=0, unanswered=0)
    assert found.moved.requests == 0
    assert found.lost == Gain(1, 4)
    assert found.after.profiles.known == 0
    (example,) = found.lost_most
    assert example.position == 3, "the login is the first that is answered as a known user, and would not be"
    assert "a known user" in example.recorded[1]
    assert "an anonymous user" in example.instead[1]
    assert found.differs


def test_a_sentinel_that_is_listed_as_junk_parts_the_users_whom_it_fused(tmp_path: Path) -> None:
    story = Story(tmp_path / "data", BEST)

    async def tell(story: Story) -> None:
        for number in range(5):
            await story.visit("identify", f"d{number}", email="cookieless@x.org")

    story.write(tell)
    found = story.what_if(PolicySettings("best_match", junk_also=("cookieless@x.org",)))
    assert found.users == Users(all=1, kept=0, split=1, fused=0, both=0, unanswered=0)
    assert found.after.profiles.all == 5
    assert found.after.answers.dropped == {"junk": 5}
    assert found.before.answers.dropped == {}
    assert [setting.name for setting in found.settings] == ["junk"]
    assert found.settings[0].after.endswith("1 of them new, 0 gone")


def test_a_modify_of_a_parted_user_goes_to_the_one_whom_its_client_knows(tmp_path: Path) -> None:
    """On a device it is the user whom the device was answered with, without one the latest."""
    story = Story(tmp_path / "data")

    async def tell(story: Story) -> None:
        visitor = await story.visit("identify")
        await story.visit("login", previous=visitor, customerid="c1")
        await story.visit("login", "d2", customerid="c1")
        await story.visit("identify")
        await story.modify(visitor, "email", None, "late@x.org")
        await story.batch(visitor, "on the first device")
        await story.batch(visitor, "on the second device", device="d2")
        await story.batch(visitor, "on a third device", device="d3")

    story.write(tell)
    found = story.what_if(ISOLATION)
    (user,) = found.split
    anonymous, known = sorted(user.others, key=lambda share: share.known)
    # The modify and the batches of the two devices that logged in are the known user's; a device that has not been
    # answered since the visitor was parted has the first answer.
    assert (anonymous.requests, known.requests) == (2, 5)
    assert (anonymous.identities, known.identities) == (1, 4)


def test_requests_that_are_refused_have_no_user_any_more_or_have_one_only_now(tmp_path: Path) -> None:
    story = Story(tmp_path / "data", PolicySettings(junk_also=("d3",)))

    async def tell(story: Story) -> None:
        first = await story.visit("identify", "d1")
        second = await story.visit("identify", "d2", customerid="c2")
        await story.alias(first, second)
        assert await story.batch(None, "from nobody", device="d3") is None

    story.write(tell)
    found = story.what_if(PolicySettings("profile_isolation", junk_also=("d1",)))
    assert (found.answered, found.unanswered, found.newly_answered) == (1, 1, 1)
    assert found.users == Users(all=2, kept=1, split=0, fused=0, both=0, unanswered=1)
    assert found.before.answers.errors == {"LOOKUP_ERROR": 1}
    assert found.after.answers.errors == {"ALIAS_NOT_ALLOWED": 1, "LOOKUP_ERROR": 1}
    assert (found.before.answers.aliases, found.after.answers.aliases) == ({"accepted": 1}, {})
    assert found.before.answers.users == found.after.answers.users == 2


def test_an_alias_that_only_the_other_policy_takes_is_in_effect_when_it_is_due(tmp_path: Path) -> None:
    story = Story(tmp_path / "data", ISOLATION)

    async def tell(story: Story) -> None:
        first, second = await story.visit("identify", "d1"), await story.visit("identify", "d2")
        await story.alias(first, second)
        await story.alias(second, first)
        story.clock.now_ms += 25 * 3_600_000
        await story.visit("identify", "d1")

    story.write(tell)
    found = story.what_if(LINK)
    assert found.before.answers.errors == {"ALIAS_NOT_ALLOWED": 2}
    assert found.after.answers.errors == {}
    assert found.after.answers.aliases == {"accepted": 2, "applied": 1, "dropped": 1}


def test_what_was_decided_before_the_span_stays_as_it_was(tmp_path: Path) -> None:
    story = Story(tmp_path / "data")

    async def tell(story: Story) -> None:
        await sign_up(story)
        visitor = await story.visit("identify", "d9")
        await story.visit("login", "d9", previous=visitor, customerid="c9")

    story.write(tell)
    found = story.what_if(ISOLATION, first=5)
    assert (found.folded, found.decided) == (4, 2)
    assert found.users == Users(all=2, kept=1, split=1, fused=0, both=0, unanswered=0)
    assert found.answered == 6
    later = story.what_if(ISOLATION, first=6)
    assert later.users == found.users, "the visitor of before signs up under the other policy"
    assert later.folded == 5


def test_values_are_digests_unless_they_are_asked_for(tmp_path: Path) -> None:
    story = Story(tmp_path / "data")
    story.write(sign_up)
    hidden = [msgspec.json.encode(story.report(ISOLATION)).decode() for _ in range(2)]
    shown = msgspec.json.encode(story.report(ISOLATION, show_values=True)).decode()
    for value in ("a@x.org", "'c1'", "'d1'"):
        assert value in shown
        assert value not in hidden[0]
    assert "r2" not in hidden[0]
    assert hidden[0] != hidden[1], "digests of one report mean nothing in another"
    example: Example = story.what_if(ISOLATION).split[0]
    digest = example.recorded[0].split("device_application_stamp ")[1].split(";")[0]
    assert sum(digest in line for line in example.recorded + example.instead) >= 4


def test_a_space_of_no_scope_in_the_configuration_is_left_as_it_is(tmp_path: Path) -> None:
    story = Story(tmp_path / "data")
    story.write(sign_up)

    async def run() -> Report:
        async with looking(story.folder) as store:
            return await what_if(store, {"other": build(BEST)}, Span(1, store.position))

    report = asyncio.run(run())
    assert (report.spaces, report.left) == ([], [SPACE])
    assert not report.differs


def test_events_that_are_not_kept_any_more_are_told_apart(tmp_path: Path) -> None:
    story = Story(tmp_path / "data")
    story.write(sign_up)
    file = apsw.Connection(str(tmp_path / "data" / "journal.db"))
    with file:
        file.execute("DELETE FROM batch WHERE position = 4")
    file.close()
    found = story.what_if(ISOLATION)
    assert found.moved == Moved(requests=2, batches=1, events=0, batches_without_events=1)


def test_of_many_the_ten_most_telling_are_told_and_of_their_parts_the_five_largest(tmp_path: Path) -> None:
    story = Story(tmp_path / "data")

    async def tell(story: Story) -> None:
        for number in range(12):
            visitor = await story.visit("identify", f"d{number}")
            for _ in range(number):
                await story.batch(visitor, "looked", device=f"d{number}")
            await story.visit("login", f"d{number}", previous=visitor, customerid=f"c{number}")
        for number in range(7):
            await story.visit("logout", "kiosk")
            await story.visit("login", "kiosk", customerid=f"k{number}")

    story.write(tell)
    found = story.what_if(ISOLATION)
    assert found.users.split == 19
    assert len(found.split) == len(found.lost_most) == 10
    assert found.lost_most[0].requests == 12
    assert [example.requests for example in found.lost_most] == sorted(
        (example.requests for example in found.lost_most), reverse=True
    )
    (kiosk,) = found.fused
    assert (kiosk.others_in_all, len(kiosk.others), kiosk.requests) == (7, 5, 7)
    assert found.users.both == 7
