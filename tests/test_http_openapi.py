"""The OpenAPI description is true: what it allows is taken, what it forbids is refused, nothing else is answered.

Schemathesis makes requests from the description, right and wrong ones, and a real server answers them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from http_edge import edge
from oneself.http.openapi import document
from serving import Server, serving, shop

BOTH_ENGINES = True

schema = schemathesis.openapi.from_dict(msgspec.json.decode(document()))
schema.config.generation.update(with_security_parameters=False)  # credentials are right, or left out by a check


CLIENT = """
[[api_client]]
client_id = "client"
client_secret = "client-secret"
workspaces = ["shop"]
permissions = ["profile:read", "search:read", "admin"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, storage: str) -> Iterator[Server]:
    with serving(shop() + CLIENT, tmp_path_factory.mktemp("openapi")) as server:
        yield server


def credentials(case: schemathesis.Case, server: Server) -> dict[str, Any]:
    """Return the right credentials for an operation, as arguments of a request."""
    wanted = {name for one in case.operation.definition.raw.get("security", []) for name in one}
    if "token" in wanted:
        return {"headers": {"Authorization": f"Bearer {token(server)}"}}
    return {} if "client" in wanted else {"auth": tuple(server.inputs["server"])}


def token(server: Server) -> str:
    asked = {"grant_type": "client_credentials", "client_id": "client", "client_secret": "client-secret"}
    return str(server.client.post("/oauth/token", json=asked).json()["access_token"])


@schema.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_requests_made_from_the_description(case: schemathesis.Case, server: Server) -> None:
    response = case.call_and_validate(
        base_url=server.base_url, excluded_checks=[positive_data_acceptance], **credentials(case, server)
    )
    if case.meta is not None and case.meta.generation.mode.is_positive and response.status_code == 400:
        # The body is right, but none of its values counts, nobody has its MPIDs, or its request id is taken.
        error = response.json()
        known = "not an MPID" in error["message"] or error["message"].startswith("request_id: it was used before")
        known |= "NUL character" in error["message"]  # no schema can say that there must be none …
        known |= "another value in the same request" in error["message"]  # … or that two names of one type agree
        assert known or error["code"] in ("LOOKUP_ERROR", "INVALID_DATA", "UNKNOWN_MPID")


def test_every_path_is_described() -> None:
    assert set(msgspec.json.decode(document())["paths"]) == edge().paths
