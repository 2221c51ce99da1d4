"""Checking the scopes: each gets a complete policy, and each problem names its setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, get_args

import msgspec

from oneself.config.model import Workspace
from oneself.config.table import UNREADABLE, Problems, Table, at, listed, meant
from oneself.identity import IDENTITY_TYPES, Policy, PolicyError, PolicySettings, build
from oneself.identity.policy import OnLogout, OnNewKnown, Strategy, settings_from

__all__ = ["SCOPE_KEYS", "check_scopes"]

SCOPE_KEYS: Final = tuple(field.name for field in msgspec.structs.fields(PolicySettings))

_TYPE_LISTS: Final = ("priority", "login", "unique", "immutable")
_READ: Final[dict[str, Callable[[Table, str], object]]] = {
    "strategy": lambda table, key: table.choice(key, get_args(Strategy)),
    "on_new_known": lambda table, key: table.choice(key, get_args(OnNewKnown)),
    "on_logout": lambda table, key: table.choice(key, get_args(OnLogout)),
    "search_immutable_only": Table.flag,
    "junk": Table.strings,
    "junk_also": Table.strings,
    "max_known_profiles_per_value": lambda table, key: table.number(key, most=1_000_000_000),
    "max_values_per_profile": lambda table, key: table.number(key, most=1_000_000_000),
    "phone_region": Table.text,
    "alias_delay": lambda table, key: _duration(table, key),
    "alias_window": lambda table, key: _duration(table, key),
    **dict.fromkeys(_TYPE_LISTS, lambda table, key: _types(table, key)),
}
"""How each setting is read; the policy itself then says whether it can work."""

_TOGETHER: Final = frozenset({"strategy", *_TYPE_LISTS, "on_logout", "search_immutable_only"})
"""The settings that must fit each other: after one problem with them a second would only be its echo."""


def check_scopes(
    value: object, workspaces: Sequence[Workspace], complete: bool, problems: Problems
) -> tuple[dict[str, PolicySettings], dict[str, Policy]]:
    """Return the settings and the policy of every scope; add what is wrong to ``problems``.

    ``workspaces`` are those without a problem; ``complete`` tells that they are all.
    """
    if not isinstance(value, dict):
        problems.append(("scope", "must be a table of scopes; write [scope.NAME]."))
        value = {}
    used: dict[str, Workspace] = {}
    for workspace in workspaces:
        used.setdefault(workspace.scope, workspace)
    settings = {name: PolicySettings() for name in used}
    policies = {name: build() for name in used}
    for name, section in value.items():
        place = at("scope", name)
        if complete and name not in used:
            problems.append((place, f"is the scope of no workspace{meant(name, used)} Scopes: {listed(used)}."))
        found = _scope(Table(place, section, SCOPE_KEYS, problems))
        if found:
            settings[name], policies[name] = found
    for index, workspace in enumerate(workspaces if complete else ()):
        first = used[workspace.scope]
        if workspace.organization != first.organization:
            message = f"is another than that of {first.name}, and workspaces of one scope share their users."
            problems.append((f"workspace[{index}].organization", message))
    return settings, policies


def _scope(table: Table) -> tuple[PolicySettings, Policy] | None:
    """Return the settings of one scope and their policy, or None after telling every problem."""
    before = len(table.problems)
    given: dict[str, object] = {}
    wrong: set[str] = set()
    for key in table.values:
        if key not in SCOPE_KEYS:
            continue
        taken = _READ[key](table, key)
        if taken is not None:
            given[key] = taken
        else:
            wrong |= _TOGETHER if key in _TOGETHER else {key}
    given = {key: value for key, value in given.items() if key not in wrong}
    while True:
        settings = settings_from(given)
        try:
            policy = build(settings)
        except PolicyError as error:
            table.wrong(error.field, _message(error, settings, given))
            dropped = _TOGETHER if error.field in _TOGETHER else {error.field}
            given = {key: value for key, value in given.items() if key not in dropped}
        else:
            return (settings, policy) if len(table.problems) == before else None


def _message(error: PolicyError, settings: PolicySettings, given: dict[str, object]) -> str:
    if error.field in given:
        return f"{error.message}."
    return f"{error.message}. (It comes from the strategy {settings.strategy}; set {error.field} to change it.)"


def _duration(table: Table, key: str) -> object:
    """Take a duration, a string or whole seconds; the policy reads the string."""
    value = table.values[key]
    if type(value) in (int, str):
        return value
    if value is not UNREADABLE:
        table.wrong(key, 'must be a duration such as "24h", or whole seconds.')
    return None


def _types(table: Table, key: str) -> list[str] | None:
    """Take a list of identity types."""
    types = table.strings(key)
    wrong = [type_ for type_ in types or () if type_ not in IDENTITY_TYPES]
    for type_ in wrong:
        allowed = listed(sorted(IDENTITY_TYPES))
        table.wrong(key, f"{type_!r} is no identity type{meant(type_, IDENTITY_TYPES)} Allowed: {allowed}.")
    return None if wrong else types
