"""The OpenAPI description is true: what it allows is taken, what it forbids is refused, nothing else is answered.

Schemathesis makes requests from the description, right and wrong ones, and a real server answers them.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from http_edge import edge
from oneself.http.openapi import document
from serving import Server, serving, shop

schema = schemathesis.openapi.from_dict(msgspec.json.decode(document()))
schema.config.generation.update(with_security_parameters=False)  # credentials are right, or left out by a check


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(shop(), tmp_path_factory.mktemp("openapi")) as server:
        yield server


@schema.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_requests_made_from_the_description(case: schemathesis.Case, server: Server) -> None:
    key = server.inputs["server"]
    response = case.call_and_validate(
        base_url=server.base_url, auth=(key.key, key.secret), excluded_checks=[positive_data_acceptance]
    )
    if case.meta is not None and case.meta.generation.mode.is_positive and response.status_code == 400:
        # The body is right, but none of its values counts, nobody has its MPIDs, or its request id is taken.
        error = response.json()
        known = "not an MPID" in error["message"] or error["message"].startswith("request_id: it was used before")
        assert known or error["code"] in ("LOOKUP_ERROR", "INVALID_DATA")


def test_every_path_is_described() -> None:
    assert set(msgspec.json.decode(document())["paths"]) == edge().paths
