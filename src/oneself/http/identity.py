"""The identity endpoints: identify, login, logout, search and modify (docs/http.md, "Identity")."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

import msgspec

from oneself.engine.calls import Call, Outcome
from oneself.http.auth import Caller, Gate
from oneself.http.body import decode
from oneself.http.exchange import Exchange
from oneself.http.fields import ALLOWED, Client, Environment, Milliseconds, Mpid, RequestId, Text, TypeName, mpid_of
from oneself.http.ports import Engine
from oneself.http.wire import HttpError, Reply, json_reply
from oneself.identity import IDENTITY_TYPES, IdentityChange, Kind, Refusal, Request
from oneself.identity.names import FROM_EVENTS

__all__ = ["IdentityRoutes", "Modified", "ModifyBody", "ResolveBody", "Resolved", "refuse"]

_Names = Annotated[
    dict[TypeName, Text | None],
    msgspec.Meta(
        description="Identity type to value. The names of the Events API are understood, too.",
        extra_json_schema={"propertyNames": {"enum": sorted(IDENTITY_TYPES)}, "minProperties": 1},
    ),
]

CONTEXT: Final = "b25lc2VsZi0x"
"""What clients send back as ``context``. It means nothing: a device keeps the first one it ever got."""


class ResolveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an identify, login, logout or search request."""

    environment: Environment
    known_identities: _Names
    client_sdk: Client = None
    context: Text | None = None
    request_id: RequestId | None = None
    request_timestamp_ms: Milliseconds | None = None
    previous_mpid: Mpid | None = None


class ChangeItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One change of an identity: no old value adds, no new value removes, both replace."""

    identity_type: TypeName
    old_value: Text | None
    new_value: Text | None


class ModifyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a modify request."""

    environment: Environment
    identity_changes: Annotated[list[ChangeItem], msgspec.Meta(min_length=1, max_length=100)]
    client_sdk: Client = None
    context: Text | None = None
    request_id: RequestId | None = None
    request_timestamp_ms: Milliseconds | None = None


class Resolved(msgspec.Struct, frozen=True):
    """Whom identities belong to; ``mpid`` is null where only a read-only request would have made a user."""

    context: str
    mpid: str | None
    matched_identities: dict[str, str]
    is_ephemeral: bool
    is_logged_in: bool


class ChangeResult(msgspec.Struct, frozen=True):
    """One change that was made."""

    identity_type: str
    modified_mpid: str


class Modified(msgspec.Struct, frozen=True):
    """The changes that were made. It names no ``mpid`` of its own, which clients take for a change of user."""

    change_results: list[ChangeResult]
    is_logged_in: bool


_encode = msgspec.json.Encoder().encode
_resolve_decoder = msgspec.json.Decoder(ResolveBody)
_modify_decoder = msgspec.json.Decoder(ModifyBody)


class IdentityRoutes:
    """Answers identity requests through an engine."""

    def __init__(self, gate: Gate, engine: Engine) -> None:
        self._gate = gate
        self._engine = engine

    async def resolve(self, kind: Kind, exchange: Exchange) -> Reply:
        """Answer a request that resolves identities to a user."""
        caller = await exchange.admit(self._gate)
        call, reply = self.ask(kind, caller, exchange.body, query=exchange.scope["query_string"])
        return reply(await self._engine.submit(call))

    def ask(
        self, kind: Kind, caller: Caller, body: bytes, _ip: str = "", *, query: bytes = b""
    ) -> tuple[Call, Callable[[Outcome], Reply]]:
        """Read a request that resolves identities; return its call, and what makes a reply of the outcome."""
        read_only, show_matches = _flags(query)
        if caller.key_only:
            _limit_key_only(read_only or kind == "search")
        asked = decode(_resolve_decoder, body, ALLOWED)
        sent = _canonical(asked.known_identities)
        previous = mpid_of(asked.previous_mpid, "previous_mpid") if asked.previous_mpid else None
        call = Call(
            caller.space(asked.environment),
            caller.id,
            Request(kind, sent, previous),
            asked.request_id or "",
            read_only,
        )
        return call, partial(_resolved, sent, show_matches)

    async def modify(self, path_mpid: str, exchange: Exchange) -> Reply:
        """Answer a request to change the identities of the user whose MPID the path names."""
        caller = await exchange.admit(self._gate)
        read_only, _ = _flags(exchange.scope["query_string"])
        if caller.key_only:
            _limit_key_only(read_only)
        mpid = mpid_of(path_mpid, "mpid (in the path)")
        if mpid is None:
            raise HttpError(400, "mpid (in the path): it is 0, which no user has.")
        asked = decode(_modify_decoder, exchange.body, ALLOWED)
        changes = tuple(_change(at, item) for at, item in enumerate(asked.identity_changes))
        outcome = await self._engine.submit(
            Call(
                caller.space(asked.environment),
                caller.id,
                Request("modify", mpid=mpid, changes=changes),
                asked.request_id or "",
                read_only,
            )
        )
        decision = outcome.decision
        if decision.error is not None:
            raise refuse(decision.error)
        results = [ChangeResult(change.identity_type, str(mpid)) for change in changes]
        return json_reply(200, _encode(Modified(results, decision.known)))


def _resolved(sent: dict[str, str | None], show_matches: bool, outcome: Outcome) -> Reply:
    """Return the reply to a request that resolved identities."""
    decision = outcome.decision
    if decision.error is not None:
        raise refuse(decision.error)
    mpid = None if decision.mpid is None else str(decision.mpid)
    matched = _matched(outcome, sent) if show_matches else {}
    return json_reply(200, _encode(Resolved(CONTEXT, mpid, matched, False, decision.known)))


def refuse(refusal: Refusal) -> HttpError:
    """Return the error that a refused request is answered with."""
    return HttpError(refusal.status, refusal.message, code=refusal.code)


def _limit_key_only(asks_more: bool) -> None:
    """Raise where a caller that showed nothing but a public key asks for what it did not send."""
    if asks_more:
        raise HttpError(403, "A key alone may not search or read only: authenticate with the secret, too.")


def _flags(query: bytes) -> tuple[bool, bool]:
    """Return ``read_only`` and ``return_matches`` of a query string; other parameters mean nothing."""
    if not query:
        return False, True
    flags = {"read_only": "false", "return_matches": "true"}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name in flags:
            if value not in ("true", "false"):
                raise HttpError(400, f"{name} (in the query): it must be true or false.")
            flags[name] = value
    return flags["read_only"] == "true", flags["return_matches"] == "true"


def _canonical(known: dict[str, Any]) -> dict[str, str | None]:
    """Return identities under their Identity API names."""
    if not known:
        raise HttpError(400, "known_identities: it is empty.", code="LOOKUP_ERROR")
    if known.keys() <= IDENTITY_TYPES:
        return known
    sent: dict[str, str | None] = {}
    for name, value in known.items():
        type_ = FROM_EVENTS[name]
        if value is not None and sent.get(type_, value) not in (None, value):
            raise HttpError(400, f"known_identities.{name}: {type_} has another value in the same request.")
        if value is not None or type_ not in sent:
            sent[type_] = value
    return sent


def _change(at: int, item: ChangeItem) -> IdentityChange:
    if item.old_value is None and item.new_value is None:
        raise HttpError(400, f"identity_changes[{at}]: old_value and new_value are both null.")
    return IdentityChange(FROM_EVENTS[item.identity_type], item.old_value, item.new_value)


def _matched(outcome: Outcome, sent: dict[str, str | None]) -> dict[str, str]:
    """Return those of the identities sent that the user already had.

    A repeated answer may have been to other identities; what this request did not send is not told.
    """
    matched = {type_: value for type_ in outcome.decision.matched if (value := sent.get(type_)) is not None}
    if outcome.repeated:
        first = outcome.request.identities
        return {type_: value for type_, value in matched.items() if first.get(type_) == value}
    return matched
