"""Saying what is wrong with a request's body, by the name of the field (docs/http.md, "Bodies")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

__all__ = ["explain", "find_nul", "request_id_of"]

_LONGEST_SHOWN: Final = 64
_LONGEST_REQUEST_ID: Final = 256
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_PLACED: Final = re.compile(r"(?s)(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$\.?(?P<path>[\w.\[\]]*)`)?")
"""A decoder's message and the place it ends with; a field of the body may look like such an end."""

_WORDS: Final = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def explain(error: Exception, body: bytes, allowed: Mapping[str, str]) -> str:
    """Return what is wrong with a body that a decoder refused.

    ``allowed`` tells, by a field's last name, which values it takes or, for an object, which names.
    """
    if isinstance(error, RecursionError):
        return "body: it is nested too deeply."
    if not isinstance(error, msgspec.ValidationError):
        return f"body: it is not JSON ({error})." if _is_text(body) else "body: it is not UTF-8."
    placed = _PLACED.fullmatch(str(error))
    assert placed is not None
    what, field = placed["what"], placed["path"] or ""
    if what.startswith("Object missing required field "):
        return f"{_join(field, what.split('`')[1])}: it is missing."
    if what.startswith("Object contains unknown field "):
        unknown = what.partition("`")[2].removesuffix("`")
        return f"{_join(field, unknown)}: no such field is known."
    if what.startswith("Invalid enum value"):
        if placed["key"]:
            return _unknown_name(field, body, allowed.get(field, ""))
        return f"{field}: it must be one of {allowed.get(field.rpartition('.')[2], 'the documented values')}."
    if field.endswith("[...]"):
        field = _wrong_member(field.removesuffix("[...]"), body)
    what = re.sub(r"\w+", lambda word: _WORDS.get(word[0], word[0]), what.replace("`", ""))
    return f"{field or 'body'}: {what[:1].lower()}{what[1:]}."


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def find_nul(body: bytes) -> str | None:
    """Return the field of a JSON body that has a NUL character, in its value or its name; None where none has."""
    left: list[tuple[str, Any]] = [("", _document(body))]
    while left:
        field, value = left.pop()
        if isinstance(value, dict):
            left += [(_join(field, name), member) for name, member in value.items()]
            left += [(field, name) for name in value]
        elif isinstance(value, list):
            left += [(f"{field}[{i}]", member) for i, member in enumerate(value)]
        elif isinstance(value, str) and "\0" in value:
            return field or "body"
    return None


def request_id_of(body: bytes) -> str:
    """Return the request id of a body that may be wrong in other ways; empty where none can be read."""
    document = _document(body)
    found = document.get("request_id") if isinstance(document, dict) else None
    return found if isinstance(found, str) and len(found) <= _LONGEST_REQUEST_ID else ""


def _document(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except _UNREADABLE:
        return None


def _join(field: str, name: str) -> str:
    """Return the name of a member; long names are cut, since a client chose them."""
    name = name if len(name) <= _LONGEST_SHOWN else name[:_LONGEST_SHOWN] + "…"
    return f"{field}.{name}" if field else name


def _members(field: str, body: bytes) -> dict[str, Any]:
    """Return the object at a field; empty where it cannot be found, since the rest of the body may be broken."""
    found: Any = _document(body)
    for name in field.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _wrong_member(field: str, body: bytes) -> str:
    """Return the first member of an object of strings that is none; the object itself where none is seen."""
    wrong = (name for name, value in _members(field, body).items() if not isinstance(value, str | None))
    name = next(wrong, None)
    return field if name is None else _join(field, name)


def _unknown_name(field: str, body: bytes, allowed: str) -> str:
    names = frozenset(allowed.split(", "))
    unknown = next((name for name in _members(field, body) if name not in names), None)
    place = field if unknown is None else _join(field, unknown)
    return f"{place}: no such identity type is known; allowed are {allowed}."
