"""``oneself import`` in small chunks, with a checkpoint after each, so that a kill falls between two of them.

python import_worker.py FILE… OPTIONS…
"""

from __future__ import annotations

import sys

from oneself.bulk import importing, lines, parquet, tables
from oneself.commands import main
from oneself.store.embedded import store as embedded

if __name__ == "__main__":
    for module in (lines, parquet, tables):
        vars(module)["CHUNK_ROWS"] = 40
    vars(importing)["_CHECKPOINT_SECONDS"] = 0.0
    embedded.FLUSH_ROWS = 400
    embedded.FLUSH_SECONDS = 0.01
    main(["import", *sys.argv[1:]])
