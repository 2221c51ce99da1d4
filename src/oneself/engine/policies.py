"""Which policy version decides in each scope (docs/policies.md, "Versions")."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import structlog

from oneself.identity import Policy, PolicySettings, build
from oneself.store import Store

__all__ = ["Governing", "adopt_policies"]

_log = structlog.get_logger("oneself.engine")


class Governing(msgspec.Struct, frozen=True):
    """The policy of a scope and its version."""

    policy: Policy
    version: int


async def adopt_policies(
    store: Store, scopes: Mapping[str, PolicySettings], clock_ms: Callable[[], int]
) -> dict[str, Governing]:
    """Return the governing policy of each scope; settings that are new become the scope's next version."""
    newest = {version.scope: version for version in await store.policies()}
    governing = {}
    for scope, settings in scopes.items():
        document = msgspec.json.encode(settings, order="sorted").decode()
        version = newest.get(scope)
        if version is None or version.settings != document:
            version = await store.add_policy(scope, clock_ms(), document)
            _log.info("policy adopted", scope=scope, version=version.version, strategy=settings.strategy)
        governing[scope] = Governing(build(settings), version.version)
    return governing
