"""Which policy version decides in each scope (docs/policies.md, "Versions")."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from oneself.errors import OneselfError
from oneself.identity import Policy, PolicySettings, build
from oneself.store import CONFIGURED, PolicyVersion, Store, next_version

__all__ = [
    "ENVIRONMENTS",
    "Governing",
    "Policies",
    "adopt_policies",
    "settings_document",
    "settings_of",
    "stored_policies",
]

_log = structlog.get_logger("oneself.engine")

ENVIRONMENTS: Final = ("production", "development")

FOLLOW_SECONDS: Final = 0.5
"""So long after it came to be, here or by another server, a policy version is taken over, at most."""

_decode = msgspec.json.Decoder(PolicySettings).decode


class Governing(msgspec.Struct, frozen=True):
    """The policy of a scope and its version."""

    policy: Policy
    version: int


def settings_document(settings: PolicySettings) -> str:
    """Return settings as a version keeps them: as JSON, the same for the same settings."""
    return msgspec.json.encode(settings, order="sorted").decode()


def settings_of(version: PolicyVersion) -> PolicySettings:
    """Return the settings of a version."""
    return _decode(version.settings)


async def adopt_policies(
    store: Store, scopes: Mapping[str, PolicySettings], clock_ms: Callable[[], int]
) -> dict[str, Governing]:
    """Return the governing policy of each scope, given the settings that the configuration has for it.

    They become the scope's next version if they are not those of the last configuration; else the newest version
    stays in force, which may have been promoted since.
    """
    known: dict[str, list[PolicyVersion]] = {}
    for version in await store.policies():
        known.setdefault(version.scope, []).append(version)
    governing = {}
    for scope, settings in scopes.items():
        document, versions = settings_document(settings), known.get(scope, [])
        version = next_version(versions, scope, 0, 0, document, CONFIGURED)
        if version.version > len(versions):
            version = await store.add_policy(scope, clock_ms(), document)
            _log.info("policy adopted", scope=scope, version=version.version, strategy=settings.strategy)
        if version.settings != document:
            _log.warning(
                "a promoted policy is in force, not the configuration's",
                scope=scope, version=version.version, origin=version.origin, author=version.author,
            )  # fmt: skip
        governing[scope] = _governing(version)
    return governing


async def stored_policies(store: Store) -> dict[str, Governing]:
    """Return the governing policy of each scope as it is stored, for those who have no configuration."""
    return {version.scope: _governing(version) for version in await store.policies()}


def _governing(version: PolicyVersion) -> Governing:
    return Governing(build(settings_of(version)), version.version)


class Policies:
    """The policies that decide now, by scope and by space.

    What is submitted is decided under the version that is in force then; a newer one is taken over for what comes
    after it, so that the versions of one server's decisions never go back.
    """

    def __init__(self, store: Store, scopes: Mapping[str, Governing]) -> None:
        self._store = store
        self.scopes: dict[str, Governing] = {}
        self.spaces: dict[str, Governing] = {}
        self._govern(scopes)

    def of(self, scope: str) -> Policy:
        """Return the policy that decides in a scope."""
        return self.scopes[scope].policy

    def _govern(self, scopes: Mapping[str, Governing]) -> None:
        self.scopes.update(scopes)
        self.spaces.update({f"{scope}/{env}": rules for scope, rules in scopes.items() for env in ENVIRONMENTS})

    async def take_over(self) -> None:
        """Let the newest version of each scope decide from now on."""
        newest = {version.scope: version for version in await self._store.policies()}
        for scope, governing in list(self.scopes.items()):
            if scope in newest and newest[scope].version > governing.version:
                self._govern({scope: _governing(newest[scope])})
                _log.info("policy taken over", scope=scope, version=newest[scope].version)

    async def follow(self) -> None:
        """Take over what comes to be, until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            with suppress(OneselfError):  # whoever has a request is told; this is tried again
                await self.take_over()
