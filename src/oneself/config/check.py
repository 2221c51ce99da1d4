"""Checking what a configuration says: every problem is told, each with its key and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec

from oneself.config.model import (
    DAY_MS,
    DEFAULT_BATCH_BYTES,
    DEFAULT_EVENT_NAMES,
    DEFAULT_KEPT_MS,
    INPUT_KINDS,
    PERMISSIONS,
    PROTECTIONS,
    SOURCE_KINDS,
    ApiClient,
    Config,
    Input,
    InputKind,
    Permission,
    Workspace,
)
from oneself.config.scopes import check_scopes
from oneself.config.table import REQUIRED, UNREADABLE, Problems, Table, at
from oneself.identity import Protection
from oneself.identity.policy import PolicyError, parse_duration
from oneself.profiles import DEFAULT_ORDER

__all__ = ["TEXT_KEYS", "TOP_KEYS", "check"]

T = TypeVar("T")

TOP_KEYS: Final = ("data", "database", "workspace", "input", "api_client", "scope")
_WORKSPACE_KEYS: Final = tuple(field.encode_name for field in msgspec.structs.fields(Workspace))
_INPUT_KEYS: Final = ("workspace", "name", "kind", "key", "secret", "key_only", "protection")
_CLIENT_KEYS: Final = ("client_id", "client_secret", "workspaces", "permissions")

TEXT_KEYS: Final = frozenset({
    "data", "database", "name", "scope", "workspace", "kind", "key", "secret", "protection", "client_id",
    "client_secret", "strategy", "on_new_known", "on_logout", "phone_region",
})  # fmt: skip
"""The keys that take strings only."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NAME_RULE: Final = "must be 1 to 64 letters, digits, '_', '.' or '-', and begin with a letter or digit."
# A key stands in a path, which is taken as it is sent, and in a Basic header, where ":" would end it.
_KEY: Final = re.compile(r"[!\"$&-.0-9;-\>@-~]{1,128}")
_KEY_RULE: Final = "must be 1 to 128 printable ASCII characters without space and / : ? # %."

_LONGEST_KEPT_DAYS: Final = 36_500
_BATCH_BYTES: Final = range(1_024, 16 * 1024 * 1024 + 1)
_MOST: Final = 1_000_000_000


def check(document: dict[str, Any], problems: Problems) -> Config | None:
    """Return the configuration that a document describes; None where a problem was added to ``problems``."""
    return _Check(document, problems).config()


class _Check:
    """One document in checking; ``seen`` remembers where each value that must be unique stands."""

    def __init__(self, document: dict[str, Any], problems: Problems) -> None:
        self.top = Table("", document, TOP_KEYS, problems)
        self.problems = problems
        self.seen: dict[tuple[str, object], str] = {}

    def config(self) -> Config | None:
        data, database = self._storage()
        workspaces = self._entries("workspace", _WORKSPACE_KEYS, self._workspace)
        names = self._names()
        if self.top.values.get("workspace", []) == []:
            self.problems.append(("workspace", "is missing; at least one [[workspace]] is needed."))
        inputs = self._entries("input", _INPUT_KEYS, lambda table: self._input(table, names))
        clients = self._entries("api_client", _CLIENT_KEYS, lambda table: self._client(table, names))
        complete = 0 < len(workspaces) == len(self._listed("workspace"))
        scopes, policies = check_scopes(self.top.values.get("scope", {}), workspaces, complete, self.problems)
        if self.problems:
            return None
        return Config(
            data=None if data is None else Path(data),
            database=database,
            workspaces=tuple(workspaces),
            inputs=tuple(inputs),
            api_clients=tuple(clients),
            scopes=scopes,
            policies=policies,
        )

    def _storage(self) -> tuple[str | None, str | None]:
        data, database = self.top.text("data", None), self.top.text("database", None)
        if data == "":
            self.top.wrong("data", "is empty; name a folder or leave it out.")
        if database is not None and not re.match(r"postgres(ql)?://.", database):
            self.top.wrong("database", 'must be a PostgreSQL address such as "postgresql://user@host/oneself".')
        if "data" in self.top.values and "database" in self.top.values:
            self.top.wrong("database", "is given together with data; keep one: the data lives in one place.")
        return data, database

    def _entries(self, section: str, keys: tuple[str, ...], read: Callable[[Table], T | None]) -> list[T]:
        """Read each ``[[section]]``; return those without a problem."""
        if not isinstance(self.top.values.get(section, []), list):
            self.top.wrong(section, f"must be a list of tables; write [[{section}]].")
        entries = enumerate(self._listed(section))
        tables = [Table(f"{section}[{index}]", entry, keys, self.problems) for index, entry in entries]
        return [found for table in tables if (found := read(table)) is not None]

    def _names(self) -> list[str]:
        """Return every workspace's name, also of those with a problem, so that nothing is told twice."""
        tables = [entry for entry in self._listed("workspace") if isinstance(entry, dict)]
        return list(dict.fromkeys(t["name"] for t in tables if isinstance(t.get("name"), str)))

    def _listed(self, section: str) -> list[object]:
        entries = self.top.values.get(section)
        return entries if isinstance(entries, list) else []

    def _workspace(self, table: Table) -> Workspace | None:
        id_ = table.number("id", least=1)
        name = self._matching(table, "name", _NAME, _NAME_RULE)
        account, organization = table.number("account", 1, least=1), table.number("organization", 1, least=1)
        scope = self._matching(table, "scope", _NAME, _NAME_RULE) if "scope" in table.values else name
        self._once(table, "id", "workspace id", id_)
        self._once(table, "name", "workspace name", name)
        limits = _limits(table)
        if id_ is None or name is None or account is None or organization is None or scope is None or limits is None:
            return None
        return Workspace(id_, name, account, organization, scope, **limits)

    def _input(self, table: Table, workspaces: list[str]) -> Input | None:
        workspace = table.choice("workspace", workspaces)
        name = self._matching(table, "name", _NAME, _NAME_RULE)
        kind = table.choice("kind", INPUT_KINDS)
        key = self._matching(table, "key", _KEY, _KEY_RULE)
        key_only = table.flag("key_only", kind == "web")
        secret = self._secret(table, "secret", "")
        if secret == "" and key_only is False and kind is not None:
            table.wrong("secret", "is missing; it is needed unless key_only = true (the default for web only).")
        protection = table.choice("protection", PROTECTIONS, PROTECTIONS[0])
        self._once(table, "name", "input name in this workspace", name and workspace and (workspace, name))
        self._once(table, "key", "input key", key)
        if workspace is None or name is None or kind is None or key is None or secret is None:
            return None
        if key_only is None or protection is None:
            return None
        return Input(
            workspace, name, cast(InputKind, kind), key, secret, key_only, cast(Protection, protection)
        )  # fmt: skip

    def _client(self, table: Table, workspaces: list[str]) -> ApiClient | None:
        client_id = self._matching(table, "client_id", _KEY, _KEY_RULE)
        secret = self._secret(table, "client_secret", REQUIRED)
        named = table.choices("workspaces", workspaces, "workspace")
        permissions = table.choices("permissions", PERMISSIONS, "permission")
        self._once(table, "client_id", "client id", client_id)
        if client_id is None or secret is None or named is None or permissions is None:
            return None
        return ApiClient(client_id, secret, tuple(named), cast("tuple[Permission, ...]", tuple(permissions)))

    def _matching(self, table: Table, key: str, pattern: re.Pattern[str], rule: str) -> str | None:
        value = table.text(key)
        if value is None or pattern.fullmatch(value):
            return value
        table.wrong(key, rule)
        return None

    def _secret(self, table: Table, key: str, default: object) -> str | None:
        secret = table.text(key, default)
        if secret == "" and key in table.values:
            table.wrong(key, 'is empty; give a secret, "env:NAME" or "file:PATH".')
            return None
        return secret

    def _once(self, table: Table, key: str, what: str, value: object) -> None:
        """Tell where a value that only one entry may have stands a second time."""
        if value is None:
            return
        first = self.seen.setdefault((what, value), at(table.place, key))
        if first != at(table.place, key):
            table.wrong(key, f"is the same as {first}; each {what} must be unique.")


def _limits(table: Table) -> dict[str, Any] | None:
    """Return what a workspace keeps and allows, by the names of ``Workspace``; None where something is wrong."""
    least, most = _BATCH_BYTES[0], _BATCH_BYTES[-1]
    priority = table.choices("source_priority", SOURCE_KINDS, "kind of source", list(DEFAULT_ORDER))
    limits = {
        "data_retention_ms": _kept(table, "data_retention"),
        "profile_lifetime_ms": _kept(table, "profile_lifetime"),
        "source_priority": None if priority is None else tuple(priority),
        "max_event_names": table.number("max_event_names", DEFAULT_EVENT_NAMES, most=_MOST),
        "max_batch_bytes": table.number("max_batch_bytes", DEFAULT_BATCH_BYTES, least, most),
        "max_batches_per_second": table.number("max_batches_per_second", 0, most=_MOST),
        "max_profile_reads_per_second": table.number("max_profile_reads_per_second", 0, most=_MOST),
    }
    return None if None in limits.values() else limits


def _kept(table: Table, key: str) -> int | None:
    """Take for how long something is kept, in ms; 0 is for ever."""
    value = table.values.get(key, DEFAULT_KEPT_MS // 1000)
    if value is UNREADABLE:
        return None
    if not isinstance(value, str | int) or isinstance(value, bool):
        table.wrong(key, 'must be a duration such as "730d", or whole seconds; 0 keeps for ever.')
        return None
    try:
        kept = parse_duration(value, key)
    except PolicyError as error:
        table.wrong(key, f"{error.message}; 0 keeps for ever.")
        return None
    if kept > _LONGEST_KEPT_DAYS * DAY_MS:
        table.wrong(key, f"must be at most {_LONGEST_KEPT_DAYS}d; 0 keeps for ever.")
        return None
    return kept
