"""The web SDK's configuration: what it needs, and nothing that would send it elsewhere (docs/clients.md)."""

from __future__ import annotations

import pytest

from http_edge import CONFIG_PATHS, ask, edge


@pytest.mark.parametrize("path", CONFIG_PATHS)
def test_the_configuration(path: str) -> None:
    answer = ask(edge(), "GET", path + "?env=1&plan_id=x&plan_version=2", headers={"accept": "text/plain"})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    token = answer.json["workspaceToken"]
    assert answer.json == {
        "appName": "shop",
        "workspaceToken": token,
        "kitConfigs": [],
        "pixelConfigs": [],
        "flags": {"eventsV3": "100", "eventBatchingIntervalMillis": "0"},
    }


def test_nothing_in_it_redirects_the_sdk() -> None:
    body = ask(edge(), "GET", CONFIG_PATHS[0]).json
    names = [*body, *body["flags"]]
    assert not [name for name in names if name.lower().endswith(("url", "urlrouting", "domain"))]
    assert all(isinstance(value, str) for value in body["flags"].values())


def test_the_token_is_of_the_workspace_and_not_the_key() -> None:
    tokens = {ask(edge(), "GET", f"/JS/v2/{key}/config").json["workspaceToken"] for key in ("web-key", "bare-key")}
    assert len(tokens) == 1
    assert not {"web", "bare", "key", "shop"} & {part.lower() for part in tokens}


@pytest.mark.parametrize("key", ["nobody", "server-key", "Web-Key", "ключ"])
@pytest.mark.parametrize("path", CONFIG_PATHS)
def test_other_keys_have_none(path: str, key: str) -> None:
    answer = ask(edge(), "GET", path.replace("web-key", key))
    assert answer.status == 404
    assert answer.json["ErrorCode"] == "NOT_FOUND_ERROR"
