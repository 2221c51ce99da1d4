"""What a benchmark found: rows of figure, value, ratio and target, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

__all__ = ["Figures", "Row", "table"]


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure.

    ``ratio`` is to what ``of`` names. The target binds ``ratio`` where the row has one, else ``value``;
    ``bound`` says whether it is a least (``>=``) or a most (``<``).
    """

    figure: str
    value: float
    unit: str
    ratio: float | None = None
    of: str = ""
    bound: Literal["", "<", ">="] = ""
    target: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        measured = self.value if self.ratio is None else self.ratio
        return measured >= self.target if self.bound == ">=" else measured < self.target


class Figures(msgspec.Struct, frozen=True):
    """Everything a benchmark found.

    ``errors`` counts, by load, the answers that were not as they should be: with any, the figures mean nothing.
    ``conditions`` are those it ran under; ``raw`` is what the rows were made from.
    """

    bench: str
    rows: list[Row]
    notes: list[str]
    errors: dict[str, dict[str, int]]
    conditions: dict[str, str | int | float]
    raw: dict[str, Any] = {}

    def as_json(self) -> bytes:
        """Return the figures as JSON, each row with ``met``."""
        document = msgspec.to_builtins(self)
        for row, plain in zip(self.rows, document["rows"], strict=True):
            plain["met"] = row.met
        return msgspec.json.format(msgspec.json.encode(document), indent=2)


_HEAD = ("figure", "value", "ratio", "target", "")
_VERDICT = {None: "", True: "met", False: "missed"}


def table(figures: Figures) -> str:
    """Return the figures as one plain table, the conditions above it and the remarks below."""
    lines = [_HEAD, *(_cells(row) for row in figures.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    text = [", ".join(f"{name} {value}" for name, value in figures.conditions.items()), ""]
    for number, line in enumerate(lines):
        cells = [cell.rjust(width) if column == 1 else cell.ljust(width) for column, (cell, width) in
                 enumerate(zip(line, widths, strict=True))]  # fmt: skip
        text.append("  ".join(cells).rstrip())
        if not number:
            text.append("  ".join("-" * width for width in widths[:-1]))
    return "\n".join([*text, *(["", *figures.notes] if figures.notes else [])])


def _cells(row: Row) -> Sequence[str]:
    target = "" if row.target is None else f"{row.bound} {row.target:g}{_unit(row) if row.ratio is None else ''}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} of {row.of}"
    return row.figure, f"{_number(row.value)}{_unit(row)}", ratio, target, _VERDICT[row.met]


def _unit(row: Row) -> str:
    return f" {row.unit}" if row.unit else ""


def _number(value: float) -> str:
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
