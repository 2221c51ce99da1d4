"""The Profile API: what is known of one user, by MPID or by an immutable identity (docs/profile-api.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl

import msgspec

from oneself.config import Config, Workspace
from oneself.errors import StoreDamaged
from oneself.http.body import decode, read_body
from oneself.http.exchange import Exchange
from oneself.http.fields import Environment, Text, mpid_of
from oneself.http.ports import Engine
from oneself.http.rates import Rate
from oneself.http.tokens import ApiCaller, Tokens, forbidden
from oneself.http.wire import Header, HttpError, Reply, error_reply, json_reply
from oneself.identity import Policy, Request, decide, prepare
from oneself.identity.names import TABLE
from oneself.profiles import FieldsError, Person, read_fields, render
from oneself.store import ShownUser, Wanted

__all__ = ["ProfileRoutes", "ResolveProfileBody", "UserProfile"]

_IDENTITY_TYPES: Final = {row.profile: row.identity for row in TABLE if row.profile is not None}
_PROFILE_NAMES: Final = {identity: name for name, identity in _IDENTITY_TYPES.items()}
_ALLOWED: Final = {"environment_type": "production, development", "encoding": "none"}
_NO_STORE: Final[Header] = (b"cache-control", b"no-store")
_MOST_REMEMBERED: Final = 1_024
_NOBODY: Final = "No user has this MPID here, or nothing was heard of the user for longer than profiles are kept."


class WantedIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An identity of the user who is asked for, under its name in the Profile API."""

    type: Annotated[str, msgspec.Meta(extra_json_schema={"enum": sorted(_IDENTITY_TYPES)})]
    value: Text
    encoding: Literal["none"] | None = None


class ResolveProfileBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request for the profile that has an immutable identity."""

    environment_type: Environment
    identity: WantedIdentity


class IdentityItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One identity of a profile."""

    type: str
    encoding: Literal["none"]
    value: str


class MembershipItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One audience that a profile is in."""

    audience_id: int
    audience_name: str
    expiration_timestamp_ms: int | None


class AttributionItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which campaign the latest installation is owed to."""

    service_provider: str | None
    publisher: str
    campaign: str
    timestamp_unixtime_ms: int


class ConsentItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a user said about one purpose."""

    consented: bool
    timestamp_unixtime_ms: int
    document: str | msgspec.UnsetType = msgspec.UNSET
    location: str | msgspec.UnsetType = msgspec.UNSET
    hardware_id: str | msgspec.UnsetType = msgspec.UNSET


class UserProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A profile as it is answered; of the parts that ``fields`` names, only those asked for are there."""

    mpid: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    created_timestamp_ms: int
    last_stored_timestamp_ms: int
    is_opted_out: bool
    limit_ad_tracking: bool | None
    device_identities: list[IdentityItem] | msgspec.UnsetType = msgspec.UNSET
    user_identities: list[IdentityItem] | msgspec.UnsetType = msgspec.UNSET
    account_userattributes: msgspec.UnsetType | None = msgspec.UNSET
    user_attributes: dict[str, str | list[str] | None] | msgspec.UnsetType = msgspec.UNSET
    audience_memberships: list[MembershipItem] | msgspec.UnsetType = msgspec.UNSET
    attribution: AttributionItem | msgspec.UnsetType | None = msgspec.UNSET
    consent_state: dict[str, dict[str, ConsentItem]] | msgspec.UnsetType = msgspec.UNSET


class _Place(msgspec.Struct, frozen=True):
    """A workspace as the Profile API knows it; ``rates`` are those of its clients."""

    workspace: Workspace
    rates: dict[str, Rate]


class _Asked(msgspec.Struct, frozen=True):
    """What a client asks for, of whichever profile: in which place, which parts of it, and how often it may."""

    place: _Place
    fields: frozenset[str]
    rate: Rate


_resolve_decoder = msgspec.json.Decoder(ResolveProfileBody)
_encode = msgspec.json.Encoder().encode


class ProfileRoutes:
    """Answers what is known of a user. ``clock`` gives unix seconds, ``monotonic`` those that never go back.

    It is one of so many ``workers``, and allows its share of what a workspace does.
    """

    def __init__(
        self,
        config: Config,
        tokens: Tokens,
        engine: Engine,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        workers: int = 1,
    ) -> None:
        self._tokens = tokens
        self._engine = engine
        self._clock = clock
        self._places = {
            _place_path(one.organization, one.account, one.id): _Place(
                one,
                {
                    client.client_id: Rate(one.max_profile_reads_per_second / workers, monotonic)
                    for client in config.api_clients
                    if one.name in client.workspaces
                },
            )
            for one in config.workspaces
        }
        self._asked: dict[tuple[str, bytes, bytes], _Asked] = {}  # by client, what stands before the MPID, and query

    async def by_mpid(self, exchange: Exchange) -> Reply:
        """Answer the profile that the path names."""
        caller = await self._tokens.verify(exchange.headers)
        path = exchange.scope["path_params"]
        return await self.answer(
            caller, path["org"], path["account"], path["workspace"], path["mpid"], exchange.scope["query_string"]
        )

    def at_once(self, target: bytes, headers: Mapping[bytes, bytes]) -> Reply | None:
        """Return the answer to a GET of a profile, if a token that is known and no waiting is all that it takes."""
        caller = self._tokens.recall(headers)
        path, _, query = target.partition(b"?")
        before, _, mpid = path.rpartition(b"/")
        if caller is None or before not in self._places or not mpid.removeprefix(b"-").isdigit():
            return None
        try:
            answering = self._answer(caller, before, mpid.decode(), query)
            answering.send(None)
        except StopIteration as done:
            reply: Reply = done.value
            return reply
        except HttpError as error:
            return error_reply(error)
        except Exception:  # asked again, the application says what is wrong
            return None
        answering.close()
        return None

    async def answer(
        self, caller: ApiCaller, org: str, account: str, workspace: str, mpid: str, query: bytes
    ) -> Reply:
        """Return the profile of an MPID, given the parts of the path and the query string as they were sent.

        Raises ``HttpError`` 400, 403, 404 or 429.
        """
        return await self._answer(caller, _place_path(org, account, workspace), mpid, query)

    async def resolve(self, exchange: Exchange) -> Reply:
        """Answer the profile that has an immutable identity."""
        caller = await self._tokens.verify(exchange.headers)
        path = exchange.scope["path_params"]
        place = self._place(caller, _place_path(path["org"], path["account"], path["workspace"]))
        fields = _fields(exchange.scope["query_string"])
        exchange.body = await read_body(exchange.headers, exchange.receive)
        asked = decode(_resolve_decoder, exchange.body, _ALLOWED)
        type_ = _immutable(self._engine.policies.of(place.workspace.scope), asked.identity.type)
        _take(place, place.rates[caller.client])
        mpid = await self._holder(place, asked.environment_type, type_, asked.identity.value)
        if mpid is None:
            raise HttpError(404, "No user has this identity here.")
        return await self._reply(place, mpid, fields)

    def _answer(self, caller: ApiCaller, before: bytes, mpid: str, query: bytes) -> Coroutine[None, None, Reply]:
        """Return what gives a profile; of what is wrong with a request it says all but 404 before that."""
        asked = self._asked.get((caller.client, before, query)) or self._ask(caller, before, query)
        number = _mpid(mpid)
        _take(asked.place, asked.rate)
        return self._reply(asked.place, number, asked.fields)

    def _ask(self, caller: ApiCaller, before: bytes, query: bytes) -> _Asked:
        """Return what a client asks for if it may, and remember that: what it may do is the configuration's."""
        place = self._place(caller, before)
        asked = _Asked(place, _fields(query), place.rates[caller.client])
        if len(self._asked) >= _MOST_REMEMBERED:
            self._asked.clear()
        self._asked[caller.client, before, query] = asked
        return asked

    def _place(self, caller: ApiCaller, path: bytes) -> _Place:
        place = self._places.get(path)
        if place is None:
            raise forbidden()
        caller.require("profile:read", place.workspace.name)
        return place

    async def _holder(self, place: _Place, environment: str, type_: str, value: str) -> int | None:
        """Return whom a search by one identity finds."""
        space = f"{place.workspace.scope}/{environment}"
        policy = self._engine.policies.of(place.workspace.scope)
        prepared = prepare(policy, Request("search", {type_: value}))
        reading = await self._engine.store.read({space: Wanted(prepared.identities)})
        return decide(prepared, reading.views[space], 0, 0).mpid

    async def _reply(self, place: _Place, mpid: int, fields: frozenset[str]) -> Reply:
        """Return a profile as far as a workspace sees it; raise ``HttpError`` 404 where it sees none."""
        workspace = place.workspace
        user = await self._engine.store.shown(mpid, workspace.name)
        if user is None or user.space.rpartition("/")[0] != workspace.scope:
            raise HttpError(404, _NOBODY)
        person = user.person or await self._unheard(user)
        lifetime_ms = workspace.profile_lifetime_ms
        last_ms = (user.workspace or person).stored_ms
        if lifetime_ms and last_ms < self._clock() * 1000 - lifetime_ms:
            raise HttpError(404, _NOBODY)
        reply = json_reply(200, _encode(render(mpid, person, user.workspace, user.identities, (), fields)))
        reply.headers.append(_NO_STORE)
        return reply

    async def _unheard(self, user: ShownUser) -> Person:
        """Return what there is to say of a profile of which no batch was seen: when it was made."""
        entry = await self._engine.store.entry(user.created)
        if entry is None:
            raise StoreDamaged(f"The journal has no entry {user.created}, which made a profile.")
        return Person(entry.at_ms, entry.at_ms, entry.at_ms)


def _place_path(org: object, account: object, workspace: object) -> bytes:
    """Return what stands before the MPID in the path of a workspace's profiles."""
    return f"/userprofile/v1/{org}/{account}/{workspace}".encode()


def _take(place: _Place, rate: Rate) -> None:
    wait = rate.take()
    if wait:
        allowed = place.workspace.max_profile_reads_per_second
        raise HttpError(429, f"This client may read {allowed} profiles a second here.", retry_after=wait)


def _fields(query: bytes) -> frozenset[str]:
    """Return what a query string asks for; other parameters mean nothing."""
    given = [value for name, value in parse_qsl(query.decode("latin-1")) if name == "fields"]
    try:
        return read_fields(",".join(given))
    except FieldsError as error:
        raise HttpError(400, f"fields (in the query): {str(error).removeprefix('fields ')}.") from None


def _mpid(text: str) -> int:
    mpid = mpid_of(text, "mpid (in the path)")
    if mpid is None:
        raise HttpError(400, "mpid (in the path): it is 0, which no user has.")
    return mpid


def _immutable(policy: Policy, name: str) -> str:
    """Return the identity type of a name; raise ``HttpError`` 400 where it does not name an immutable one."""
    type_ = _IDENTITY_TYPES.get(name)
    if type_ is not None and type_ in policy.immutable:
        return type_
    immutable = ", ".join(
        _PROFILE_NAMES[one] for one in policy.priority if one in policy.immutable and one in _PROFILE_NAMES
    )
    if not immutable:
        raise HttpError(400, "identity.type: no type is immutable in this workspace; ask by MPID.")
    raise HttpError(400, f"identity.type: it must be immutable, which is {immutable} in this workspace.")
