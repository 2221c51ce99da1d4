"""What the parts of the embedded store share: its files, and the rows in memory that the tables lack."""

from __future__ import annotations

from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from oneself.store.contract import Store
from oneself.store.embedded.journal import JournalFile
from oneself.store.embedded.pending import Generation
from oneself.store.embedded.state import StateFile
from oneself.store.embedded.writer import Writer

__all__ = ["Files"]


class Files(Store):
    """A data folder that is open.

    ``_swept`` says what is gone through which position, as far as that is durable; ``_sweeper`` is a thread for
    work that is not in the path of an answer.
    """

    folder: Path
    _journal: JournalFile
    _state: StateFile
    _guarded: dict[bytes, tuple[str, str, str, str, int]]
    _event_names: dict[str, set[str]]
    _swept: dict[str, int]
    _staged: Generation | None
    _writer: Writer
    _sweeper: ThreadPoolExecutor

    @abstractmethod
    def _generations(self) -> list[Generation]:
        """Return what the tables may lack, oldest first, but for what is not on disk yet."""

    @abstractmethod
    def _seen(self) -> list[Generation]:
        """Return what a reading sees beside the tables, oldest first."""
