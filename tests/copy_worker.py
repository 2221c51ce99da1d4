"""``oneself copy`` as a process that is there to be killed: it gets a signal at its Nth write.

python copy_worker.py FOLDER DIR|URL N SIGNAL
"""

from __future__ import annotations

import os
import sys
from typing import Any

from oneself.commands import main
from oneself.store.transfer.database import DatabaseTarget
from oneself.store.transfer.folder import FolderTarget


def copy(origin: str, to: str, number: int, signal: int) -> None:
    """Copy until then."""
    count = 0
    for kind in (FolderTarget, DatabaseTarget):
        original: Any = kind.put

        async def put(self: Any, table: Any, rows: Any, original: Any = original) -> None:
            nonlocal count
            count += 1
            await original(self, table, rows)
            if count == number:
                os.kill(os.getpid(), signal)

        setattr(kind, "put", put)  # noqa: B010
    main(["copy", "--from", origin, "--to", to])


if __name__ == "__main__":
    copy(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
