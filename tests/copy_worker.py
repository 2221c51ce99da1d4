"""A process that is there to be killed: it copies, and ends at its Nth write as if it were killed.

python copy_worker.py FOLDER DIR|URL N
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from oneself.store import Place
from oneself.store.transfer import copy
from oneself.store.transfer.database import DatabaseTarget
from oneself.store.transfer.folder import FolderTarget


def main(origin: str, to: str, number: int) -> None:
    """Copy until then."""
    count = 0
    for kind in (FolderTarget, DatabaseTarget):
        original: Any = kind.put

        async def put(self: Any, table: Any, rows: Any, original: Any = original) -> None:
            nonlocal count
            count += 1
            await original(self, table, rows)
            if count == number:
                os._exit(9)

        setattr(kind, "put", put)  # noqa: B010
    place = Place(Path(), to) if "://" in to else Place(Path(to))
    asyncio.run(copy(Place(Path(origin)), place))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
