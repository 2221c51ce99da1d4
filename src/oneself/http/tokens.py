"""Access tokens of API clients: signed, kept nowhere, and void once their client is revoked (docs/profile-api.md).

Secrets are compared in constant time, also for clients that nobody has, and no answer tells whether a client exists.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

import jwt
import msgspec
import structlog

from oneself.config import ApiClient, Config, Permission
from oneself.http.ports import Engine
from oneself.http.wire import HttpError

__all__ = ["LIFETIME_SECONDS", "ApiCaller", "Tokens", "forbidden"]

_log = structlog.get_logger("oneself.http")

LIFETIME_SECONDS: Final = 8 * 60 * 60

_KEY_SETTING: Final = "token_key"
_REVOKED_SETTING: Final = "revoked:"
_KEY_BYTES: Final = 32
_ALGORITHM: Final = "HS256"
_NAME: Final = "oneself"
"""Who issues the tokens, and whom they are for."""

FRESH_SECONDS: Final = 1.0
"""So long the times of revocation are believed that other servers may have changed."""

_REMEMBERED: Final = 1_024

_DUMMY: Final = secrets.token_bytes(32)
"""Takes the place of the secret of a client that nobody has, so that such a client takes as long as another."""

_OPTIONS: Final[Any] = {
    "require": ["iss", "aud", "sub", "iat", "exp", "jti"],
    "verify_exp": False,  # by the server's clock, below
    "verify_iat": False,
}

_NO_TOKEN: Final = "No token: send Authorization: Bearer TOKEN; POST /oauth/token gives you one."
_BAD_TOKEN: Final = "The token is wrong, expired or revoked; POST /oauth/token gives you a new one."
_WRONG: Final = "The client_id or the client_secret is wrong."


def forbidden() -> HttpError:
    """Return the error of a client that may not do something, or to whom something is not even said to exist."""
    return HttpError(403, "This client may not do that here, or there is no such place.")


class ApiCaller(msgspec.Struct, frozen=True):
    """An API client that showed a token: its id, the names of its workspaces, and what it may do there."""

    client: str
    workspaces: frozenset[str]
    permissions: frozenset[Permission]

    def require(self, permission: Permission, workspace: str) -> None:
        """Raise ``HttpError`` 403 unless the client has a permission and a workspace, by its name."""
        if permission not in self.permissions or workspace not in self.workspaces:
            raise forbidden()


class _Client(msgspec.Struct, frozen=True):
    """An API client as the tokens know it."""

    digest: bytes
    caller: ApiCaller


class _Verified(msgspec.Struct, frozen=True, gc=False):
    """A token that was verified; it holds until ``expires``, in unix seconds."""

    caller: ApiCaller
    expires: float


class Tokens:
    """Issues, verifies and revokes the tokens of a configuration's API clients.

    The key that signs them and the times of revocation are settings of the engine's store; they are read, and the
    key is made, when they are first needed. Where other servers are at work on the same data, what they revoked is
    known ``FRESH_SECONDS`` later at most. ``clock`` gives unix seconds.
    """

    def __init__(self, config: Config, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock
        self._clients = {one.client_id: _client(one) for one in config.api_clients}
        self._key = b""
        self._revoked: dict[str, int] = {}  # client: tokens issued up to then (unix ms) are void
        self._newest: dict[str, int] = {}  # client: when its newest token was issued, unix ms
        self._verified: dict[bytes, _Verified] = {}
        self._lock = asyncio.Lock()
        self._shared = engine.store.shared
        self._fresh_until = 0.0  # by the machine's monotonic clock, where they are shared

    def authenticate(self, client_id: str, secret: str, *, encoded: bool = False) -> str:
        """Return the id of the client that credentials are of; raise ``HttpError`` 401 where they are wrong.

        ``encoded`` ones may also have been URL-encoded, as the OAuth standard has it for a Basic header.
        """
        plain = unquote_plus(client_id), unquote_plus(secret)
        right = self._is_secret(client_id, secret)
        if encoded and self._is_secret(*plain):
            return plain[0]
        if not right:
            raise HttpError(401, _WRONG)
        return client_id

    async def issue(self, client_id: str, secret: str, *, encoded: bool = False) -> str:
        """Return a new token of a client; raise ``HttpError`` 401 where the credentials are wrong."""
        client_id = self.authenticate(client_id, secret, encoded=encoded)
        await self._load()
        # later than any revocation, even where the clock was put back
        issued = max(self._now_ms(), self._revoked.get(client_id, 0) + 1)
        self._newest[client_id] = max(issued, self._newest.get(client_id, 0))
        claims = {
            "iss": _NAME,
            "aud": _NAME,
            "sub": client_id,
            "iat": issued / 1000,
            "exp": issued / 1000 + LIFETIME_SECONDS,
            "jti": secrets.token_hex(16),
        }
        return jwt.encode(claims, self._key, _ALGORITHM)

    def recall(self, headers: Mapping[bytes, bytes]) -> ApiCaller | None:
        """Return the caller of a token that was verified before and still holds; None where ``verify`` must look."""
        if self._shared and time.monotonic() > self._fresh_until:
            return None
        known = self._verified.get(headers.get(b"authorization", b""))
        return known.caller if known is not None and known.expires > self._clock() else None

    async def verify(self, headers: Mapping[bytes, bytes]) -> ApiCaller:
        """Return the caller whose token is in the headers; raise ``HttpError`` 401 where there is no good one."""
        caller = self.recall(headers)
        if caller is not None:
            return caller
        authorization = headers.get(b"authorization", b"")
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise HttpError(401, _NO_TOKEN, bearer=True)
        await self._load()
        verified = self._read(token.strip())
        if len(self._verified) >= _REMEMBERED:
            self._verified.clear()
        self._verified[authorization] = verified
        return verified.caller

    async def revoke(self, client_id: str) -> int:
        """Make every token void that a client was issued up to now, durably; return when that was, in unix ms."""
        await self._load()
        at_ms = max(self._now_ms(), self._newest.get(client_id, 0), self._revoked.get(client_id, 0))
        await self._engine.store.set_setting(_REVOKED_SETTING + client_id, str(at_ms))
        self._revoked[client_id] = max(at_ms, self._revoked.get(client_id, 0))
        self._forget(client_id)
        _log.info("tokens revoked", client=client_id)
        return at_ms

    def workspaces_of(self, client_id: str) -> frozenset[str] | None:
        """Return the workspaces of a client; None where there is no such client."""
        client = self._clients.get(client_id)
        return None if client is None else client.caller.workspaces

    def _is_secret(self, client_id: str, secret: str) -> bool:
        client = self._clients.get(client_id)
        digest = _DUMMY if client is None else client.digest
        return hmac.compare_digest(_digest(secret), digest) and client is not None

    def _read(self, token: bytes) -> _Verified:
        """Return what a token says; raise ``HttpError`` 401 where it does not hold."""
        try:
            claims = jwt.decode(token, self._key, [_ALGORITHM], _OPTIONS, audience=_NAME, issuer=_NAME)
        except jwt.PyJWTError:
            raise HttpError(401, _BAD_TOKEN, bearer=True) from None
        client = self._clients.get(claims["sub"])
        issued_ms, expires = round(claims["iat"] * 1000), claims["exp"]
        if client is None or expires <= self._clock() or issued_ms <= self._revoked.get(claims["sub"], 0):
            raise HttpError(401, _BAD_TOKEN, bearer=True)
        return _Verified(client.caller, expires)

    async def _load(self) -> None:
        """Read the key and the times of revocation unless they are known; make the key where there is none."""
        if self._is_fresh():
            return
        async with self._lock:
            if self._is_fresh():
                return
            store, began = self._engine.store, time.monotonic()
            for client in self._clients:
                at_ms = await store.setting(_REVOKED_SETTING + client)
                if at_ms is not None and int(at_ms) > self._revoked.get(client, 0):
                    self._revoked[client] = int(at_ms)
                    self._forget(client)
            if not self._key:
                self._key = bytes.fromhex(await store.first_setting(_KEY_SETTING, secrets.token_hex(_KEY_BYTES)))
            self._fresh_until = began + FRESH_SECONDS

    def _is_fresh(self) -> bool:
        return bool(self._key) and not (self._shared and time.monotonic() > self._fresh_until)

    def _forget(self, client_id: str) -> None:
        """Forget the tokens of a client that were verified."""
        self._verified = {
            header: known for header, known in self._verified.items() if known.caller.client != client_id
        }

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _client(one: ApiClient) -> _Client:
    caller = ApiCaller(one.client_id, frozenset(one.workspaces), frozenset(one.permissions))
    return _Client(_digest(one.client_secret), caller)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
