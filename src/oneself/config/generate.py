"""Making a first configuration, with random credentials."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from oneself.errors import ConfigError

__all__ = ["GENERATED_NAME", "generate"]

GENERATED_NAME: Final = "oneself.toml"

_TEMPLATE: Final = """\
# The configuration of this Oneself server. Every key is explained in docs/configuration.md.
# After a change run "oneself check" on this file, then start the server again.
# This file holds secrets: keep it readable by its owner only.

[[workspace]]
id = 1
name = "default"
account = 1
organization = 1
# scope = "default"          # workspaces with the same scope share users; default: the workspace's own name

# For your servers. They authenticate with key and secret.
[[input]]
workspace = "default"
name = "server"
kind = "server"
key = "{server_key}"
secret = "{server_secret}"

# For your web pages. They authenticate with the key alone, which anybody can read in the page.
[[input]]
workspace = "default"
name = "web"
kind = "web"
key = "{web_key}"
secret = "{web_secret}"

# For the Profile API and the admin API: POST /oauth/token turns these into a token (docs/profile-api.md).
[[api_client]]
client_id = "admin"
client_secret = "{client_secret}"
workspaces = ["default"]
permissions = ["profile:read", "search:read", "admin"]

# How users are told apart. Choose the strategy before the first users arrive:
# default, profile_conversion, profile_link, profile_isolation or best_match (docs/policies.md).
[scope.default]
strategy = "default"
"""


def generate(directory: Path) -> Path:
    """Write ``oneself.toml`` with one workspace, a server input, a web input and an API client; return its path.

    The file appears whole or not at all, readable by its owner only, and never replaces one that is there.
    Raises ``ConfigError`` where it exists already or cannot be written.
    """
    path = directory / GENERATED_NAME
    text = _TEMPLATE.format(
        server_key=secrets.token_hex(16),
        server_secret=secrets.token_hex(32),
        web_key=secrets.token_hex(16),
        web_secret=secrets.token_hex(32),
        client_secret=secrets.token_hex(32),
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _write_new(path, text)
    except FileExistsError:
        raise ConfigError(str(path), [("file", "exists already and is not replaced; remove it first.")]) from None
    except OSError as error:
        raise ConfigError(str(path), [("file", f"cannot be written: {error.strerror or error}.")]) from None
    return path


def _write_new(path: Path, text: str) -> None:
    """Write a file that must not exist, through a temporary one, and sync it and its folder."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, this fails where the name is taken
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
