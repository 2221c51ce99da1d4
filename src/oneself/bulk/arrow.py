"""Columns of pyarrow as the values that batches have (docs/import-export.md, "Parquet")."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from typing import Any, Final

from oneself.bulk.fields import BOOLEANS, STRUCTURED, WAREHOUSE, BadCell, Convert, converter, leaf
from oneself.bulk.model import BulkError

__all__ = ["Reader", "arrow", "reader"]

Reader = Callable[[Any, dict[int, str]], list[Any]]
"""Makes a column a list of values, None where a cell is empty; adds the rows that cannot be used, and why."""

_IDENTIFIERS: Final = frozenset({"mpid", "origin_mpid", "batch_id", "source_request_id", *WAREHOUSE.values()})
_UTC: Final = datetime.UTC


@cache
def arrow() -> tuple[Any, Any]:
    """Return pyarrow and its Parquet module; raise ``BulkError`` where they are not installed."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise BulkError(
            f"Parquet files need pyarrow, which is not installed ({error}). Run: pip install 'oneself[parquet]'"
        ) from error
    return pyarrow, pyarrow.parquet


def reader(label: str, column: Any, field: str) -> Reader:
    """Return what reads a column for a field; raise ``BulkError`` where its type cannot be the field's.

    ``column`` is pyarrow's field: its name and type.
    """
    pyarrow, _ = arrow()
    types, type_ = pyarrow.types, column.type
    if types.is_dictionary(type_):
        type_ = type_.value_type
    if types.is_null(type_):
        return lambda array, _: [None] * len(array)
    if isinstance(type_, pyarrow.BaseExtensionType):
        if type_.extension_name == "arrow.uuid":
            return _each(lambda value: None if value is None else str(value))
        raise _unfit(label, column, field)
    nested = types.is_nested(type_)
    name = leaf(field)
    if (name in STRUCTURED and not (nested or _is_text(types, type_))) or (
        nested and name not in STRUCTURED and not _is_list_attribute(types, type_, field)
    ):
        raise _unfit(label, column, field)
    if types.is_floating(type_):
        if field in _IDENTIFIERS or field.startswith("user_identities."):
            raise BulkError(
                f"{label}: column {column.name!r} is of type {type_}, which does not hold an id exactly. Write it "
                "as text or as a whole number."
            )
        return _each(_number)
    if types.is_temporal(type_):
        return _times(label, column, type_, field)
    if nested:
        return _each(_nested(label, column, type_, name))
    if types.is_decimal(type_):
        return _each(_decimal if name and field not in _IDENTIFIERS else _digits)
    if _is_text(types, type_):
        return _texts(field)
    if types.is_boolean(type_) or types.is_integer(type_):
        return _numbers(field)
    raise _unfit(label, column, field)


def _unfit(label: str, column: Any, field: str) -> BulkError:
    place = "" if column.name == field else f", as {field},"
    return BulkError(
        f"{label}: column {column.name!r}{place} cannot be of type {column.type}. Write it in another type, or let "
        "a manifest ignore it."
    )


def _is_text(types: Any, type_: Any) -> bool:
    return bool(
        types.is_string(type_)
        or types.is_large_string(type_)
        or types.is_string_view(type_)
        or types.is_binary(type_)
        or types.is_large_binary(type_)
        or types.is_fixed_size_binary(type_)
    )


def _is_list_attribute(types: Any, type_: Any, field: str) -> bool:
    listed = types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_)
    return field.startswith("user_attributes.") and listed and not types.is_nested(type_.value_type)


def _each(convert: Callable[[Any], Any]) -> Reader:
    return lambda array, _: [None if value is None else convert(value) for value in array.to_pylist()]


def _texts(field: str) -> Reader:
    convert = converter(field)

    def read(array: Any, bad: dict[int, str]) -> list[Any]:
        try:
            values = array.to_pylist()
        except UnicodeDecodeError:
            values = [_decoded(cell, at, field, bad) for at, cell in enumerate(array)]
        if bytes in set(map(type, values)):
            values = [_decoded(cell, at, field, bad) for at, cell in enumerate(array)]
        return values if convert is None else _converted(values, convert, bad)

    return read


def _decoded(cell: Any, at: int, field: str, bad: dict[int, str]) -> str | None:
    """Return the text of one cell; where it is none, say so."""
    if not cell.is_valid:
        return None
    if hasattr(cell, "index") and hasattr(cell, "dictionary"):
        cell = cell.dictionary[cell.index.as_py()]
    try:
        return bytes(cell.as_buffer()).decode()
    except UnicodeDecodeError:
        bad[at] = f"{field}: it is no UTF-8"
        return None


def _converted(values: list[Any], convert: Convert, bad: dict[int, str]) -> list[Any]:
    made: list[Any] = []
    for at, value in enumerate(values):
        try:
            made.append(convert(value) if value else None)
        except BadCell as error:
            bad[at] = str(error)
            made.append(None)
    return made


def _numbers(field: str) -> Reader:
    """Read booleans and whole numbers; a field that is true or false may be written as 1 or 0."""
    convert = converter(field)
    if convert is None or leaf(field) not in BOOLEANS:
        return lambda array, _: array.to_pylist()

    def read(array: Any, bad: dict[int, str]) -> list[Any]:
        values: list[Any] = array.to_pylist()
        if all(value is None or type(value) is bool for value in values):
            return values
        return _converted([None if value is None else str(value) for value in values], convert, bad)

    return read


def _number(value: float) -> float | None:
    """Return a number; None for NaN, which some programs write for an empty cell."""
    return None if math.isnan(value) else value


def _digits(value: Decimal) -> str:
    return format(value, "f")


def _decimal(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _times(label: str, column: Any, type_: Any, field: str) -> Reader:
    """Read dates and times: unix ms where the field is such a time, else ISO 8601."""
    pyarrow, _ = arrow()
    types = pyarrow.types
    stamp = types.is_timestamp(type_)
    if not (stamp or types.is_date(type_) or types.is_time(type_)):
        raise _unfit(label, column, field)
    if leaf(field).endswith("_ms"):
        if not (stamp or types.is_date(type_)):
            raise _unfit(label, column, field)
        return lambda array, _: array.cast(pyarrow.timestamp("ms"), safe=False).cast(pyarrow.int64()).to_pylist()
    if stamp:
        exact = pyarrow.timestamp("us", type_.tz)
        return lambda array, _: [_written(value) for value in array.cast(exact, safe=False).to_pylist()]
    if types.is_time64(type_):
        return lambda array, _: [
            _written(value) for value in array.cast(pyarrow.time64("us"), safe=False).to_pylist()
        ]
    return lambda array, _: [_written(value) for value in array.to_pylist()]


def _written(value: Any) -> str | None:
    """Return a date or a time by ISO 8601, in UTC where its zone is known."""
    if value is None:
        return None
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(_UTC).isoformat().replace("+00:00", "Z")
    return str(value.isoformat())


def _nested(label: str, column: Any, type_: Any, name: str) -> Callable[[Any], Any]:
    """Return what makes a nested value one of JSON: nothing stands for the empty parts of structs."""
    pyarrow, _ = arrow()
    types = pyarrow.types
    if types.is_struct(type_):
        parts = {field.name: _nested(label, column, field.type, field.name) for field in _fields(type_)}

        def of_struct(value: dict[str, Any]) -> dict[str, Any]:
            made = {key: parts[key](part) for key, part in value.items() if part is not None}
            return {key: part for key, part in made.items() if part is not None}

        return of_struct
    if types.is_map(type_):
        item = _nested(label, column, type_.item_type, "")
        return lambda value: {str(key): None if part is None else item(part) for key, part in value}
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        each = _nested(label, column, type_.value_type, name)
        return lambda value: [None if part is None else each(part) for part in value]
    if types.is_timestamp(type_):
        if type_.unit == "ns":
            raise _unfit(label, column, name)
        if name.endswith("_ms"):
            return lambda value: round(value.replace(tzinfo=value.tzinfo or _UTC).timestamp() * 1000)
        return _written
    if types.is_date(type_):
        return _written
    if types.is_decimal(type_):
        return _decimal
    if types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_):
        return lambda value: value
    if types.is_floating(type_):
        return _number
    if types.is_boolean(type_) or types.is_integer(type_) or types.is_null(type_):
        return lambda value: value
    raise _unfit(label, column, name)


def _fields(type_: Any) -> Iterator[Any]:
    return (type_.field(at) for at in range(type_.num_fields))
