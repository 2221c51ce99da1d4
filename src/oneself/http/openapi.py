"""The OpenAPI description of every path; its schemas are made from the structs that requests are read by."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec

from oneself.http.admin.description import ADMIN_TYPES, admin_paths
from oneself.http.alias import AliasBody
from oneself.http.events import AudienceAnswer
from oneself.http.identity import Modified, ModifyBody, ResolveBody, Resolved
from oneself.http.openapi_events import BATCH_SCHEMAS, event_paths
from oneself.http.openapi_profile import PROFILE_SECURITY, PROFILE_TYPES, profile_paths
from oneself.http.operations import Health, Readiness
from oneself.http.web_sdk import WebConfig
from oneself.http.wire import ErrorBody

__all__ = ["document"]

VERSION: Final = "1"

_MPID_MIN, _MPID_MAX = -(2**63), 2**63 - 1

_MEANINGS: Final = {
    "400": "The request is wrong; the message names the field.",
    "401": "The credentials are missing or wrong.",
    "403": "The caller may not do this.",
    "404": "Nobody, or nothing, is found.",
    "408": "The request took too long to arrive.",
    "409": "As things stand it cannot be done.",
    "413": "The body is too large.",
    "415": "The body's encoding is not understood.",
    "422": "The body is no JSON; do not send it again.",
    "429": "Too many requests are waiting; nothing was done.",
    "431": "The headers are too large.",
    "503": "The server cannot answer now; try again, with the same request_id.",
}
_RETRY_AFTER: Final = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds."}}
_CHALLENGE: Final = {"WWW-Authenticate": {"schema": {"type": "string"}}}

_ANYWHERE: Final = ("404", "408", "413", "431", "503")
_ASKED: Final = ("400", "401", "403", "404", "408", "413", "415", "429", "431", "503")

_CREDENTIALS: Final[list[dict[str, list[str]]]] = [{"basic": []}, {"key": [], "signature": []}, {"key": []}]
_SECURITY: Final = {
    "basic": {"type": "http", "scheme": "basic", "description": "An input's key and secret."},
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-mp-key",
        "description": "An input's key; enough alone where the input is key_only.",
    },
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "x-mp-signature",
        "description": "Hex HMAC-SHA256, by the input's secret, of METHOD, newline, the Date header, newline, "
        "path and uncompressed body. Date: ISO 8601 basic or RFC 1123, within 15 minutes.",
    },
}

_FLAG: Final = {"type": "string", "enum": ["true", "false"]}
_READ_ONLY: Final = {
    "name": "read_only",
    "in": "query",
    "schema": _FLAG,
    "description": "Answer without writing anything.",
}
_RETURN_MATCHES: Final = {
    "name": "return_matches",
    "in": "query",
    "schema": _FLAG,
    "description": "With false, matched_identities is empty.",
}
_KEY: Final = {
    "name": "key",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "description": "An input's key.",
}
_MPID: Final = {
    "name": "mpid",
    "in": "path",
    "required": True,
    "schema": {
        "type": "integer", "format": "int64", "minimum": _MPID_MIN, "maximum": _MPID_MAX, "not": {"const": 0},
    },
}  # fmt: skip

_NOT_BOTH_NULL: Final = [{"properties": {name: {"type": "string"}}} for name in ("old_value", "new_value")]

_SUMMARIES: Final = {
    "identify": "Resolve identities to a user, who is made if nobody has them.",
    "login": "Resolve identities to the user who logs in.",
    "logout": "Resolve identities to the user who is there after logging out.",
    "search": "Find the user of some identities, without a change.",
}


@cache
def document() -> bytes:
    """Return the description, as JSON."""
    types = [ResolveBody, ModifyBody, AliasBody, Resolved, Modified, WebConfig, Health, Readiness, ErrorBody]
    types += [AudienceAnswer, *PROFILE_TYPES, *ADMIN_TYPES]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schemas["ChangeItem"]["anyOf"] = _NOT_BOTH_NULL
    schemas["TokenBody"]["required"] = ["grant_type"]
    schemas |= BATCH_SCHEMAS
    paths: dict[str, Any] = {}
    for prefix in ("/v1", "/identity/v1"):
        for kind, summary in _SUMMARIES.items():
            paths[f"{prefix}/{kind}"] = {"post": _resolving(summary)}
        paths[f"{prefix}/{{mpid}}/modify"] = {"parameters": [_MPID], "post": _modify()}
    for prefix in ("", "/webevents"):
        paths[f"{prefix}/v1/identity/{{key}}/Alias"] = {"parameters": [_KEY], "post": _alias()}
    for prefix in ("", "/tags"):
        paths[f"{prefix}/JS/v2/{{key}}/config"] = {"parameters": [_KEY], "get": _config()}
    paths |= event_paths(_errors, _CREDENTIALS, _KEY)
    paths |= profile_paths(_errors, _MPID)
    paths |= admin_paths(_errors, _MPID)
    paths |= _operations()
    return msgspec.json.encode({
        "openapi": "3.1.0",
        "info": {"title": "Oneself", "version": VERSION, "description": "Identity resolution."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": _SECURITY | PROFILE_SECURITY,
            "responses": {status: _error(status) for status in _MEANINGS},
        },
    })  # fmt: skip


def _resolving(summary: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "security": _CREDENTIALS,
        "parameters": [_READ_ONLY, _RETURN_MATCHES],
        "requestBody": _body("ResolveBody"),
        "responses": {"200": _json("Resolved", "The user."), **_errors(_ASKED)},
    }


def _modify() -> dict[str, Any]:
    return {
        "summary": "Add, replace or remove identities of a user: all changes, or none.",
        "security": _CREDENTIALS,
        "parameters": [_READ_ONLY],
        "requestBody": _body("ModifyBody"),
        "responses": {"200": _json("Modified", "Every change was made."), **_errors(_ASKED)},
    }


def _alias() -> dict[str, Any]:
    return {
        "summary": "Let a window of one user's events be seen in another user.",
        "security": [{}, *_CREDENTIALS],
        "requestBody": _body("AliasBody"),
        "responses": {"202": {"description": "It is accepted and takes effect later."}, **_errors(_ASKED)},
    }


def _config() -> dict[str, Any]:
    return {
        "summary": "The web SDK's configuration.",
        "responses": {"200": _json("WebConfig", "The configuration."), **_errors(_ANYWHERE)},
    }


def _operations() -> dict[str, Any]:
    described = {
        "/healthz": ("Is the server running?", _json("Health", "It is.")),
        "/readyz": ("Would requests be answered?", _json("Readiness", "They would.")),
        "/metrics": ("Metrics for Prometheus.", _content("text/plain", {"type": "string"}, "The metrics.")),
        "/openapi.json": ("This description.", _content("application/json", {"type": "object"}, "OpenAPI 3.1.")),
    }
    return {
        path: {"get": {"summary": summary, "responses": {"200": answer, **_errors(_ANYWHERE[1:])}}}
        for path, (summary, answer) in described.items()
    }


def _body(name: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _json(name: str, description: str) -> dict[str, Any]:
    return _content("application/json", {"$ref": f"#/components/schemas/{name}"}, description)


def _content(type_: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {type_: {"schema": schema}}}


def _errors(statuses: tuple[str, ...]) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _error(status: str) -> dict[str, Any]:
    response = _json("ErrorBody", _MEANINGS[status])
    if status in ("429", "503"):
        response["headers"] = _RETRY_AFTER
    if status == "401":
        response["headers"] = _CHALLENGE
    return response
