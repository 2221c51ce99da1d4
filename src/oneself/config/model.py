"""What a configuration says (docs/configuration.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from oneself.identity import Policy, PolicySettings, Protection
from oneself.profiles import DEFAULT_ORDER

InputKind = Literal[
    "web", "ios", "android", "tvos", "roku", "fire", "xbox", "alexa", "smart_tv", "other",
    "server", "partner_feed", "custom_feed", "csv",
]  # fmt: skip
Permission = Literal["profile:read", "search:read", "admin"]

INPUT_KINDS: Final[tuple[InputKind, ...]] = get_args(InputKind)
FEED_KINDS: Final = frozenset({"server", "partner_feed", "custom_feed", "csv"})
PLATFORM_KINDS: Final = frozenset(INPUT_KINDS) - FEED_KINDS
PROTECTIONS: Final[tuple[Protection, ...]] = get_args(Protection)
PERMISSIONS: Final[tuple[Permission, ...]] = get_args(Permission)
SOURCE_KINDS: Final[tuple[str, ...]] = (*DEFAULT_ORDER, *sorted(PLATFORM_KINDS))
"""What an order of sources may name: ``platform`` for every platform at once, the feeds, and single platforms."""

DAY_MS: Final = 86_400_000
DEFAULT_KEPT_MS: Final = 730 * DAY_MS
DEFAULT_EVENT_NAMES: Final = 1_000
DEFAULT_BATCH_BYTES: Final = 131_072


class Workspace(msgspec.Struct, frozen=True):
    """A container of data; ``scope`` names the set of workspaces that share its MPIDs and look-ups.

    Events are kept for ``data_retention_ms``, and what is known of a user for ``profile_lifetime_ms`` from the
    last data on; 0 is for ever. ``source_priority`` are kinds of source, the strongest first. Of the ``max_…``
    0 is no limit, but for ``max_batch_bytes``; those per second are whole numbers for each input and each API
    client.
    """

    id: int
    name: str
    account: int
    organization: int
    scope: str
    data_retention_ms: int = msgspec.field(default=DEFAULT_KEPT_MS, name="data_retention")
    profile_lifetime_ms: int = msgspec.field(default=DEFAULT_KEPT_MS, name="profile_lifetime")
    source_priority: tuple[str, ...] = DEFAULT_ORDER
    max_event_names: int = DEFAULT_EVENT_NAMES
    max_batch_bytes: int = DEFAULT_BATCH_BYTES
    max_batches_per_second: int = 0
    max_profile_reads_per_second: int = 0


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
