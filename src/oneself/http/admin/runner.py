"""Reports that take long, made one at a time by a process beside the server (docs/whatif.md, "The admin API")."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal

import msgspec
import structlog

from oneself.errors import OneselfError
from oneself.history.whatif.running import Asked, Said
from oneself.http.ports import Engine
from oneself.http.wire import HttpError
from oneself.store import EmbeddedStore, Store

__all__ = ["Kind", "Run", "Runner", "State"]

_log = structlog.get_logger("oneself.http")

LONGEST_SECONDS: Final = 3_600.0
MOST_MEMORY: Final = 8 << 30
MOST_REPORT: Final = 64 << 20
"""So long, in so much memory, and with so large a report a process may run."""

BEAT_SECONDS: Final = 1.0
LOST_SECONDS: Final = 15.0
"""A run that was not heard of for so long is lost: its server has gone."""

_LEASE: Final = "report"

Kind = Literal["whatif", "guards"]
KINDS: Final[tuple[Kind, ...]] = ("whatif", "guards")

State = Literal["running", "done", "failed", "stopped", "lost"]


class Run(msgspec.Struct, frozen=True):
    """The latest run of a kind: for which scope, by whom, what was ``asked``, and how far it is (0 to 1)."""

    id: str
    scope: str
    by: str
    asked: Asked
    started_ms: int
    heard_ms: int
    state: State = "running"
    progress: float = 0.0
    problem: str = ""


_run: Final = msgspec.json.Decoder(Run)
_said: Final = msgspec.json.Decoder(Said)
_encode: Final = msgspec.json.Encoder().encode


class _Kept:
    """What is known of the latest runs: by this server alone, or by all that share the data."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._values: dict[str, str] = {}

    async def get(self, name: str) -> str:
        store = self._engine.store
        return (await store.setting(f"report/{name}") or "") if store.shared else self._values.get(name, "")

    async def put(self, name: str, value: str) -> None:
        store = self._engine.store
        if store.shared:
            await store.set_setting(f"report/{name}", value)
        else:
            self._values[name] = value


class Runner:
    """Makes reports, one at a time over all servers of a database. ``clock`` gives unix seconds."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock
        self._kept = _Kept(engine)
        self._holder = secrets.token_hex(8)
        self._task: asyncio.Task[None] | None = None
        self._running: Kind | None = None
        self._starting = asyncio.Lock()

    def end(self) -> None:
        """End what runs here: the server stops."""
        if self._task is not None:
            self._task.cancel()

    async def latest(self, kind: Kind, scope: str) -> Run:
        """Return the latest run of a kind; raise ``HttpError`` 404 where the latest was not of this scope."""
        run = await self._any(kind)
        if run is None or run.scope != scope:
            raise HttpError(404, "No report of this kind was made for the scope lately.")
        return run

    async def result(self, kind: Kind, scope: str, *, page: bool = False) -> bytes:
        """Return what the latest run found, as JSON or as a page; raise ``HttpError`` 404 where it found nothing."""
        if (await self.latest(kind, scope)).state != "done":
            raise HttpError(404, "The latest run for this scope has no report.")
        return (await self._kept.get(f"{kind}/{'page' if page else 'json'}")).encode()

    async def start(self, kind: Kind, scope: str, by: str, asked: Asked) -> Run:
        """Begin a run; raise ``HttpError`` 409 while another one of any kind is made."""
        async with self._starting:
            store = self._engine.store
            runs = [await self._any(one) for one in KINDS]
            busy = any(run is not None and run.state == "running" for run in runs)
            if busy or not await store.lease(_LEASE, self._holder, LOST_SECONDS):
                message = "Another report is being made; one is made at a time."
                raise HttpError(409, message, code="BUSY", retry_after=5)
            now_ms = self._now_ms()
            run = Run(secrets.token_hex(8), scope, by, asked, now_ms, now_ms)
            await self._put(kind, run)
            self._running = kind
            self._task = asyncio.create_task(self._run(kind, run), name="report")
            await asyncio.sleep(0)  # one that never began could not say how it ended
            return run

    async def stop(self, kind: Kind, scope: str) -> Run:
        """Stop the run of a scope; raise ``HttpError`` 409 where none runs on this server."""
        run = await self.latest(kind, scope)
        if run.state != "running" or self._running != kind or self._task is None or self._task.done():
            raise HttpError(409, "No report of this kind is made for the scope on this server.", code="NOT_RUNNING")
        self._task.cancel()
        await asyncio.wait([self._task])
        return await self.latest(kind, scope)

    async def _any(self, kind: Kind) -> Run | None:
        """Return the latest run of a kind, of any scope, as it is now."""
        kept = await self._kept.get(kind)
        if not kept:
            return None
        run = _run.decode(kept)
        if run.state == "running" and self._now_ms() - run.heard_ms > 1_000 * LOST_SECONDS:
            return msgspec.structs.replace(run, state="lost", problem="The server that ran it has gone.")
        return run

    async def _put(self, kind: Kind, run: Run) -> None:
        await self._kept.put(kind, _encode(run).decode())

    async def _run(self, kind: Kind, run: Run) -> None:
        """Have a process do it, and keep what it says."""
        ended: tuple[State, str] = ("stopped", "")
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                said = await self._said(kind, run)
            ended = ("failed", said.problem) if said.problem else ("done", "")
        except TimeoutError:
            ended = "failed", f"It took longer than {LONGEST_SECONDS:.0f} s."
        except (OneselfError, OSError, ValueError, msgspec.MsgspecError) as error:
            ended = "failed", str(error)
        finally:
            state, problem = ended
            last = msgspec.structs.replace(run, state=state, problem=problem, heard_ms=self._now_ms())
            with suppress(OneselfError):  # whoever asks is told that it is lost
                await self._put(kind, msgspec.structs.replace(last, progress=1.0) if state == "done" else last)
                await self._engine.store.end_lease(_LEASE, self._holder)
            if state == "failed":
                _log.warning("a report was not made", kind=kind, reason=problem)

    async def _said(self, kind: Kind, run: Run) -> Said:
        """Return the last thing that the process says; the report is kept before."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "oneself.history.whatif.running",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            limit=MOST_REPORT,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(_encode(self._with_place(run.asked)))
            process.stdin.close()
            said = Said(problem="The process that made it ended without a word.")
            heard = self._clock()
            async for line in process.stdout:
                said = _said.decode(line)
                if self._clock() - heard >= BEAT_SECONDS and not said.is_last:
                    heard = self._clock()
                    await self._engine.store.lease(_LEASE, self._holder, LOST_SECONDS)
                    beat = msgspec.structs.replace(run, progress=said.progress, heard_ms=self._now_ms())
                    await self._put(kind, beat)
            if said.is_last and not said.problem:
                await self._kept.put(f"{kind}/json", bytes(said.report).decode())
                await self._kept.put(f"{kind}/page", said.page)
            return said
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            await process.wait()

    def _with_place(self, asked: Asked) -> Asked:
        """Say where the data is; it is told to the process only, since an address may have a password."""
        store: Store = self._engine.store
        if isinstance(store, EmbeddedStore):
            return msgspec.structs.replace(asked, folder=str(store.folder), memory=MOST_MEMORY)
        return msgspec.structs.replace(asked, database=store.url, memory=MOST_MEMORY)  # type: ignore[attr-defined]

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
