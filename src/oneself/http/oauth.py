"""OAuth: a token for client credentials, and taking tokens back (docs/profile-api.md, "Tokens")."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import msgspec

from oneself.http.body import decode, read_body
from oneself.http.exchange import Exchange
from oneself.http.fields import Text
from oneself.http.tokens import LIFETIME_SECONDS, ApiCaller, Tokens, forbidden
from oneself.http.wire import ErrorBody, Header, HttpError, Reply, error_reply, json_reply

__all__ = ["ApiCaller", "OAuthError", "OAuthRoutes", "RevokeBody", "Revoked", "Token", "TokenBody", "Tokens"]

GRANT: Final = "client_credentials"

_MOST_FIELDS: Final = 100
_NO_STORE: Final[tuple[Header, Header]] = ((b"cache-control", b"no-store"), (b"pragma", b"no-cache"))
_UNSUPPORTED: Final = "UNSUPPORTED_GRANT_TYPE"

_NO_CREDENTIALS: Final = "No credentials: send client_id and client_secret, in the body or as Authorization: Basic."


Body = TypeVar("Body")


class RevokeBody(msgspec.Struct, frozen=True):
    """A client's credentials, as JSON or as a form; without them they stand in the Authorization header."""

    client_id: Text | None = None
    client_secret: Text | None = None


class TokenBody(RevokeBody, frozen=True):
    """The body of a request for a token, as JSON or as a form; what other servers know means nothing."""

    grant_type: Annotated[Text | None, msgspec.Meta(extra_json_schema={"enum": [GRANT]})] = None
    audience: Annotated[Text | None, msgspec.Meta(description="Accepted, and means nothing.")] = None


class Token(msgspec.Struct, frozen=True):
    """A token for the Authorization header; ``expires_in`` is seconds."""

    access_token: str
    expires_in: int
    token_type: str


class Revoked(msgspec.Struct, frozen=True):
    """Which client's tokens are void, and up to when they were issued, in unix ms."""

    client_id: str
    revoked_until_ms: int


class OAuthError(ErrorBody, frozen=True):
    """An error in the form of every other answer, and in that of the OAuth standard."""

    error: str
    error_description: str


class _Credentials(NamedTuple):
    """A client's credentials; those of a Basic header may be ``encoded``."""

    client_id: str
    secret: str
    encoded: bool


_token_decoder = msgspec.json.Decoder(TokenBody)
_revoke_decoder = msgspec.json.Decoder(RevokeBody)
_told = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder().encode


class OAuthRoutes:
    """Answers requests for tokens and for taking them back."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def token(self, exchange: Exchange) -> Reply:
        """Give a client a token for its credentials."""
        try:
            asked = _asked(_token_decoder, await read_body(exchange.headers, exchange.receive))
            if asked.grant_type is None:
                raise HttpError(400, f"grant_type: it is missing; send {GRANT}.")
            if asked.grant_type != GRANT:
                raise HttpError(400, f"grant_type: only {GRANT} is known.", code=_UNSUPPORTED)
            given = _credentials(exchange, asked)
            token = await self._tokens.issue(given.client_id, given.secret, encoded=given.encoded)
        except HttpError as error:
            return _oauth_error(error)
        return _private(200, _encode(Token(token, LIFETIME_SECONDS, "Bearer")))

    async def revoke(self, exchange: Exchange) -> Reply:
        """Take back every token of the client whose credentials are given."""
        try:
            body = await read_body(exchange.headers, exchange.receive) if _has_body(exchange) else b"{}"
            given = _credentials(exchange, _asked(_revoke_decoder, body))
            client_id = self._tokens.authenticate(given.client_id, given.secret, encoded=given.encoded)
        except HttpError as error:
            return _oauth_error(error)
        return await self._revoke(client_id)

    async def revoke_other(self, exchange: Exchange) -> Reply:
        """Take back every token of the client that the path names, for an admin of all its workspaces."""
        caller = await self._tokens.verify(exchange.headers)
        client_id: str = exchange.scope["path_params"]["client_id"]
        workspaces = self._tokens.workspaces_of(client_id)
        if workspaces is None:
            raise forbidden()
        for workspace in workspaces:
            caller.require("admin", workspace)
        return await self._revoke(client_id)

    async def _revoke(self, client_id: str) -> Reply:
        return _private(200, _encode(Revoked(client_id, await self._tokens.revoke(client_id))))


def _asked(decoder: msgspec.json.Decoder[Body], body: bytes) -> Body:
    """Return what a JSON or form body asks for; what it is shows in how it begins, for clients label it anyhow."""
    if body.lstrip()[:1] in (b"{", b"["):
        return decode(decoder, body, {})
    try:
        fields = parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError:
        raise HttpError(400, "body: it is neither a JSON object nor a form.") from None
    found: dict[str, str] = {}
    for name, value in fields:
        if name not in TokenBody.__struct_fields__:
            continue
        if name in found:
            raise HttpError(400, f"{name}: it is there twice.")
        if "\0" in value:
            raise HttpError(400, f"{name}: it has a NUL character.")
        found[name] = value
    asked: Body = msgspec.convert(found, decoder.type)
    return asked


def _credentials(exchange: Exchange, asked: RevokeBody) -> _Credentials:
    """Return the credentials of a request, which stand in its Basic header or in its body."""
    if b"authorization" in exchange.headers:
        given = _basic(exchange.headers)
        if asked.client_secret or asked.client_id not in (None, "", given.client_id):
            raise HttpError(400, "client_id: credentials are in the Authorization header and in the body; send one.")
        return given
    if not asked.client_id or not asked.client_secret:
        raise HttpError(401, _NO_CREDENTIALS)
    return _Credentials(asked.client_id, asked.client_secret, encoded=False)


def _basic(headers: Mapping[bytes, bytes]) -> _Credentials:
    scheme, _, encoded = headers[b"authorization"].partition(b" ")
    if scheme.lower() != b"basic":
        raise HttpError(401, "Authorization: this path takes Basic only.")
    try:
        plain = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        plain = ""
    client_id, colon, secret = plain.partition(":")
    if not colon:
        raise HttpError(401, "Authorization: it is not base64(client_id:client_secret).")
    return _Credentials(client_id, secret, encoded=True)


def _has_body(exchange: Exchange) -> bool:
    return exchange.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in exchange.headers


def _oauth_error(error: HttpError) -> Reply:
    """Return the reply of an error in the form of the OAuth standard, too (RFC 6749, 5.2)."""
    name = "invalid_client" if error.status == 401 else "invalid_request"
    if error.code == _UNSUPPORTED:
        name = error.code.lower()
    reply = error_reply(error)
    body = _encode(_told.decode(reply.body) | {"error": name, "error_description": error.message})
    headers = [(key, value) for key, value in reply.headers if key != b"content-length"]
    return Reply(reply.status, [*headers, (b"content-length", b"%d" % len(body)), *_NO_STORE], body)


def _private(status: int, body: bytes) -> Reply:
    reply = json_reply(status, body)
    reply.headers.extend(_NO_STORE)
    return reply
