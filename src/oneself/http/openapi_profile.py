"""The OpenAPI description of the paths that API clients call for tokens and profiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from oneself.http.oauth import OAuthError, RevokeBody, Revoked, Token, TokenBody
from oneself.http.profile_api import ResolveProfileBody, UserProfile
from oneself.profiles import FIELDS

__all__ = ["PROFILE_SECURITY", "PROFILE_TYPES", "TOKEN", "profile_paths"]

PROFILE_TYPES: Final = [TokenBody, RevokeBody, Token, Revoked, OAuthError, ResolveProfileBody, UserProfile]

TOKEN: Final[list[dict[str, list[str]]]] = [{"token": []}]
"""Says that a path wants a token."""

PROFILE_SECURITY: Final[dict[str, Any]] = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token that POST /oauth/token gave."},
    "client": {"type": "http", "scheme": "basic", "description": "An API client's client_id and client_secret."},
}

_CREDENTIALS: Final[list[dict[str, list[str]]]] = [{}, {"client": []}]
_ASKED: Final = ("400", "401", "403", "404", "408", "413", "415", "429", "431", "503")
_READ: Final = ("400", "401", "403", "404", "408", "413", "429", "431", "503")
_REVOKED: Final = ("401", "403", "404", "408", "413", "431", "503")
_ANYWHERE: Final = ("404", "408", "431", "503")

_ID: Final = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
_PLACE: Final = [
    {"name": name, "in": "path", "required": True, "schema": _ID, "description": f"The {what}'s id."}
    for name, what in (("org", "organization"), ("account", "account"), ("workspace", "workspace"))
]
_FIELDS: Final = {
    "name": "fields",
    "in": "query",
    "required": True,
    "explode": False,
    "schema": {"type": "array", "items": {"type": "string", "enum": list(FIELDS)}, "minItems": 1},
    "description": "Which parts of the profile to answer, separated by commas.",
}
_CLIENT_ID: Final = {
    "name": "client_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "description": "An API client.",
}


def profile_paths(errors: Callable[[tuple[str, ...]], dict[str, Any]], mpid: dict[str, Any]) -> dict[str, Any]:
    """Return the paths; ``errors`` describes the answers with some statuses, ``mpid`` an MPID in a path."""

    def read(summary: str) -> dict[str, Any]:
        answer = _json("UserProfile", "The profile.")
        return {"summary": summary, "security": TOKEN, "responses": {"200": answer, **errors(_READ)}}

    def oauth(summary: str, body: str, required: bool, answer: dict[str, Any]) -> dict[str, Any]:
        schema = {"schema": {"$ref": f"#/components/schemas/{body}"}}
        content = {"application/json": schema, "application/x-www-form-urlencoded": schema}
        wrong = {status: _json("OAuthError", meaning) for status, meaning in _OAUTH_ERRORS.items()}
        return {
            "summary": summary,
            "security": _CREDENTIALS,
            "requestBody": {"required": required, "content": content},
            "responses": {"200": answer, **wrong, **errors(_ANYWHERE)},
        }

    profile = "/userprofile/v1/{org}/{account}/{workspace}/{mpid}"
    resolving = read("The profile that has an immutable identity.")
    schema = {"$ref": "#/components/schemas/ResolveProfileBody"}
    resolving["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    resolving["responses"] |= errors(_ASKED)
    revoked = _json("Revoked", "Every token that the client was issued is void.")
    return {
        "/oauth/token": {
            "post": oauth("A token for client credentials.", "TokenBody", True, _json("Token", "A token."))
        },
        "/oauth/revoke": {"post": oauth("Take back a client's tokens.", "RevokeBody", False, revoked)},
        "/admin/clients/{client_id}/revoke": {
            "parameters": [_CLIENT_ID],
            "post": {
                "summary": "Take back the tokens of a client whose workspaces one is the admin of.",
                "security": TOKEN,
                "responses": {"200": revoked, **errors(_REVOKED)},
            },
        },
        profile: {
            "parameters": [*_PLACE, mpid, _FIELDS],
            "get": read("The profile of an MPID."),
            "post": read("The profile of an MPID; a body means nothing."),
        },
        "/userprofile/v1/resolve/{org}/{account}/{workspace}": {"parameters": [*_PLACE, _FIELDS], "post": resolving},
    }


_OAUTH_ERRORS: Final = {
    "400": "The request is wrong.",
    "401": "The credentials are wrong.",
    "413": "The body is too large.",
    "415": "The body's encoding is not understood.",
}


def _json(name: str, description: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
