"""PostgreSQL clusters that a test may stop, break and replace, and databases in them."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from postgres_server import Cluster, asked

SECONDS = 40


class Breakable(Cluster):
    """A cluster that can be killed, and be followed by a standby."""

    def __init__(self, *, options: str = "") -> None:
        folder = Path(tempfile.mkdtemp(prefix="oneself-postgres-"))  # where the user postgres may go, too
        super().__init__(folder, remove=True, options=options)
        self._frozen = False

    @property
    def data(self) -> Path:
        """The folder of its data."""
        return self.folder / "data"

    def end(self) -> None:
        """End it for good, if it runs, and delete it."""
        if self._frozen:
            self.kill()
        self._end()

    def database(self) -> str:
        """Make a database; return its URL."""
        name = f"oneself_{uuid4().hex[:12]}"
        asked(f"CREATE DATABASE {name}", url=self.url)
        return self.url.removesuffix("/postgres") + f"/{name}"

    def kill(self) -> None:
        """Kill every process of the cluster, as the end of its machine would."""
        processes = self.processes()
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + SECONDS
        while any(map(_parent, processes)):
            assert time.monotonic() < end
            time.sleep(0.01)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._frozen = False

    def freeze(self) -> None:
        """Let every process of the cluster stand still for good, as a machine that is cut off seems to."""
        self._frozen = True
        for pid in self.processes():
            os.kill(pid, signal.SIGSTOP)

    def processes(self) -> list[int]:
        """Return the ids of the cluster's processes, its first one first."""
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        all_ = (int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit())
        return [first, *(pid for pid in all_ if _parent(pid) == first)]

    def terminate_all(self) -> None:
        """Cut every connection but the one that this takes."""
        asked(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
            url=self.url,
        )

    # -- followed by a standby ---------------------------------------------------------------------------------

    def standby(self) -> Breakable:
        """Return a standby of this cluster, started; from now on this one confirms nothing before that has it."""
        follower = Breakable()
        if follower._as:
            shutil.chown(follower.folder, "postgres")
        atexit.register(follower._end)
        source = f"host=127.0.0.1 port={self.port} user=postgres application_name=follower"
        follower.run("pg_basebackup", "-R", "-c", "fast", "-d", source, "-D", str(follower.data))
        with (follower.data / "postgresql.auto.conf").open("a") as settings:
            settings.write("synchronous_standby_names = ''\n")
        follower.start()
        asked("ALTER SYSTEM SET synchronous_standby_names = 'follower'", url=self.url)
        asked("SELECT pg_reload_conf()", url=self.url)
        end = time.monotonic() + SECONDS
        while not asked("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'", url=self.url):
            assert time.monotonic() < end, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.05)
        return follower

    def promote(self) -> None:
        """Make this standby the one that takes writes."""
        self.run("pg_ctl", "-D", str(self.data), "-w", "promote")


@contextmanager
def breakable(*, options: str = "") -> Iterator[Breakable]:
    """A started cluster, which is gone when the block ends."""
    cluster = Breakable(options=options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


def _parent(pid: int) -> int:
    """Return the id of a process' parent; 0 where it does not live any more."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return 0
    return 0 if state == "Z" else int(parent)
