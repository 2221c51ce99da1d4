"""The alias endpoint: a window of one user's events is to be seen in another user (docs/alias.md)."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from oneself.engine.calls import Call
from oneself.http.auth import Gate
from oneself.http.body import decode
from oneself.http.exchange import Exchange
from oneself.http.fields import ALLOWED, Environment, Milliseconds, Mpid, RequestId, Text, mpid_of
from oneself.http.identity import refuse
from oneself.http.ports import Engine
from oneself.http.wire import CORS, HttpError, Reply
from oneself.identity import AliasRequest, Request

__all__ = ["AliasBody", "AliasRoutes"]


class AliasData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose events are to be seen where; the window defaults to the longest allowed, up to now."""

    source_mpid: Mpid
    destination_mpid: Mpid
    start_unixtime_ms: Milliseconds | None = None
    end_unixtime_ms: Milliseconds | None = None
    scope: Literal["device", "mpid"] | None = None
    device_application_stamp: Text | None = None


class AliasBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an alias request."""

    environment: Environment
    data: AliasData
    request_id: RequestId | None = None
    request_type: Literal["alias"] | None = None
    api_key: Text | None = None


_decoder = msgspec.json.Decoder(AliasBody)
_ACCEPTED: Final = Reply(202, [*CORS, (b"content-length", b"0")], b"")


class AliasRoutes:
    """Answers alias requests through an engine."""

    def __init__(self, gate: Gate, engine: Engine) -> None:
        self._gate = gate
        self._engine = engine

    async def alias(self, exchange: Exchange) -> Reply:
        """Answer an alias request to the input whose key the path names."""
        key: str = exchange.scope["path_params"]["key"]
        caller = await exchange.admit_path(self._gate, key)
        try:
            asked = decode(_decoder, exchange.body, ALLOWED)
            if asked.api_key is not None and asked.api_key != key:
                raise HttpError(400, "api_key: it is not the key in the path.")
            request = AliasRequest(
                _mpid(asked.data.source_mpid, "data.source_mpid"),
                _mpid(asked.data.destination_mpid, "data.destination_mpid"),
                _whole(asked.data.start_unixtime_ms),
                _whole(asked.data.end_unixtime_ms),
                asked.data.scope or "",
                asked.data.device_application_stamp or "",
            )
        except HttpError as error:
            error.code = "INVALID_DATA"  # the one code that alias clients know
            raise
        outcome = await self._engine.submit(
            Call(caller.space(asked.environment), caller.id, Request("alias", alias=request), asked.request_id or "")
        )
        if outcome.decision.error is not None:
            raise refuse(outcome.decision.error)
        return _ACCEPTED


def _mpid(value: str | float, field: str) -> int:
    mpid = mpid_of(value, field)
    if mpid is None:
        raise HttpError(400, f"{field}: it is empty or 0, which no user has.")
    return mpid


def _whole(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else int(milliseconds)
