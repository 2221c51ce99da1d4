"""Who is calling: Basic, HMAC, or a key alone where the input allows it (docs/http.md, "Who may do what").

Secrets are compared in constant time, also for keys that nobody has, and no answer tells whether a key exists.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from oneself.config import Config, Input, Workspace
from oneself.http.wire import HttpError

__all__ = ["Caller", "Gate"]

MAX_SKEW_SECONDS: Final = 15 * 60
"""A signature's date may be this far from this server's clock, either way."""

_REMEMBERED: Final = 1_024

_DUMMY: Final = secrets.token_bytes(32)
"""Takes the place of the secret of a key that nobody has, so that such a key takes as long as another."""

_NOTHING: Final = (
    "No credentials: send Authorization: Basic base64(key:secret), or x-mp-key with Date and x-mp-signature, "
    "or x-mp-key alone where the input allows it."
)
_WRONG: Final = "The key or its secret is wrong."
_WRONG_ALONE: Final = "This key is not accepted alone: it is wrong, or its input needs the secret, too."
_WRONG_SIGNATURE: Final = (
    "The key or the signature is wrong: x-mp-signature is the hex HMAC-SHA256, by the secret, of "
    "METHOD, newline, Date, newline, path and body."
)


class Caller(msgspec.Struct, frozen=True):
    """An authenticated caller: an input, its workspace, and whether it showed nothing but its key.

    ``production`` and ``development`` name its spaces of identities; ``id`` is ``WORKSPACE/INPUT``.
    """

    id: str
    key: str
    workspace: Workspace
    key_only: bool
    production: str
    development: str

    def space(self, environment: str) -> str:
        """Return the space of identities that this caller means by an environment."""
        return self.production if environment == "production" else self.development


class _Credentials(msgspec.Struct, frozen=True):
    """An input as the gate knows it; ``alone`` is the caller by the key alone, None where that is not allowed."""

    secret: bytes
    digest: bytes
    caller: Caller
    alone: Caller | None


class Gate:
    """Tells callers by their credentials. ``clock`` gives unix seconds, against which signatures are dated."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        workspaces = {workspace.name: workspace for workspace in config.workspaces}
        self._inputs = {
            input_.key.encode(): _credentials(input_, workspaces[input_.workspace]) for input_ in config.inputs
        }
        self._alone = {key: known.alone for key, known in self._inputs.items() if known.alone is not None}
        self._by_basic: dict[bytes, Caller] = {}

    def admit(self, headers: Mapping[bytes, bytes]) -> Caller | None:
        """Return the caller; None where there is a signature, which ``verify`` can tell once the body is read.

        Raises ``HttpError`` 401.
        """
        authorization = headers.get(b"authorization")
        if authorization:
            return self._by_basic.get(authorization) or self._basic(authorization)
        key = headers.get(b"x-mp-key")
        if not key:
            raise HttpError(401, _NOTHING)
        if b"x-mp-signature" in headers:
            return None
        caller = self._alone.get(key)
        if caller is None:
            raise HttpError(401, _WRONG_ALONE)
        return caller

    def admit_path(self, headers: Mapping[bytes, bytes], key: str) -> Caller | None:
        """Return the caller of a path that names a key; other credentials may say more, but never another key.

        None where there is a signature, as with ``admit``.
        """
        if headers.get(b"authorization") or b"x-mp-signature" in headers:
            caller = self.admit(headers)
            if caller is not None:
                self.check_path(caller, key)
            return caller
        caller = self.public(key)
        if caller is None:
            raise HttpError(401, _WRONG_ALONE)
        return caller

    def public(self, key: str) -> Caller | None:
        """Return the caller that a key alone names; None where there is none or the key alone is not enough."""
        return self._alone.get(key.encode("utf-8", "surrogatepass"))

    def check_path(self, caller: Caller, key: str) -> None:
        """Raise ``HttpError`` 403 where a caller names another input's key in the path."""
        if caller.key != key:
            raise HttpError(403, "The key in the path is not the one that was authenticated.")

    def verify(self, headers: Mapping[bytes, bytes], method: str, path: bytes, query: bytes, body: bytes) -> Caller:
        """Return the caller that signed a request; ``body`` is what the client signed, before compression.

        The path may have been signed with its query string or without. Raises ``HttpError`` 401.
        """
        date = headers.get(b"date", b"")
        if abs(_seconds(date) - self._clock()) > MAX_SKEW_SECONDS:
            raise HttpError(401, "Date: it is more than 15 minutes away from this server's clock.")
        known = self._inputs.get(headers[b"x-mp-key"])
        secret = known.secret if known is not None and known.secret else _DUMMY
        given = headers[b"x-mp-signature"].strip().lower()
        start = method.encode() + b"\n" + date + b"\n" + path
        right = _signed_by(secret, start + body, given)
        if query:
            right |= _signed_by(secret, start + b"?" + query + body, given)
        if not right or known is None or not known.secret:
            raise HttpError(401, _WRONG_SIGNATURE)
        return known.caller

    def _basic(self, authorization: bytes) -> Caller:
        """Return the caller of a Basic header, and remember a right one."""
        scheme, _, encoded = authorization.partition(b" ")
        if scheme.lower() != b"basic":
            raise HttpError(401, "Authorization: this path takes Basic only.")
        try:
            key, colon, secret = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        except binascii.Error:
            key, colon, secret = b"", b"", b""
        if not colon:
            raise HttpError(401, "Authorization: it is not base64(key:secret).")
        known = self._inputs.get(key)
        digest = known.digest if known is not None and known.secret else _DUMMY
        right = hmac.compare_digest(hashlib.sha256(secret).digest(), digest)
        if not right or known is None or not known.secret:
            raise HttpError(401, _WRONG)
        if len(self._by_basic) >= _REMEMBERED:
            self._by_basic.clear()
        self._by_basic[authorization] = known.caller
        return known.caller


def _credentials(input_: Input, workspace: Workspace) -> _Credentials:
    def caller(*, key_only: bool) -> Caller:
        scope = workspace.scope
        return Caller(
            input_.id, input_.key, workspace, key_only, f"{scope}/production", f"{scope}/development"
        )  # fmt: skip

    secret = input_.secret.encode()
    alone = caller(key_only=True) if input_.key_only else None
    return _Credentials(secret, hashlib.sha256(secret).digest(), caller(key_only=False), alone)


def _signed_by(secret: bytes, message: bytes, given: bytes) -> bool:
    return hmac.compare_digest(hmac.digest(secret, message, "sha256").hex().encode(), given)


def _seconds(date: bytes) -> float:
    """Return the unix seconds of a Date header: ISO 8601 basic (or extended) or RFC 1123."""
    text = date.decode("latin-1").strip()
    try:
        moment = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        message = "Date: a signed request needs it, as 20240131T101500Z or as Wed, 31 Jan 2024 10:15:00 GMT."
        raise HttpError(401, message) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
