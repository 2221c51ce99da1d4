"""Moving a whole store: the same logical tables, read from and written to either engine (docs/copy.md)."""

from oneself.store.transfer.copying import Compared, Copied, copy, tables_of
from oneself.store.transfer.tables import TABLES, Table, Tally

__all__ = ["TABLES", "Compared", "Copied", "Table", "Tally", "copy", "tables_of"]
