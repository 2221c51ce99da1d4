"""The configuration: what it says, how it is read, checked and first made (docs/configuration.md)."""

from oneself.config.generate import generate
from oneself.config.model import (
    INPUT_KINDS,
    PERMISSIONS,
    PLATFORM_KINDS,
    PROTECTIONS,
    ApiClient,
    Config,
    Input,
    InputKind,
    Permission,
    Protection,
    Workspace,
)
from oneself.config.read import load

__all__ = [
    "INPUT_KINDS",
    "PERMISSIONS",
    "PLATFORM_KINDS",
    "PROTECTIONS",
    "ApiClient",
    "Config",
    "Input",
    "InputKind",
    "Permission",
    "Protection",
    "Workspace",
    "generate",
    "load",
]
