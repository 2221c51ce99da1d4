"""Bulk files in and out: rows of JSON lines, CSV and Parquet become batches, and what is stored becomes files."""

from oneself.bulk.checkpoint import Checkpoint, Counts
from oneself.bulk.exporting import Exported, Selection, batches, profiles
from oneself.bulk.importing import Import, Taken, Taker
from oneself.bulk.intake import EngineTaker
from oneself.bulk.job import Job, Piece
from oneself.bulk.manifest import read_manifest
from oneself.bulk.model import CHUNK_ROWS, BulkError, Chunk, Manifest, Part, Rejected, Settings
from oneself.bulk.rows import parts_of
from oneself.bulk.sending import Client, ServerTaker
from oneself.bulk.writers import Writer

__all__ = [
    "CHUNK_ROWS",
    "BulkError",
    "Checkpoint",
    "Chunk",
    "Client",
    "Counts",
    "EngineTaker",
    "Exported",
    "Import",
    "Job",
    "Manifest",
    "Part",
    "Piece",
    "Rejected",
    "Selection",
    "ServerTaker",
    "Settings",
    "Taken",
    "Taker",
    "Writer",
    "batches",
    "parts_of",
    "profiles",
    "read_manifest",
]
