"""The description of the admin API holds where there is something to see, not only where nothing is found.

Schemathesis makes the requests; the workspace, the user and what was set aside are put into the paths, since it could
not guess them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from oneself.http.openapi import document
from profile_world import web_batch
from serving import Server, serving, shop

BOTH_ENGINES = True

schema = schemathesis.openapi.from_dict(msgspec.json.decode(document())).include(path_regex="^/admin/workspaces")
schema.config.generation.update(with_security_parameters=False)

CLIENT = """
[[api_client]]
client_id = "client"
client_secret = "client-secret"
workspaces = ["shop"]
permissions = ["admin"]
"""


@dataclass
class Filled:
    """A server with something to see in it, and what the paths name."""

    server: Server
    token: str
    mpid: str
    position: str


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, storage: str) -> Iterator[Filled]:
    with serving(shop() + CLIENT, tmp_path_factory.mktemp("admin")) as server:
        asked = {"grant_type": "client_credentials", "client_id": "client", "client_secret": "client-secret"}
        token = str(server.client.post("/oauth/token", json=asked).json()["access_token"])
        headers = {"authorization": f"Bearer {token}"}
        mpid = server.identity("identify", {"customerid": "c-1", "email": "ana@example.com"})["mpid"]
        for environment in ("development", "production"):
            batch = web_batch() | {"environment": environment, "mpid": mpid, "source_request_id": environment}
            batch["events"] += [{"event_type": "nonsense"}]
            assert server.client.post("/v3/JS/web-key/events", json=batch).status_code == 202
        assert server.client.post("/v3/JS/web-key/events", json={"environment": 1}).status_code == 202
        rows = server.client.get("/admin/workspaces/shop/quarantine", headers=headers).json()["rows"]
        assert len(rows) == 3
        yield Filled(server, token, mpid, str(rows[1]["position"]))


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_requests_made_from_the_description(case: schemathesis.Case, filled: Filled) -> None:
    assert case.meta is not None
    path = case.path_parameters
    if path and not case.meta.is_negative_at(ParameterLocation.PATH):
        given = {"workspace": "shop", "mpid": filled.mpid, "position": filled.position}
        path |= {name: value for name, value in given.items() if name in path}
    if case.operation.path.endswith("/live"):
        case.query = dict(case.query or {}) | {"seconds": "0"}  # a stream has no end of its own
    headers = {"Authorization": f"Bearer {filled.token}"}  # a check that leaves it out knows it by this spelling
    case.call_and_validate(
        base_url=filled.server.base_url, headers=headers, excluded_checks=[positive_data_acceptance]
    )


@pytest.mark.parametrize(
    "path",
    [
        "", "/shop/users?value=c-1", "/shop/users/{mpid}", "/shop/users/{mpid}/devices",
        "/shop/users/{mpid}/timeline", "/shop/quarantine", "/shop/quarantine/{position}",
    ],
)  # fmt: skip
def test_answers_that_show_something_are_as_described(filled: Filled, path: str) -> None:
    target = f"/admin/workspaces{path.format(mpid=filled.mpid, position=filled.position)}"
    headers = {"authorization": f"Bearer {filled.token}"}
    answer = filled.server.client.get(target, headers=headers)
    assert answer.status_code == 200
    described = f"/admin/workspaces{path.partition('?')[0].replace('/shop', '/{workspace}')}"
    schema[described]["GET"].validate_response(answer)


def test_streamed_messages_are_as_described(filled: Filled) -> None:
    headers = {"authorization": f"Bearer {filled.token}", "last-event-id": "0"}
    answer = filled.server.client.get("/admin/workspaces/shop/live?seconds=0", headers=headers)
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert len(data) > 2
    described = msgspec.json.decode(document())["components"]["schemas"]
    for one in data:
        said = msgspec.json.decode(one)
        name = "LiveNote" if set(said) == {"why", "message"} else "LiveMessage"
        assert set(said) == set(described[name]["properties"])
