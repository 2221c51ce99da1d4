"""What a configuration says (docs/configuration.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from oneself.identity import Policy, PolicySettings

InputKind = Literal[
    "web", "ios", "android", "tvos", "roku", "fire", "xbox", "alexa", "smart_tv", "other",
    "server", "partner_feed", "custom_feed", "csv",
]  # fmt: skip
Protection = Literal["create_and_update", "only_update", "only_read"]
Permission = Literal["profile:read", "search:read", "admin"]

INPUT_KINDS: Final[tuple[InputKind, ...]] = get_args(InputKind)
FEED_KINDS: Final = frozenset({"server", "partner_feed", "custom_feed", "csv"})
PLATFORM_KINDS: Final = frozenset(INPUT_KINDS) - FEED_KINDS
PROTECTIONS: Final[tuple[Protection, ...]] = get_args(Protection)
PERMISSIONS: Final[tuple[Permission, ...]] = get_args(Permission)


class Workspace(msgspec.Struct, frozen=True):
    """A container of data; ``scope`` names the set of workspaces that share its MPIDs and look-ups."""

    id: int
    name: str
    account: int
    organization: int
    scope: str


class Input(msgspec.Struct, frozen=True):
    """A source of requests and its credentials.

    ``secret`` is empty where the input has none, and then nobody may authenticate with it. ``key_only`` allows
    the key alone (a web page keeps no secret).
    """

    workspace: str
    name: str
    kind: InputKind
    key: str
    secret: str
    key_only: bool
    protection: Protection

    @property
    def id(self) -> str:
        """``WORKSPACE/INPUT``, the name under which the journal knows this input."""
        return f"{self.workspace}/{self.name}"

    def __repr__(self) -> str:
        return _shown(self, "secret")


class ApiClient(msgspec.Struct, frozen=True):
    """A caller of the Profile API or the admin API, by OAuth client credentials."""

    client_id: str
    client_secret: str
    workspaces: tuple[str, ...]
    permissions: tuple[Permission, ...]

    def __repr__(self) -> str:
        return _shown(self, "client_secret")


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that is known to work; make one with ``load``.

    At most one of ``data`` (folder of the embedded engine) and ``database`` (address of a PostgreSQL) is given.
    ``scopes`` and ``policies`` have every scope that a workspace names, as configured and complete.
    """

    data: Path | None = None
    database: str | None = None
    workspaces: tuple[Workspace, ...]
    inputs: tuple[Input, ...] = ()
    api_clients: tuple[ApiClient, ...] = ()
    scopes: dict[str, PolicySettings]
    policies: dict[str, Policy]

    def __repr__(self) -> str:
        return _shown(self, "database")


def _shown(struct: msgspec.Struct, hidden: str) -> str:
    """Return a struct's representation without a field that may hold a secret."""
    fields = (
        f"{name}={'***' if name == hidden and getattr(struct, name) else repr(getattr(struct, name))}"
        for name in struct.__struct_fields__
    )
    return f"{type(struct).__name__}({', '.join(fields)})"
