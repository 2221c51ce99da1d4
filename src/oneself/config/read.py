"""Reading a configuration: the file, the environment over it, and the secrets that it points to."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from oneself.config.check import TEXT_KEYS, TOP_KEYS, check
from oneself.config.model import Config
from oneself.config.table import UNREADABLE, Problems, at, meant
from oneself.errors import ConfigError

__all__ = ["load"]

_PREFIX: Final = "ONESELF_"
_LISTS: Final = ("workspace", "input", "api_client")


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Return the configuration of a TOML file with ``ONESELF_…`` variables over it (docs/configuration.md).

    Raises ``ConfigError`` with everything that is wrong, each problem naming its key.
    """
    document = _parse(path)
    problems: Problems = []
    variables = _overlay(document, environ, problems)
    _follow(document, "", path.parent, environ, problems)
    data = document.get("data")
    if data and isinstance(data, str) and "data" not in variables:
        document["data"] = str(path.parent / data)
    config = check(document, problems)
    if config is None or problems:
        told = [
            (key, f"{message} (Set by {variables[key]}.)" if key in variables else message)
            for key, message in dict.fromkeys(problems)
        ]
        raise ConfigError(str(path), told)
    return config


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        key, message = "file", f"cannot be read: {error.strerror or error}."
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        key, message = f"line {line}", "is not UTF-8 text; save the file as UTF-8."
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        place = re.search(r" \(at (.*)\)$", str(error))
        key = place[1] if place else "file"
        message = f"is not valid TOML: {str(error).removesuffix(place[0] if place else '')}."
    raise ConfigError(str(path), [(key, message)])


# -- the environment ------------------------------------------------------------------------------------------


def _overlay(document: dict[str, Any], environ: Mapping[str, str], problems: Problems) -> dict[str, str]:
    """Put each ``ONESELF_…`` variable in its place; return which variable set which key.

    An empty variable counts as not given. A name without a double underscore that is no key is somebody
    else's (service links of a container platform look like that).
    """
    set_by: dict[str, str] = {}
    given = [
        (variable.removeprefix(_PREFIX).lower().split("__"), variable, value)
        for variable, value in environ.items()
        if variable.startswith(_PREFIX) and value
    ]
    # Entries are appended in the order of their numbers; scopes come last, since workspaces name them.
    given.sort(key=lambda one: (one[0][0] == "scope", [(len(part), part) for part in one[0]]))
    for parts, variable, value in given:
        key = _place(document, parts, value)
        if key:
            set_by[key] = variable
        elif len(parts) > 1 or parts[0] in TOP_KEYS:
            problems.append((variable, _hint(parts)))
    return set_by


def _place(document: dict[str, Any], parts: list[str], value: str) -> str | None:
    """Set the value of one variable; return the name of its key, None where the variable names none."""
    match parts:
        case ["data" | "database" as key]:
            document[key] = _value(key, value)
            return key
        case [("workspace" | "input" | "api_client") as section, index, key] if re.fullmatch("[0-9]{1,4}", index):
            entries = document.setdefault(section, [])
            if not isinstance(entries, list) or int(index) > len(entries):
                return None
            if int(index) == len(entries):
                entries.append({})
            table, place = entries[int(index)], f"{section}[{int(index)}]"
        case ["scope", name, key] if name:
            scopes = document.setdefault("scope", {})
            if not isinstance(scopes, dict):
                return None
            name = _existing_scope(document, name)
            table, place = scopes.setdefault(name, {}), at("scope", name)
        case _:
            return None
    if isinstance(table, dict):
        table[key] = _value(key, value)
    return at(place, key)


def _existing_scope(document: dict[str, Any], name: str) -> str:
    """Return the scope that a variable means: in any case, with ``_`` for ``-`` and ``.``."""
    names = dict.fromkeys(document["scope"])
    workspaces = document.get("workspace")
    for workspace in workspaces if isinstance(workspaces, list) else []:
        if isinstance(workspace, dict):
            own = workspace.get("scope", workspace.get("name"))
            names |= {own: None} if isinstance(own, str) else {}
    return next((known for known in names if re.sub("[-.]", "_", known.lower()) == name), name)


def _value(key: str, text: str) -> object:
    """Return what a variable says: a TOML value where it is one (and the key takes it), else a string."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    if len(parsed) > 1 or (key in TEXT_KEYS and not isinstance(parsed["value"], str)):
        return text
    return parsed["value"]


def _hint(parts: list[str]) -> str:
    section = parts[0]
    if section in _LISTS:
        return f"names no key; write {_PREFIX}{section.upper()}__0__KEY, entries counted from 0 without a gap."
    if section == "scope":
        return f"names no key; write {_PREFIX}SCOPE__NAME__KEY."
    return f"names no key{meant(section, TOP_KEYS)} Allowed before the double underscore: {', '.join(TOP_KEYS[2:])}."


# -- what is kept elsewhere -----------------------------------------------------------------------------------


def _follow(table: dict[str, Any], place: str, folder: Path, environ: Mapping[str, str], problems: Problems) -> None:
    """Replace each ``"env:NAME"`` and ``"file:PATH"`` that is the value of a key by what it points to."""
    for key, value in table.items():
        name = at(place, key)
        if isinstance(value, str):
            source, colon, target = value.partition(":")
            if colon and source in ("env", "file"):
                found = _variable(target, environ) if source == "env" else _content(folder, target)
                table[key] = UNREADABLE if found[1] else found[0]
                if found[1]:
                    problems.append((name, found[1]))
        elif isinstance(value, dict):
            _follow(value, name, folder, environ, problems)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    _follow(item, f"{name}[{index}]", folder, environ, problems)


def _variable(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the value of a variable, or what is wrong with it."""
    if name not in environ:
        return "", f"points to the environment variable {name!r}, which is not set."
    return environ[name], "" if environ[name] else f"points to the environment variable {name!r}, which is empty."


def _content(folder: Path, name: str) -> tuple[str, str]:
    """Return the content of a file without the newline at its end, or what is wrong with it."""
    try:
        content = (folder / name).read_text("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        return "", f"points to the file {folder / name}, which is not UTF-8 text."
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return "", f"points to the file {folder / name}, which cannot be read: {reason}."
    return content, "" if content else f"points to the file {folder / name}, which is empty."
