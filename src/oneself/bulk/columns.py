"""How the cells of a row become a batch: columns named by the path of a field (docs/import-export.md, "Columns")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from oneself.bulk.fields import FIELDS, ONE_OF, WAREHOUSE, BadCell, converter, path, sample
from oneself.bulk.model import BulkError, Settings
from oneself.config.table import meant
from oneself.identity.names import TABLE, USER_TYPES
from oneself.profiles import BatchError, Source, read_batch

__all__ = ["BadCell", "Columns", "convert_cells", "event_type_of", "warehouse_field"]

_SUFFIXES: Final = {
    "-custom_event": "custom_event",
    "-commerce_event": "commerce_event",
    "-screen_view": "screen_view",
    "-eventless": "",
}
"""How the name of a table ends, and the type of its events, empty where it has none."""

_PROBE: Final = Source("probe/probe", "probe", "server", 0, False)
_PROBE_MS: Final = 1_700_000_000_000

Build = Callable[[Sequence[Any]], dict[str, Any]]


class Columns:
    """How rows of one file are made into batches.

    ``converters`` are ``(column, converter)`` of those columns whose cells are not text in a batch.
    """

    def __init__(
        self, label: str, fields: Sequence[str | None], *, event_type: str | None, settings: Settings
    ) -> None:
        """Prepare to read rows; raise ``BulkError`` where the columns cannot make a batch.

        ``fields`` has each column's field, None where it is ignored. ``event_type`` is what the file's name says of
        its events: empty where there are none, None where it says nothing.
        """
        self._label = label
        self._places = {field: place for place, field in enumerate(fields) if field is not None}  # the last counts
        tree: dict[str, Any] = {}
        for field, place in self._places.items():
            self._plant(tree, field, place)
        self._build = _object(tree)
        self._event = self._event_of(tree.get("events"), event_type)
        self._data = self._data_of(event_type, settings)
        self.converters = [
            (place, convert) for field, place in self._places.items() if (convert := converter(field)) is not None
        ]
        self._probe(len(fields))

    @property
    def fields(self) -> Mapping[str, int]:
        """Each field that counts, and its column."""
        return self._places

    def document(self, cells: Sequence[Any]) -> dict[str, Any]:
        """Return the batch of a row's cells, which are converted, or None where they are empty."""
        document = self._build(cells)
        if self._event is not None:
            sent = document["events"][0] if "events" in document else {}
            document["events"] = [{**self._event, **sent, "data": {**self._data, **sent.get("data", {})}}]
        return document

    def _plant(self, tree: dict[str, Any], field: str, place: int) -> None:
        names = list(path(field))
        for name in names[:-1]:
            tree = tree.setdefault(name, {})
            if not isinstance(tree, dict):
                raise BulkError(f"{self._label}: column {field!r} is part of another column. Keep one of the two.")
        if names[-1] in tree:
            raise BulkError(f"{self._label}: other columns are parts of column {field!r}. Keep it or them.")
        tree[names[-1]] = place

    def _event_of(self, events: object, event_type: str | None) -> dict[str, Any] | None:
        """Return what the event of a row has whatever the row says; None where a row has no event of its own."""
        if events is None and not event_type:
            return None
        if event_type == "":
            raise BulkError(f"{self._label}: it has events, but its name ends in -eventless. Rename it.")
        if not isinstance(events, dict | None):
            if event_type:
                raise BulkError(f"{self._label}: it has whole events; let its name not end in -{event_type}.")
            return None
        if event_type is None and "event_type" not in (events or {}):
            raise BulkError(
                f"{self._label}: it does not say of which type its events are. Let its name end in -custom_event, "
                "-commerce_event or -screen_view, then .csv or .parquet, or add a column events.event_type."
            )
        return {"event_type": event_type} if event_type else {}

    def _data_of(self, event_type: str | None, settings: Settings) -> dict[str, Any]:
        """Return the data that an event has where its row does not say otherwise."""
        if event_type == "screen_view":
            said = {"screen_name": settings.event_name}
        elif event_type == "custom_event" or (event_type is None and self._event is not None):
            said = {"event_name": settings.event_name, "custom_event_type": settings.event_type}
        else:
            said = {}
        return {name: value for name, value in said.items() if value is not None}

    def _probe(self, width: int) -> None:
        """Let the profile core say which columns it does not know, and whether rows can tell whose they are."""
        cells: list[Any] = [None] * width
        for field, place in self._places.items():
            cells[place] = sample(field)
        try:
            batch, _ = read_batch(self.document(cells), _PROBE, _PROBE_MS)
        except BatchError as error:
            raise BulkError(f"{self._label}: its columns make no batch: {error}.") from None
        unknown = sorted({ignored.field for ignored in batch.ignored if ignored.why == "unknown"})
        if unknown:
            known = [f"user_identities.{row.identity}" for row in TABLE if row.identity in USER_TYPES]
            known += [f"device_info.{row.events}" for row in TABLE if row.identity not in USER_TYPES]
            plain = WAREHOUSE.get(unknown[0].lower())
            close = f"; it may be {plain}." if plain else meant(unknown[0], [*known, *sorted(FIELDS)])
            raise BulkError(
                f"{self._label}: column {unknown[0]!r} is no field of a batch{close} Rename it, or let a manifest "
                "ignore it."
            )
        told = {"user_identities", "device_info"} & self._places.keys()
        if not batch.identities and batch.mpid is None and not told:
            raise BulkError(
                f"{self._label}: no column says whose the rows are. Add mpid, a user identity such as "
                "user_identities.customerid, or a device identity such as device_info.ios_idfv."
            )


def _object(tree: Mapping[str, Any]) -> Build:
    """Return the function that makes an object of a row's cells; what would be empty is left out."""
    leaves = [(name, place) for name, place in tree.items() if isinstance(place, int)]
    branches = [(name, _object(below), name in ONE_OF) for name, below in tree.items() if isinstance(below, dict)]

    def build(cells: Sequence[Any]) -> dict[str, Any]:
        made = {name: value for name, place in leaves if (value := cells[place]) is not None}
        for name, branch, listed in branches:
            below = branch(cells)
            if below:
                made[name] = [below] if listed else below
        return made

    return build


def event_type_of(stem: str) -> str | None:
    """Return what the name of a file, without its extensions, says of its events: their type, empty, or None."""
    return next((type_ for suffix, type_ in _SUFFIXES.items() if stem.endswith(suffix)), None)


def warehouse_field(name: str) -> str:
    """Return the field that a column of a warehouse's table is: an identity, a field by its name, or an attribute.

    Names of identity types may be in any case, as warehouses do not tell them apart.
    """
    if name.lower() in WAREHOUSE:
        return WAREHOUSE[name.lower()]
    if name.partition(".")[0] in FIELDS:
        return name
    return name.lower() if name.lower() in FIELDS else f"user_attributes.{name}"


def convert_cells(columns: Columns, cells: list[Any]) -> None:
    """Make those cells of a row that are not text in a batch what they are there; raise ``BadCell``."""
    for place, convert in columns.converters:
        cell = cells[place]
        if cell is not None:
            cells[place] = convert(cell)
