"""The process that writes a data folder beside its server: ``python -m oneself.store.embedded.process``.

It commits groups on one thread and writes the tables on another, so that neither takes the server's interpreter. The
server holds it by two sockets: when they close, whatever the reason, it ends, and lets the folder's lock go.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread, get_native_id

import msgspec

from oneself.logs import configure
from oneself.store.embedded.journal import JournalFile
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
from oneself.store.embedded.state import StateFile
from oneself.store.embedded.writer import FolderWriter
from oneself.store.embedded.writing import Piece

__all__ = ["main"]

_NICE = 10

_decoder = msgspec.msgpack.Decoder(Ask)


class _Gone(Exception):
    """The server has closed its end."""


class _NotWhole(Exception):
    """The server could not give all rows."""


class _Channel:
    """One socket to the server: what it asks is read, and answered, one after another."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(True)

    def read(self) -> Ask:
        (size,) = HEAD.unpack(self._exactly(HEAD.size))
        asked: Ask = _decoder.decode(self._exactly(size))
        return asked

    def answer(self, answer: Answer) -> None:
        try:
            self._socket.sendall(frame(answer))
        except OSError as error:
            raise _Gone from error

    def _exactly(self, size: int) -> bytearray:
        body = bytearray(size)
        rest = memoryview(body)
        while rest:
            try:
                count = self._socket.recv_into(rest)
            except OSError as error:
                raise _Gone from error
            if not count:
                raise _Gone
            rest = rest[count:]
        return body


def _serve_commits(channel: _Channel, files: FolderWriter) -> None:
    """Commit groups until told to end."""
    while True:
        asked = channel.read()
        if isinstance(asked, Close):
            return
        assert isinstance(asked, Commit)
        try:
            files.commit(asked.group)
        except Exception as error:
            channel.answer(Failed.because(error))
        else:
            channel.answer(Done())
            files.after_commit()


def _serve_tables(channel: _Channel, files: FolderWriter) -> None:
    """Write the tables until the server closes its end; whoever waits for an answer comes first."""
    if sys.platform == "linux":  # elsewhere this is the whole process
        os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICE)
    try:
        while True:
            asked = channel.read()
            answer: Answer
            try:
                if isinstance(asked, WriteTables):
                    answer = _written(channel, files, asked.position)
                else:
                    assert isinstance(asked, DropForgotten)
                    answer = Done(files.drop_forgotten(asked.after, asked.through, asked.limit))
            except Exception as error:
                if isinstance(error, _Gone):
                    raise
                answer = Failed.because(error)
            channel.answer(answer)
    except _Gone:
        return


def _written(channel: _Channel, files: FolderWriter, position: int) -> Done:
    """Write the rows that the server gives; read all of them in any case."""
    pieces = _pieces(channel)
    try:
        files.write_tables(position, pieces)
    finally:
        try:
            for _ in pieces:
                continue
        except _NotWhole:
            pass
    return Done()


def _pieces(channel: _Channel) -> Iterator[Piece]:
    while isinstance(asked := channel.read(), Rows):
        yield asked.name, asked.rows
    assert isinstance(asked, End)
    if not asked.whole:
        raise _NotWhole("The server could not give all rows.")


def main(folder: Path, commits: int, tables: int) -> None:
    """Write a folder for the server at the other end of two sockets, by their descriptors, until it lets go."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the server, which then says when the end is
        signal.signal(number, signal.SIG_IGN)
    configure("info")
    channel = _Channel(commits)
    try:
        journal = JournalFile(folder / "journal.db")
        state = StateFile(folder / "state.db")
    except Exception as error:
        channel.answer(Failed.because(error))
        return
    with closing(journal), closing(state):
        files = FolderWriter(journal, state)
        writing = Thread(target=_serve_tables, args=(_Channel(tables), files), daemon=True)
        writing.start()
        gc.freeze()
        try:
            channel.answer(Done(position=journal.position))
            _serve_commits(channel, files)
        except _Gone:
            os._exit(1)  # the server is gone, and nobody waits for what is half done
        writing.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
