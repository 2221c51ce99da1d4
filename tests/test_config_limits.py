"""What a workspace keeps and allows: how it is read, its defaults, and what is told of a wrong value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oneself.config import SOURCE_KINDS, Config, Input, Workspace, load
from oneself.engine.sources import sources_of
from oneself.errors import ConfigError
from oneself.identity import PolicySettings, build
from oneself.profiles import DEFAULT_ORDER, Source

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"
DAY_MS = 86_400_000

SHOP = '[[workspace]]\nid = 1\nname = "shop"\n'

LIMITS = [name for name in Workspace.__struct_encode_fields__ if name not in
          ("id", "name", "account", "organization", "scope")]  # fmt: skip


@pytest.fixture
def read(tmp_path):
    def read_workspace(text: str, environ: dict[str, str] | None = None) -> Workspace:
        path = tmp_path / "oneself.toml"
        path.write_text(SHOP + text, "utf-8")
        return load(path, environ or {}).workspaces[0]

    return read_workspace


def test_without_limits_the_documented_defaults_hold(read):
    workspace = read("")
    assert workspace == Workspace(1, "shop", 1, 1, "shop")
    assert (workspace.data_retention_ms, workspace.profile_lifetime_ms) == (730 * DAY_MS, 730 * DAY_MS)
    assert workspace.source_priority == ("platform", "server", "partner_feed", "custom_feed", "csv")
    assert (workspace.max_event_names, workspace.max_batch_bytes) == (1000, 131_072)
    assert (workspace.max_batches_per_second, workspace.max_profile_reads_per_second) == (0, 0)
    page = DOCS.read_text("utf-8")
    for key, shown in {"data_retention": '"730d"', "profile_lifetime": '"730d"', "max_event_names": "1000",
                       "max_batch_bytes": "131072", "max_batches_per_second": "0",
                       "max_profile_reads_per_second": "0",
                       "source_priority": str(list(DEFAULT_ORDER)).replace("'", '"')}.items():  # fmt: skip
        assert f"| `{key}` | `{shown}` |" in page, f"the default of {key} is not in docs/configuration.md"


@pytest.mark.parametrize("key", ["data_retention", "profile_lifetime"])
@pytest.mark.parametrize(
    ("given", "kept_ms"),
    [('"90d"', 90 * DAY_MS), ('"36h"', 36 * 3_600_000), ('"5s"', 5000), ("60", 60_000), ('"0"', 0), ("0", 0),
     ('"0d"', 0), ('"36500d"', 36_500 * DAY_MS)],
)  # fmt: skip
def test_how_long_something_is_kept_is_a_duration_and_0_is_for_ever(read, key, given, kept_ms):
    assert getattr(read(f"{key} = {given}"), f"{key}_ms") == kept_ms


def test_the_numbers_are_read_as_they_are(read):
    workspace = read(
        "max_event_names = 0\nmax_batch_bytes = 1024\nmax_batches_per_second = 270\nmax_profile_reads_per_second = 15"
    )
    assert (workspace.max_event_names, workspace.max_batch_bytes) == (0, 1024)
    assert (workspace.max_batches_per_second, workspace.max_profile_reads_per_second) == (270, 15)


def test_limits_can_be_given_by_environment(read):
    workspace = read(
        "",
        {
            "ONESELF_WORKSPACE__0__DATA_RETENTION": "30d",
            "ONESELF_WORKSPACE__0__PROFILE_LIFETIME": "0",
            "ONESELF_WORKSPACE__0__SOURCE_PRIORITY": '["server", "platform"]',
            "ONESELF_WORKSPACE__0__MAX_EVENT_NAMES": "7",
        },
    )
    assert (workspace.data_retention_ms, workspace.profile_lifetime_ms) == (30 * DAY_MS, 0)
    assert (workspace.source_priority, workspace.max_event_names) == (("server", "platform"), 7)


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        ('data_retention = "soon"', "data_retention", "write for example 30s, 15m, 24h or 90d; 0 keeps for ever."),
        ('data_retention = "-1d"', "data_retention", "is no duration"),
        ("data_retention = -1", "data_retention", "is no duration"),
        ("data_retention = true", "data_retention", "must be a duration"),
        ("profile_lifetime = 1.5", "profile_lifetime", "must be a duration"),
        ("profile_lifetime = []", "profile_lifetime", "must be a duration"),
        ('profile_lifetime = "36501d"', "profile_lifetime", "at most 36500d"),
        (f'profile_lifetime = "{"9" * 5000}d"', "profile_lifetime", "is no duration"),
        ('profile_lifetime = "env:NOT_THERE"', "profile_lifetime", "which is not set"),
        ("source_priority = []", "source_priority", "needs at least one kind of source"),
        ('source_priority = "server"', "source_priority", "must be a list, not a string"),
        ('source_priority = ["severs"]', "source_priority", "did you mean server?"),
        ('source_priority = ["csv", "csv"]', "source_priority", "names a kind of source twice"),
        ("max_event_names = -1", "max_event_names", "from 0 to 1000000000"),
        ("max_batch_bytes = 1023", "max_batch_bytes", "from 1024 to 16777216"),
        ("max_batch_bytes = 16777217", "max_batch_bytes", "from 1024 to 16777216"),
        ("max_batches_per_second = 0.5", "max_batches_per_second", "not a fraction"),
        ('max_profile_reads_per_second = "15"', "max_profile_reads_per_second", "not a string"),
    ],
)
def test_a_wrong_limit_is_told_with_its_key_and_alone(read, text, key, told):
    with pytest.raises(ConfigError) as caught:
        read(text)
    ((found, message),) = caught.value.problems
    assert found == f"workspace[0].{key}"
    assert told in message


@pytest.mark.parametrize("key", LIMITS)
def test_every_limit_is_checked(read, key):
    with pytest.raises(ConfigError) as caught:
        read(f"{key} = {{}}")
    assert [key for key, _ in caught.value.problems] == [f"workspace[0].{key}"]


def test_every_kind_of_source_is_explained_on_the_page():
    row = next(line for line in DOCS.read_text("utf-8").splitlines() if line.startswith("| `source_priority` |"))
    assert set(re.findall(r"`(\w+)`", row)) >= set(DEFAULT_ORDER)
    assert set(SOURCE_KINDS) >= {"web", "ios", "platform", "csv"}


def test_each_input_is_a_source_by_its_workspace_s_order():
    shop = Workspace(1, "shop", 1, 1, "shop", source_priority=("server", "web", "platform"))
    lab = Workspace(2, "lab", 1, 1, "lab")
    inputs = (
        Input("shop", "page", "web", "k1", "", True, "create_and_update"),
        Input("shop", "app", "ios", "k2", "s", False, "only_update"),
        Input("shop", "till", "server", "k3", "s", False, "create_and_update"),
        Input("shop", "file", "csv", "k4", "s", False, "only_read"),
        Input("lab", "page", "web", "k5", "", True, "create_and_update"),
    )
    config = Config(
        workspaces=(shop, lab),
        inputs=inputs,
        scopes={"shop": PolicySettings(), "lab": PolicySettings()},
        policies={"shop": build(), "lab": build()},
    )
    assert sources_of(config) == {
        "shop/page": Source("shop/page", "shop", "web", 1, True, "create_and_update"),
        "shop/app": Source("shop/app", "shop", "ios", 2, True, "only_update"),
        "shop/till": Source("shop/till", "shop", "server", 0, False, "create_and_update"),
        "shop/file": Source("shop/file", "shop", "csv", 3, False, "only_read"),
        "lab/page": Source("lab/page", "lab", "web", 0, True, "create_and_update"),
    }
