"""Logs are JSON lines, and an exception's message, which could quote a request, is in none (docs/operations.md)."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

import http_edge
from oneself import logs

PRIVATE = "ada@example.com"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave logging as the other tests expect it."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    logs.configure("info", http_edge.LOG)
    root.handlers, root.level = handlers, level


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object() -> None:
    out = io.StringIO()
    logs.configure("info", out)
    log = structlog.get_logger("oneself.test")
    log.info("it\nhappened", count=3, where={"path": ["a"]}, what=object)
    (line,) = lines(out)
    assert line["event"] == "it\nhappened"
    assert line["level"] == "info"
    assert line["count"] == 3
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("level", logs.LEVELS)
def test_a_level_leaves_out_what_is_below(level: logs.Level) -> None:
    out = io.StringIO()
    logs.configure(level, out)
    log = structlog.get_logger("oneself.test")
    for name in logs.LEVELS:
        getattr(log, name)("x")
    assert [line["level"] for line in lines(out)] == list(logs.LEVELS[logs.LEVELS.index(level) :])
    assert logs.is_debug() == (level == "debug")


def raise_in_turn() -> None:
    try:
        raise KeyError(PRIVATE)
    except KeyError as error:
        raise ValueError(f"no {PRIVATE}") from error


def test_an_exception_is_its_types_and_places() -> None:
    out = io.StringIO()
    logs.configure("info", out)
    try:
        raise_in_turn()
    except ValueError:
        structlog.get_logger("oneself.test").error("broken", exc_info=True)
        logging.getLogger("library").exception("broken too")
    assert PRIVATE not in out.getvalue()
    own, foreign = lines(out)
    assert own["exception"] == foreign["exception"]
    assert [part for part in own["exception"] if part.isalpha()] == ["KeyError", "ValueError"]
    assert sum("raise_in_turn" in part for part in own["exception"]) == 2
    assert foreign["logger"] == "library"


def test_libraries_are_heard_from_warnings_on() -> None:
    out = io.StringIO()
    logs.configure("debug", out)
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("careful: %s", "now")
    (line,) = lines(out)
    assert line["event"] == "careful: now"
