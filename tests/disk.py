"""A disk under SQLite that fails, or loses its power, when a test says so.

``Disk`` stands between SQLite and the file system of this process. It remembers what was written since each
file was last synced: that is what a power cut may lose.
"""

from __future__ import annotations

import os
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

Write = tuple[int, bytes | None]
"""Where bytes were written; without bytes, where the file was cut off."""

BLOCK = 4_096


class _File:
    def __init__(self) -> None:
        self.synced = b""
        self.since: list[Write] = []

    def after(self, writes: list[Write]) -> bytes:
        content = bytearray(self.synced)
        for offset, data in writes:
            if data is None:
                del content[offset:]
                continue
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
        return bytes(content)


class Disk:
    """What SQLite wrote and synced; ``fault`` is asked before each, and may raise an ``apsw`` error."""

    def __init__(self) -> None:
        self.fault: Callable[[str, str], None] | None = None
        self.counts: defaultdict[str, int] = defaultdict(int)
        self._files: dict[str, _File] = {}
        self._lock = threading.Lock()

    def opened(self, path: str) -> None:
        """A file is opened, and perhaps made."""
        with self._lock:
            if path not in self._files:
                file = self._files[path] = _File()
                file.synced = Path(path).read_bytes() if os.path.exists(path) else b""

    def deleted(self, path: str) -> None:
        """A file is deleted."""
        with self._lock:
            self._files.pop(path, None)

    def before(self, what: str, path: str) -> None:
        """Something is about to be done to a file."""
        self.counts[f"{what} {os.path.basename(path)}"] += 1
        if self.fault is not None:
            self.fault(what, os.path.basename(path))

    def wrote(self, path: str, offset: int, data: bytes | None) -> None:
        """Bytes were written, or the file was cut off."""
        with self._lock:
            self._files[path].since.append((offset, data))

    def synced(self, path: str) -> None:
        """A file was synced."""
        with self._lock:
            file = self._files[path]
            file.synced, file.since = file.after(file.since), []

    def power_cut(self, source: Path, target: Path, dice: random.Random) -> None:
        """Make the folder that is found after a power cut: of what was not synced, any part may be there."""
        target.mkdir()
        keep = dice.choice((0.0, 0.5, 0.9))
        with self._lock:
            for path, file in self._files.items():
                if Path(path).parent == source:
                    kept = [part for write in file.since for part in _parts(write) if dice.random() < keep]
                    (target / Path(path).name).write_bytes(file.after(kept))


def _parts(write: Write) -> Iterator[Write]:
    offset, data = write
    if data is None:
        yield write
        return
    for begin in range(0, len(data), BLOCK):
        yield offset + begin, data[begin : begin + BLOCK]


class _Vfs(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__("disk", base="unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:
            return apsw.VFSFile("unix", name, flags)
        self._disk.before("open", path)
        self._disk.opened(path)
        return _VfsFile(self._disk, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self._disk.deleted(filename)

    def excepthook(self, *error: object) -> bool:
        """Say nothing: SQLite hands the error on."""
        return True


class _VfsFile(apsw.VFSFile):
    def __init__(self, disk: Disk, path: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk, self._path = disk, path
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.before("write", self._path)
        super().xWrite(data, offset)
        self._disk.wrote(self._path, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:
        self._disk.before("write", self._path)
        super().xTruncate(newsize)
        self._disk.wrote(self._path, newsize, None)

    def xSync(self, flags: int) -> None:
        self._disk.before("sync", self._path)
        super().xSync(flags)
        self._disk.synced(self._path)

    def excepthook(self, *error: object) -> bool:
        """Say nothing: SQLite hands the error on."""
        return True


@contextmanager
def disk() -> Iterator[Disk]:
    """Put a disk under every database that is opened while the block runs."""
    made = Disk()
    vfs = _Vfs(made)
    try:
        yield made
    finally:
        made.fault = None
        vfs.unregister()
