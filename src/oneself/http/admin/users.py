"""Finding users and looking at one (docs/admin-api.md, "Users")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from oneself.engine import ENVIRONMENTS
from oneself.http.admin.access import NO_USER, Access, Found, Place, answer, entries_at
from oneself.http.admin.alias_view import note_view
from oneself.http.admin.query import MOST_CHARACTERS, Query, path_mpid
from oneself.http.admin.user_view import DevicePage, details_view, device_view, first_value, positions_of
from oneself.http.exchange import Exchange
from oneself.http.fields import mpid_of
from oneself.http.ports import Engine
from oneself.http.wire import HttpError, Reply
from oneself.identity import HOLDERS_READ, IDENTITY_TYPES, Profile
from oneself.identity.names import FROM_EVENTS
from oneself.identity.values import normalise
from oneself.profiles import Device, Text
from oneself.store import Touched, Wanted, is_expired, merged_user

__all__ = ["FoundUser", "FoundUsers", "UserRoutes"]

MOST_FOUND: Final = 100
"""A search lists so many users."""

MOST_DEVICES: Final = 100
MOST_NOTES: Final = 100

DEVICES: Final = 20
"""Devices in one answer, where no limit is given."""


class FoundUser(msgspec.Struct, frozen=True):
    """A user that a search found; ``matched`` are the types of the identities that have the value.

    First and last seen are over all workspaces, null where no batch was seen.
    """

    mpid: str
    environment: str
    known: bool
    customer_id: str | None
    email: str | None
    matched: list[str]
    first_seen_ms: int | None
    last_seen_ms: int | None


class FoundUsers(msgspec.Struct, frozen=True):
    """Users, those first to whom the value was linked last; ``more`` tells that some are not listed."""

    users: list[FoundUser]
    more: bool


class _Hit(msgspec.Struct):
    """Why a search lists a profile; ``position`` is that of the latest link."""

    found: Found
    position: int = 0
    matched: list[str] = []


class UserRoutes:
    """Answers who has an identity, and what is known of one user. ``clock`` gives unix seconds."""

    def __init__(self, access: Access, engine: Engine, clock: Callable[[], float]) -> None:
        self._access = access
        self._engine = engine
        self._clock = clock

    async def search(self, exchange: Exchange) -> Reply:
        """Answer the users who hold an identity, of any type or of one, or who have an MPID."""
        place = await self._access.enter(exchange)
        query = Query(exchange, "value", "type", "environment", "mpid")
        value, mpid = query.text("value"), query.mpid("mpid")
        type_ = query.choice("type", FROM_EVENTS.keys())
        environment = query.choice("environment", ENVIRONMENTS)
        if bool(value) == (mpid is not None):
            raise HttpError(400, "value (in the query): give either value or mpid.")
        if type_ and mpid is not None:
            raise HttpError(400, "type (in the query): it goes with value only.")
        if mpid is None and not type_:
            mpid = _as_mpid(value)
        types = [FROM_EVENTS[type_]] if type_ else sorted(IDENTITY_TYPES) if value else []
        hits, more = await self._hits(place, environment, types, value, mpid)
        return answer(FoundUsers(await self._shown(place, hits), more))

    async def _hits(
        self, place: Place, environment: str, types: list[str], value: str, mpid: int | None
    ) -> tuple[dict[int, _Hit], bool]:
        """Return the profiles that hold a value or have an MPID, those linked last first, and whether more do."""
        region = place.policy.phone_region
        identities = [(type_, normalise(type_, value, region)) for type_ in types]
        mpids = [] if mpid is None else [mpid]
        store = self._engine.store
        reading = await store.read(
            {space: Wanted(identities, mpids) for space in place.spaces(environment)}, margin=1
        )
        durable, more = store.position, False
        hits: dict[int, _Hit] = {}
        for space, view in reading.views.items():
            in_ = space.rpartition("/")[2]
            if mpid in view.profiles:
                hits[mpid] = _Hit(Found(in_, view.profiles[mpid]))
            for (type_, _), holders in view.holders.items():
                more |= len(holders) > HOLDERS_READ
                for position, holder in holders:
                    if position <= durable and holder in view.profiles:
                        hit = hits.setdefault(holder, _Hit(Found(in_, view.profiles[holder])))
                        hit.matched.append(type_)
                        hit.position = max(hit.position, position)
        listed = [hit for hit in hits.items() if hit[1].found.profile.created <= durable]
        listed.sort(key=lambda hit: (hit[1].position, hit[0]), reverse=True)
        return dict(listed[:MOST_FOUND]), more or len(listed) > MOST_FOUND

    async def _shown(self, place: Place, hits: dict[int, _Hit]) -> list[FoundUser]:
        """Return what is listed of the profiles that were found."""
        rows = await self._engine.store.parts([Touched(mpid, place.name, "") for mpid in hits])
        shown = []
        for (mpid, hit), parts in zip(hits.items(), rows, strict=True):
            person = parts.person
            held = _latest_first(hit.found.profile)
            shown.append(
                FoundUser(
                    mpid=str(mpid),
                    environment=hit.found.environment,
                    known=not place.policy.login.isdisjoint(hit.found.profile.held),
                    customer_id=first_value(held, "customerid"),
                    email=first_value(held, "email"),
                    matched=sorted(hit.matched),
                    first_seen_ms=person.first_seen_ms if person else None,
                    last_seen_ms=person.last_seen_ms if person else None,
                )
            )
        return shown

    async def details(self, exchange: Exchange) -> Reply:
        """Answer all that is known of a user."""
        place = await self._access.enter(exchange)
        Query(exchange)
        mpid = path_mpid(exchange)
        found = await self._access.profile(place, mpid)
        store = self._engine.store
        lifetime_ms, now_ms = place.workspace.profile_lifetime_ms, self._now_ms()
        user = await merged_user(store, mpid, place.name, lifetime_ms=lifetime_ms, now_ms=now_ms)
        profile = await store.profile(mpid)
        if user is None or profile is None:
            raise HttpError(404, NO_USER)
        entries = await entries_at(store, positions_of(user, profile.history))
        devices, latest = DevicePage([], None), None
        if user.workspace is not None:
            devices = await self._devices(place, mpid, "", DEVICES)
            latest = await self._device(place, mpid, user.workspace.device)
        notes = [note_view(mpid, alias) for alias in await store.aliases(mpid, limit=MOST_NOTES)]
        return answer(details_view(place, found.environment, user, profile.history, entries, devices, latest, notes))

    async def devices(self, exchange: Exchange) -> Reply:
        """Answer the devices of a user, some at a time."""
        place = await self._access.enter(exchange)
        query = Query(exchange, "after", "limit")
        after, limit = query.text("after"), query.number("limit", 1, MOST_DEVICES)
        mpid = path_mpid(exchange)
        await self._access.profile(place, mpid)
        (parts,) = await self._engine.store.parts([Touched(mpid, place.name, "")])
        if is_expired(parts.workspace, place.workspace.profile_lifetime_ms, self._now_ms()):
            return answer(DevicePage([], None))
        return answer(await self._devices(place, mpid, after, limit or DEVICES))

    async def _devices(self, place: Place, mpid: int, after: str, limit: int) -> DevicePage:
        rows = await self._engine.store.devices(mpid, place.name, after=after, limit=limit + 1)
        shown = [device_view(name, device) for name, device in rows[:limit]]
        return DevicePage(shown, shown[-1].name if len(rows) > limit else None)

    async def _device(self, place: Place, mpid: int, name: Text | None) -> Device | None:
        if name is None:
            return None
        (parts,) = await self._engine.store.parts([Touched(mpid, place.name, name.value)])
        return parts.device

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _as_mpid(value: str) -> int | None:
    """Return the MPID that a value may be meant as; None where it is none."""
    try:
        return mpid_of(value.strip(), "value") if len(value) <= MOST_CHARACTERS else None
    except HttpError:
        return None


def _latest_first(profile: Profile) -> list[tuple[str, str]]:
    """Return ``(type, value)`` of the identities in a profile's row, those linked last first."""
    rows = [(at, type_, value) for type_, values in profile.held.items() for value, at in values.items()]
    return [(type_, value) for _, type_, value in sorted(rows, reverse=True)]
