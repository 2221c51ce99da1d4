"""Reading one TOML table key by key, so that everything that is wrong with it is told at once."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable
from typing import Final

__all__ = ["REQUIRED", "UNREADABLE", "Problems", "Table", "at", "listed", "meant"]

Problems = list[tuple[str, str]]
"""``(key, what is wrong and what is allowed)``."""

REQUIRED: Final = object()
"""Stands for the default of a key that has none."""

UNREADABLE: Final = object()
"""Stands for a value that could not be got, for which a problem has been told already."""

_TYPES: Final[dict[type, str]] = {
    str: "a string",
    int: "a whole number",
    float: "a fraction",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def at(place: str, key: str) -> str:
    """Return the name of a key in a table, as it could be written in TOML."""
    plain = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
    return f"{place}.{plain}" if place else plain


def listed(names: Iterable[str]) -> str:
    """Return names as they stand in a sentence."""
    return ", ".join(names) or "none"


def meant(name: str, names: Collection[str]) -> str:
    """Return ``"; did you mean NAME?"`` where a name is close to one of ``names``, else an empty string."""
    close = difflib.get_close_matches(name.lower(), names, 1)
    return f"; did you mean {close[0]}?" if close else "."


def _type(value: object) -> str:
    return _TYPES.get(type(value), "a date or time")


class Table:
    """A table whose values are taken one by one; None is returned for each that is wrong, after telling it."""

    def __init__(self, place: str, value: object, keys: Collection[str], problems: Problems) -> None:
        self.place = place
        self.problems = problems
        self.values: dict[str, object] = {}
        if isinstance(value, dict):
            self.values = value
        else:
            problems.append((place, f"must be a table, not {_type(value)}."))
            self.values = dict.fromkeys(keys, UNREADABLE)
        for key in self.values:
            if key not in keys:
                self.wrong(key, f"is no key{meant(key, keys)} Allowed: {listed(keys)}.")

    def wrong(self, key: str, message: str) -> None:
        """Tell what is wrong with a key and what is allowed."""
        self.problems.append((at(self.place, key), message))

    def text(self, key: str, default: object = REQUIRED) -> str | None:
        value = self._take(key, str, default)
        return value if isinstance(value, str) else None

    def number(self, key: str, default: object = REQUIRED, least: int = 0, most: int = 2**63 - 1) -> int | None:
        value = self._take(key, int, default)
        if not isinstance(value, int):
            return None
        if not least <= value <= most:
            self.wrong(key, f"must be a whole number from {least} to {most}.")
            return None
        return value

    def flag(self, key: str, default: object = REQUIRED) -> bool | None:
        value = self._take(key, bool, default)
        return value if isinstance(value, bool) else None

    def choice(self, key: str, choices: Collection[str], default: object = REQUIRED) -> str | None:
        value = self.text(key, default)
        if value is None or value in choices:
            return value
        self.wrong(key, f"{value!r} is not allowed{meant(value, choices)} Allowed: {listed(choices)}.")
        return None

    def strings(self, key: str, default: object = REQUIRED) -> list[str] | None:
        value = self._take(key, list, default)
        if not isinstance(value, list):
            return None
        for item in value:
            if not isinstance(item, str):
                self.wrong(key, f"must be a list of strings, but has {_type(item)}.")
                return None
        return value

    def choices(self, key: str, choices: Collection[str], what: str, default: object = REQUIRED) -> list[str] | None:
        """Take a list of at least one of ``choices``, none of them twice; ``what`` says what they are."""
        names = self.strings(key, default)
        if names is None:
            return None
        wrong = [name for name in dict.fromkeys(names) if name not in choices]
        for name in wrong:
            self.wrong(key, f"{name!r} is no {what}{meant(name, choices)} Allowed: {listed(choices)}.")
        if not names:
            self.wrong(key, f"needs at least one {what}. Allowed: {listed(choices)}.")
        if len(set(names)) != len(names):
            self.wrong(key, f"names a {what} twice.")
        return names if names and not wrong else None

    def _take(self, key: str, type_: type, default: object) -> object:
        value = self.values.get(key, default)
        if value is REQUIRED:
            self.wrong(key, f"is missing; it must be {_TYPES[type_]}.")
            return None
        if key in self.values and value is not UNREADABLE and type(value) is not type_:
            self.wrong(key, f"must be {_TYPES[type_]}, not {_type(value)}.")
            return None
        return value
