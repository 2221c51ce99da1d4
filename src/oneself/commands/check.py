"""``oneself check``: validate a configuration and show what it says (docs/configuration.md)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from oneself.config import DAY_MS, PLATFORM_KINDS, Config, load
from oneself.errors import ConfigError
from oneself.identity import HOLDERS_READ, Policy

__all__ = ["check", "warnings"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(file: Path, as_json: bool) -> None:
    """Validate the configuration FILE and show what it says.

    Every problem is printed on a line of its own, with the key it is about and what is allowed. ONESELF_…
    variables are read as "oneself serve" reads them. Exits with 0 where the configuration works, else with 1.

    \b
    Example:
      oneself check oneself.toml
    """
    try:
        config = load(file, os.environ)
    except ConfigError as error:
        problems = [{"key": key, "message": message} for key, message in error.problems]
        click.echo(json.dumps({"file": str(file), "ok": False, "problems": problems}, indent=2) if as_json else error)
        raise SystemExit(1) from None
    if as_json:
        click.echo(json.dumps({"file": str(file), "ok": True, **_summary(config)}, indent=2))
        return
    click.echo(f"{file} is valid.")
    for line in _lines(_summary(config)):
        click.echo(line)


def warnings(config: Config) -> Iterator[tuple[str, str]]:
    """Yield ``(key, message)`` for what works but may surprise."""
    for index, one in enumerate(config.inputs):
        key = f"input[{index}].key_only"
        if one.kind == "web" and not one.key_only:
            yield key, f"is false for the web input {one.id}: a web page keeps no secret, so its calls are refused."
        if one.kind not in PLATFORM_KINDS and one.key_only:
            yield key, f"is true for {one.id}: whoever learns its key may send as this {one.kind} input."
    fed = {one.workspace for one in config.inputs}
    for index, workspace in enumerate(config.workspaces):
        if workspace.name not in fed:
            yield f"workspace[{index}]", f"{workspace.name} has no [[input]], so nobody can send to it."
    for name, policy in config.policies.items():
        for field, message in _unguarded(policy):
            yield f"scope.{name}.{field}", message


def _unguarded(policy: Policy) -> Iterator[tuple[str, str]]:
    field, limit = "max_known_profiles_per_value", policy.max_known_profiles_per_value
    if limit == 0:
        yield field, "is 0: no value is guarded, however many known users come to share it."
    elif limit > HOLDERS_READ:
        yield field, f"is above {HOLDERS_READ} and so acts as 0 (off): no more holders of a value than that are read."
    elif not policy.login:
        yield field, f"never acts under {policy.strategy}: it counts known profiles, and without login types none is."
    if policy.max_values_per_profile == 0:
        yield "max_values_per_profile", "is 0: one profile may gather any number of values."
    if not policy.junk:
        yield (
            "junk",
            "is empty: a placeholder such as 'null' that many clients send joins their users in one profile.",
        )


def _summary(config: Config) -> dict[str, Any]:
    """Return what a configuration says, without secrets, as JSON would have it."""
    return {
        "storage": "database" if config.database else str(config.data) if config.data else None,
        "warnings": [{"key": key, "message": message} for key, message in warnings(config)],
        "workspaces": [
            {name: getattr(workspace, name) for name in workspace.__struct_fields__}
            for workspace in config.workspaces
        ],
        "inputs": [
            {
                "id": one.id,
                "kind": one.kind,
                "key": one.key,
                "key_only": one.key_only,
                "has_secret": bool(one.secret),
                "protection": one.protection,
            }
            for one in config.inputs
        ],
        "api_clients": [
            {"client_id": one.client_id, "workspaces": one.workspaces, "permissions": one.permissions}
            for one in config.api_clients
        ],
        "scopes": [
            {
                "name": name,
                "workspaces": [one.name for one in config.workspaces if one.scope == name],
                "strategy": policy.strategy,
                "priority": policy.priority,
                "login": _ordered(policy, policy.login),
                "unique": _ordered(policy, policy.unique),
                "immutable": _ordered(policy, policy.immutable),
                "on_new_known": policy.on_new_known,
                "on_logout": policy.on_logout,
                "max_known_profiles_per_value": policy.max_known_profiles_per_value,
                "max_values_per_profile": policy.max_values_per_profile,
            }
            for name, policy in config.policies.items()
        ],
    }


def _ordered(policy: Policy, types: frozenset[str]) -> list[str]:
    return [type_ for type_ in policy.priority if type_ in types]


def _span(kept_ms: int) -> str:
    """Return for how long something is kept, in words."""
    if not kept_ms:
        return "for ever"
    days, rest = divmod(kept_ms, DAY_MS)
    return f"{kept_ms / 1000:g} s" if rest else f"{days} days"


def _lines(summary: dict[str, Any]) -> Iterator[str]:
    """Yield the summary as lines to read."""
    yield f"storage: {summary['storage'] or 'the folder given to the command'}"
    for one in summary["workspaces"]:
        numbers = f"id {one['id']}, account {one['account']}, organization {one['organization']}"
        yield f"workspace {one['name']}: {numbers}, scope {one['scope']}"
        yield f"  kept:      events {_span(one['data_retention_ms'])}, profiles {_span(one['profile_lifetime_ms'])}"
        yield f"  sources:   {' > '.join(one['source_priority'])}"
    for one in summary["inputs"]:
        how = [*(["key and secret"] if one["has_secret"] else []), *(["key alone"] if one["key_only"] else [])]
        yield f"input {one['id']}: {one['kind']}, by {' or '.join(how)}, {one['protection']}"
    for one in summary["api_clients"]:
        yield f"api client {one['client_id']}: {', '.join(one['permissions'])} of {', '.join(one['workspaces'])}"
    for one in summary["scopes"]:
        shared = ", shared by" if len(one["workspaces"]) > 1 else ", of"
        yield f"scope {one['name']}: {one['strategy']}{shared} {', '.join(one['workspaces'])}"
        yield f"  priority:  {' > '.join(one['priority'])}"
        for field in ("login", "unique", "immutable"):
            yield f"  {field + ':':<10} {', '.join(one[field]) or 'none'}"
        yield f"  new known user: {one['on_new_known']}; logout: {one['on_logout']}"
        known, values = one["max_known_profiles_per_value"], one["max_values_per_profile"]
        yield f"  guards:    {known or 'off'} (known profiles a value), {values or 'off'} (values a profile and type)"
    for one in summary["warnings"]:
        yield f"warning: {one['key']}: {one['message']}"
