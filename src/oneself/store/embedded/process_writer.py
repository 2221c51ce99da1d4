"""Having a data folder written by a process beside the server (docs/storage.md, "The process that writes")."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import cast

import msgspec
import structlog

from oneself.errors import StoreError, StoreUnavailable
from oneself.store.embedded.journal import Group
from oneself.store.embedded.messages import (
    HEAD,
    Answer,
    Ask,
    Close,
    Commit,
    Done,
    DropForgotten,
    End,
    Failed,
    Rows,
    WriteTables,
    frame,
)
from oneself.store.embedded.pending import Generation
from oneself.store.embedded.writer import Writer
from oneself.store.embedded.writing import Piece, pieces_of

__all__ = ["ProcessWriter"]

_log = structlog.get_logger("oneself.store")

_PATIENCE = 30.0
"""So many seconds the process has to start, or to end."""

_REST = 4.0
"""Where nothing is due, rows are encoded piece by piece, and others have so many times as long after each …"""

_SHARE = 0.5
"""… and where more is due, as many as this part of the time that others took allows, however long that was."""

_TRIES = 3
_DIES = "The process that writes the data folder dies again and again."

_decoder = msgspec.msgpack.Decoder(Answer)


class _Gone(Exception):
    """The process has ended, and what it was asked may or may not be done."""


class _Channel(asyncio.Protocol):
    """One socket to the process: it answers in the order in which it was asked."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport
        self._received = bytearray()
        self._asked: deque[asyncio.Future[Done]] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is none by its type

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= HEAD.size:
            end = HEAD.size + HEAD.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            answer = _decoder.decode(self._received[HEAD.size : end])
            del self._received[:end]
            asked = self._asked.popleft()
            if asked.done():  # whoever asked has gone
                continue
            if isinstance(answer, Failed):
                asked.set_exception(answer.error)
            else:
                asked.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.gone.set()
        self._room.set()
        while self._asked:
            asked = self._asked.popleft()
            if not asked.done():
                asked.set_exception(_Gone())

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def send(self, message: Ask) -> None:
        """Send a message, unless the process is gone."""
        if not self.gone.is_set():
            self._transport.write(frame(message))

    def ask(self, message: Ask) -> asyncio.Future[Done]:
        """Send a message and return the answer to it, or to what follows it; it raises ``_Gone`` where none comes."""
        self.send(message)
        return self.next()

    def next(self) -> asyncio.Future[Done]:
        """Return what the process says next."""
        answer: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        if self.gone.is_set():
            answer.set_exception(_Gone())
        else:
            self._asked.append(answer)
        return answer

    def send_for(self, seconds: float, pieces: Iterator[Piece]) -> bool:
        """Send a piece and, for some seconds, more of them; tell whether they were the last."""
        end = perf_counter() + seconds
        for name, rows in pieces:
            self.send(Rows(name, rows))
            if perf_counter() >= end:
                return False
        return True

    async def room(self, seconds: float) -> None:
        """Let others have a turn or more, and wait until the process has read most of what was sent."""
        await asyncio.sleep(seconds)
        await self._room.wait()

    def close(self) -> None:
        """Send what is still to be sent, then let go."""
        self._transport.close()


class _Running:
    """A process that writes, and the channels to it; ``position`` is where the journal ended when it started."""

    def __init__(self, process: subprocess.Popen[bytes], commits: _Channel, tables: _Channel) -> None:
        self.process = process
        self.commits = commits
        self.tables = tables
        self.position = 0

    def end(self) -> None:
        """End it at once."""
        self.commits.close()
        self.tables.close()
        self.process.kill()
        self.process.wait()


class ProcessWriter(Writer):
    """Has a folder written by a process of its own, which is started anew where it dies.

    ``lock`` is the descriptor of the folder's lock: the process holds it, too, so that no other server comes before
    it has ended.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self._lock = lock
        self._running: _Running
        self._starting = asyncio.Lock()
        self._tables = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process; raise what it says where it cannot open the folder."""
        self._running = await self._start()
        self._watch = asyncio.create_task(self._replace())

    def commit(self, group: Group) -> Awaitable[None]:
        """Begin to make a group durable; where the process dies meanwhile, its successor does what is not done."""
        running = self._running
        return self._committed(group, running, running.commits.ask(Commit(group)))

    async def _committed(self, group: Group, running: _Running, answer: asyncio.Future[Done]) -> None:
        for tries in range(1, _TRIES + 1):
            try:
                await answer
            except _Gone:
                running = await self._successor(running)
                if running.position >= group.entries[-1][0]:
                    return
                if tries < _TRIES:
                    answer = running.commits.ask(Commit(group))
            else:
                return
        raise StoreUnavailable(_DIES)

    async def write_tables(self, rows: Generation, due: asyncio.Event) -> None:
        """Bring the tables up to date with rows, which are encoded bit by bit, between other work."""
        await self._tried(partial(self._give, rows, due))

    async def drop_forgotten(self, after: bytes, through: int, limit: int) -> bytes | None:
        """Do what ``FolderWriter.drop_forgotten`` does."""

        async def drop(tables: _Channel) -> Done:
            return await tables.ask(DropForgotten(after, through, limit))

        return (await self._tried(drop)).key

    async def _tried(self, work: Callable[[_Channel], Awaitable[Done]]) -> Done:
        """Have work done that may be done twice; where the process dies meanwhile, by its successor."""
        async with self._tables:  # rows follow what they are for, and nothing comes between them
            for _ in range(_TRIES):
                running = self._running
                try:
                    return await work(running.tables)
                except _Gone:
                    await self._successor(running)
        raise StoreUnavailable(_DIES)

    async def _give(self, rows: Generation, due: asyncio.Event, tables: _Channel) -> Done:
        answer, whole = tables.ask(WriteTables(rows.position)), False
        pieces, others = pieces_of(rows), 0.0
        try:
            while not (whole or tables.gone.is_set()):
                began = perf_counter()
                whole = tables.send_for(others * _SHARE if due.is_set() else 0.0, pieces)
                worked = perf_counter() - began
                await tables.room(0.0 if due.is_set() else worked * _REST)
                others = perf_counter() - began - worked
        finally:
            tables.send(End(whole))
        return await answer

    async def close(self) -> None:
        """Let the process end when it has done what it was asked."""
        if self._watch is not None:
            async with self._starting:  # what is being started is there before it ends
                self._watch.cancel()
            await asyncio.wait([self._watch])
            self._watch = None
        running = self._running
        running.commits.send(Close())
        running.commits.close()
        running.tables.close()
        try:
            await asyncio.to_thread(running.process.wait, _PATIENCE)
        except subprocess.TimeoutExpired:
            _log.warning("the process that writes the data folder did not end", pid=running.process.pid)
            running.end()

    def kill(self) -> None:
        """End the process at once, as the end of the server would."""
        if self._watch is not None:
            self._watch.cancel()
        self._running.end()

    async def _start(self) -> _Running:
        process, ends = await asyncio.to_thread(self._spawn)
        loop = asyncio.get_running_loop()
        commits, tables = _Channel(), _Channel()
        started = commits.next()  # before anything can be read
        await loop.create_unix_connection(lambda: commits, sock=ends[0])
        await loop.create_unix_connection(lambda: tables, sock=ends[1])
        running = _Running(process, commits, tables)
        try:
            async with asyncio.timeout(_PATIENCE):
                running.position = (await started).position
        except BaseException as error:
            running.end()
            if isinstance(error, _Gone | TimeoutError):
                code = process.returncode
                raise StoreUnavailable(f"The process that writes {self._folder} did not start ({code}).") from None
            raise
        return running

    def _spawn(self) -> tuple[subprocess.Popen[bytes], list[socket.socket]]:
        """Start the process; return it and our ends of the sockets to it."""
        pairs = [socket.socketpair(), socket.socketpair()]
        theirs = [pair[1].fileno() for pair in pairs]
        command = [sys.executable, "-m", "oneself.store.embedded.process", str(self._folder), *map(str, theirs)]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[*theirs, self._lock]
            )
        except OSError as error:
            for ours, _ in pairs:
                ours.close()
            raise StoreUnavailable(f"The process that writes {self._folder} cannot be started: {error}.") from error
        finally:
            for _, its in pairs:
                its.close()
        return process, [ours for ours, _ in pairs]

    async def _successor(self, dead: _Running) -> _Running:
        """Return the process that came after one that died, started now if need be."""
        async with self._starting:
            if self._running is dead:
                dead.end()
                _log.warning("the process that writes the data folder died", exit_code=dead.process.returncode)
                try:
                    self._running = await self._start()
                except StoreUnavailable as error:
                    raise StoreError(
                        f"{error} Whether the last decisions are kept is not known. Restart the server."
                    ) from error
            return self._running

    async def _replace(self) -> None:
        """Start the process anew whenever it dies."""
        while True:
            running = self._running
            await running.commits.gone.wait()
            try:
                await self._successor(running)
            except StoreError as error:
                _log.error("the data folder cannot be written", reason=str(error))
                return
