"""The configuration: what it says, how it is read, checked and first made (docs/configuration.md)."""

from oneself.config.generate import generate
from oneself.config.model import (
    DAY_MS,
    INPUT_KINDS,
    PERMISSIONS,
    PLATFORM_KINDS,
    PROTECTIONS,
    SOURCE_KINDS,
    ApiClient,
    Config,
    Input,
    InputKind,
    Permission,
    Workspace,
)
from oneself.config.read import load
from oneself.identity import Protection

__all__ = [
    "DAY_MS",
    "INPUT_KINDS",
    "PERMISSIONS",
    "PLATFORM_KINDS",
    "PROTECTIONS",
    "SOURCE_KINDS",
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
