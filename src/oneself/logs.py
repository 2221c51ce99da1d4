"""Structured logs: one JSON object a line, never a secret, never an identity in the clear (docs/operations.md).

A value that names a person goes through ``digest``. An exception is logged as its type and the places it
passed, without its message, which could quote a request.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Final, Literal, TextIO, cast, get_args

import msgspec
import structlog

__all__ = ["LEVELS", "Level", "configure", "digest", "is_debug"]

Level = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)

_DIGEST_BYTES: Final = 6

_key = secrets.token_bytes(16)
_Excinfo = tuple[type[BaseException], BaseException, TracebackType | None]


def digest(value: str) -> str:
    """Return a short keyed hash of a value: the same for the same value, while this process runs."""
    return hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=_DIGEST_BYTES, key=_key).hexdigest()


def configure(level: Level = "info", stream: TextIO | None = None) -> None:
    """Send all logs, also those of libraries, to ``stream`` (stderr) as JSON lines.

    Libraries log from warnings on, whatever ``level`` is.
    """
    out = sys.stderr if stream is None else stream
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_message,
    ]
    structlog.configure(
        processors=[*shared, _render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.WARNING))


def is_debug() -> bool:
    """Whether debug lines are written; ask once, not for each request."""
    return bool(structlog.get_logger().is_enabled_for(logging.DEBUG))


def _render(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def _without_message(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace an exception by its type and the places that it passed."""
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    if isinstance(found, tuple):
        found = cast(_Excinfo, found)[1]
    if isinstance(found, BaseException):
        event["exception"] = _places(found)
    return event


def _places(error: BaseException) -> list[str]:
    """Return an exception's type and its places, those of its cause first."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [] if before is None else _places(before)
    frames = traceback.extract_tb(error.__traceback__)
    lines += [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return [*lines, type(error).__qualname__]
