"""The policy of a workspace's scope: its versions, promoting one, restoring one (docs/policies.md, "Versions")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from oneself.config import Config
from oneself.engine.policies import settings_document, settings_of
from oneself.http.admin.access import ADMIN, Access, Place, answer
from oneself.http.admin.query import Query, path_number
from oneself.http.body import decode, read_body
from oneself.http.exchange import Exchange
from oneself.http.ports import Engine
from oneself.http.wire import HttpError, Reply
from oneself.identity import PolicyError, PolicySettings, build
from oneself.store import PolicyOrigin, PolicyVersion

__all__ = ["PolicyRoutes", "PolicyVersions", "PolicyView", "PromoteBody", "RestoreBody"]

MOST_VERSIONS: Final = 2**31 - 1

_Note = Annotated[str, msgspec.Meta(max_length=1_000, description="Why; kept with the version.")]

T = TypeVar("T")


class PromoteBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings that are to be in force: those of a ``[scope.NAME]`` table of the configuration."""

    settings: PolicySettings
    note: _Note = ""


class RestoreBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why an earlier version is restored."""

    note: _Note = ""


class PolicyView(msgspec.Struct, frozen=True):
    """One policy version of a scope: when it came to be, the first decision that it may have made, and from whom.

    ``restores`` is the version that a restoration brings back. Settings that are not there are the strategy's.
    """

    version: int
    in_force: bool
    at_ms: int
    position: int
    origin: Literal["configuration", "promotion", "restoration"]
    author: str
    note: str
    restores: int | None
    settings: PolicySettings


class PolicyVersions(msgspec.Struct, frozen=True):
    """The policy versions of a workspace's scope, the newest, which is in force, first."""

    scope: str
    versions: list[PolicyView]


class PolicyRoutes:
    """Answers which policies a scope had and has, and makes a new one."""

    def __init__(self, config: Config, access: Access, engine: Engine, clock: Callable[[], float]) -> None:
        self._access = access
        self._engine = engine
        self._clock = clock
        self._sharing: dict[str, set[str]] = {}
        for one in config.workspaces:
            self._sharing.setdefault(one.scope, set()).add(one.name)

    async def policies(self, exchange: Exchange) -> Reply:
        """Answer the versions, or make the settings in the body the next one."""
        place = await self._access.enter(exchange, ADMIN)
        Query(exchange)
        if exchange.scope["method"] != "POST":
            return answer(PolicyVersions(place.workspace.scope, await self._views(place)))
        self._require_all(place)
        asked = await _body(exchange, _promote)
        try:
            build(asked.settings)
        except PolicyError as error:
            raise HttpError(400, f"settings.{error.field}: {error.message}.") from None
        return await self._made(place, asked.settings, PolicyOrigin("promotion", _author(place), asked.note))

    async def policy(self, exchange: Exchange) -> Reply:
        """Answer one version."""
        place = await self._access.enter(exchange, ADMIN)
        Query(exchange)
        number = path_number(exchange, "version", MOST_VERSIONS)
        return answer(await self._view(place, number))

    async def restore(self, exchange: Exchange) -> Reply:
        """Put the settings of an earlier version in force again."""
        place = await self._access.enter(exchange, ADMIN)
        Query(exchange)
        self._require_all(place)
        old = await self._view(place, path_number(exchange, "version", MOST_VERSIONS))
        headers = exchange.headers
        has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        note = (await _body(exchange, _restore)).note if has_body else ""
        return await self._made(place, old.settings, PolicyOrigin("restoration", _author(place), note, old.version))

    async def _made(self, place: Place, settings: PolicySettings, made: PolicyOrigin) -> Reply:
        """Keep settings as the scope's next version, take it over here, and answer what is in force."""
        document, now_ms = settings_document(settings), int(self._clock() * 1000)
        version = await self._engine.store.add_policy(place.workspace.scope, now_ms, document, made)
        await self._engine.policies.take_over()
        return answer(await self._view(place, version.version))

    async def _views(self, place: Place) -> list[PolicyView]:
        versions = [one for one in await self._engine.store.policies() if one.scope == place.workspace.scope]
        return [_shown(one, versions[-1]) for one in reversed(versions)]

    async def _view(self, place: Place, version: int) -> PolicyView:
        for view in await self._views(place):
            if view.version == version:
                return view
        raise HttpError(404, "The scope of this workspace has no such policy version.")

    def _require_all(self, place: Place) -> None:
        """Raise ``HttpError`` 403 where the scope has workspaces that the client may not see: they change, too."""
        if not self._sharing[place.workspace.scope] <= place.caller.workspaces:
            raise HttpError(403, "The scope is shared with workspaces that this client may not see.")


def _shown(version: PolicyVersion, newest: PolicyVersion) -> PolicyView:
    return PolicyView(
        version.version,
        version is newest,
        version.at_ms,
        version.position,
        version.origin,
        version.author,
        version.note,
        version.restores or None,
        settings_of(version),
    )


def _author(place: Place) -> str:
    return f"/admin/{place.caller.client}"


_promote: Final = msgspec.json.Decoder(PromoteBody)
_restore: Final = msgspec.json.Decoder(RestoreBody)


async def _body(exchange: Exchange, decoder: msgspec.json.Decoder[T]) -> T:
    exchange.body = await read_body(exchange.headers, exchange.receive)
    return decode(decoder, exchange.body, {})
