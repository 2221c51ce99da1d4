"""Who may see which workspace (docs/admin-api.md, "Who may do what")."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from oneself.config import Config, Permission, Workspace
from oneself.engine import ENVIRONMENTS
from oneself.http.exchange import Exchange
from oneself.http.ports import Engine
from oneself.http.tokens import ApiCaller, Tokens
from oneself.http.wire import Header, HttpError, Reply, json_reply
from oneself.identity import Policy, Profile
from oneself.journal import Entry
from oneself.store import Store, Wanted

__all__ = ["ADMIN", "NO_STORE", "NO_USER", "READ", "Access", "Found", "Place", "answer", "entries_at"]

READ: Final[tuple[Permission, ...]] = ("search:read", "admin")
"""Either of these may look at users and at what comes in."""

ADMIN: Final[tuple[Permission, ...]] = ("admin",)

NO_USER: Final = "No user has this MPID here."
NO_STORE: Final[Header] = (b"cache-control", b"no-store")

_AT_ONCE: Final = 50
"""So many entries are read before others get a turn."""

_encode = msgspec.json.Encoder().encode


class Place(msgspec.Struct, frozen=True):
    """A workspace as one client sees it: with its scope's policy, and the kinds of inputs by ``WORKSPACE/INPUT``."""

    caller: ApiCaller
    workspace: Workspace
    policy: Policy
    kinds: Mapping[str, str]

    @property
    def name(self) -> str:
        """The workspace's name."""
        return self.workspace.name

    def spaces(self, environment: str = "") -> list[str]:
        """Return the spaces of identities of an environment, of all where it is empty."""
        return [f"{self.workspace.scope}/{one}" for one in ENVIRONMENTS if environment in ("", one)]

    def input_id(self, name: str) -> str:
        """Return ``WORKSPACE/INPUT`` for an input that is named with its workspace or without."""
        return name if "/" in name or not name else f"{self.name}/{name}"


class Found(NamedTuple):
    """A profile and the environment that it belongs to."""

    environment: str
    profile: Profile


class Access:
    """Lets API clients into their workspaces; one that a client may not see looks like none."""

    def __init__(self, config: Config, tokens: Tokens, engine: Engine) -> None:
        self._tokens = tokens
        self._engine = engine
        self._workspaces = {one.name: one for one in config.workspaces}
        self._kinds = {one.id: one.kind for one in config.inputs}

    async def caller(self, exchange: Exchange, permissions: tuple[Permission, ...]) -> ApiCaller:
        """Return the client whose token a request has and who has one of some permissions; raise 401 or 403."""
        caller = await self._tokens.verify(exchange.headers)
        _require(caller, permissions)
        return caller

    async def enter(self, exchange: Exchange, permissions: tuple[Permission, ...] = READ) -> Place:
        """Return the workspace that a path names, for a client that may; raise ``HttpError`` 401, 403 or 404."""
        caller = await self._tokens.verify(exchange.headers)
        name = exchange.scope["path_params"]["workspace"]
        workspace = self._workspaces.get(name) if name in caller.workspaces else None
        if workspace is None:
            raise HttpError(404, "There is no workspace of this name, or this client may not see it.")
        _require(caller, permissions)
        return Place(caller, workspace, self._engine.policies.of(workspace.scope), self._kinds)

    async def profile(self, place: Place, mpid: int) -> Found:
        """Return the profile of an MPID in a workspace's scope; raise ``HttpError`` 404 where there is none."""
        store = self._engine.store
        reading = await store.read({space: Wanted(mpids=[mpid]) for space in place.spaces()})
        for space, view in reading.views.items():
            profile = view.profiles.get(mpid)
            if profile is not None and profile.created <= store.position:  # it may be on its way to the disk
                return Found(space.rpartition("/")[2], profile)
        raise HttpError(404, NO_USER)


def _require(caller: ApiCaller, permissions: tuple[Permission, ...]) -> None:
    if caller.permissions.isdisjoint(permissions):
        raise HttpError(403, f"This client needs the permission {' or '.join(permissions)}.")


async def entries_at(store: Store, positions: Iterable[int]) -> dict[int, Entry]:
    """Return the journal's entries at some positions."""
    found = {}
    for count, position in enumerate(sorted(set(positions)), 1):
        entry = await store.entry(position)
        if entry is not None:
            found[position] = entry
        if count % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


def answer(value: msgspec.Struct) -> Reply:
    """Return the answer that says a value, which no cache may keep."""
    reply = json_reply(200, _encode(value))
    reply.headers.append(NO_STORE)
    return reply
