"""The generated configuration: random credentials, for its owner only, never in the place of another."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from oneself.config import Config, Workspace, generate, load
from oneself.errors import ConfigError
from oneself.identity import build


def test_a_generated_configuration_loads_and_is_for_its_owner_only(tmp_path):
    path = generate(tmp_path / "new" / "data")
    assert path == tmp_path / "new" / "data" / "oneself.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["oneself.toml"], "nothing is left beside it"
    config = load(path, {})
    assert config.workspaces == (Workspace(1, "default", 1, 1, "default"),)
    assert [(one.name, one.kind, one.key_only) for one in config.inputs] == [
        ("server", "server", False),
        ("web", "web", True),
    ]
    assert [(one.client_id, one.workspaces) for one in config.api_clients] == [("admin", ("default",))]
    assert config.data is None
    assert config.policies == {"default": build()}


def test_generated_credentials_are_random(tmp_path):
    one, other = (load(generate(tmp_path / name), {}) for name in ("a", "b"))
    values = [value for config in (one, other) for source in config.inputs for value in (source.key, source.secret)]
    values += [client.client_secret for config in (one, other) for client in config.api_clients]
    assert len(set(values)) == 10
    assert all(len(value) >= 32 for value in values)


def test_an_existing_configuration_is_never_replaced(tmp_path):
    (tmp_path / "oneself.toml").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        generate(tmp_path)
    assert (tmp_path / "oneself.toml").read_text() == "mine"
    assert os.listdir(tmp_path) == ["oneself.toml"]


def test_of_several_that_generate_at_once_one_succeeds(tmp_path):
    done: list[Path] = []
    barrier = threading.Barrier(8)

    def attempt() -> None:
        barrier.wait()
        try:
            done.append(generate(tmp_path))
        except ConfigError:
            return

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1
    assert isinstance(load(done[0], {}), Config)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        generate(tmp_path / "file" / "data")
