"""What a server and the process that writes its data folder say to each other: frames over socket pairs."""

from __future__ import annotations

from struct import Struct

import msgspec

from oneself.errors import OneselfError, StoreDamaged, StoreError, StoreUnavailable
from oneself.store.embedded.journal import Group

__all__ = [
    "HEAD",
    "Answer",
    "Ask",
    "Close",
    "Commit",
    "Done",
    "DropForgotten",
    "End",
    "Failed",
    "Rows",
    "WriteTables",
    "frame",
]

HEAD = Struct("!I")
"""Before each frame: its length in bytes."""


class Commit(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Make a group durable."""

    group: Group


class WriteTables(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Bring the tables up to a position with the rows that follow; answered after their ``End``."""

    position: int


class Rows(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Some of the rows: what they are for, and JSON (``oneself.store.embedded.writing.Piece``)."""

    name: str
    rows: bytes


class End(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """There are no more rows; unless they are ``whole``, none of them is to be written."""

    whole: bool = True


class DropForgotten(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Delete forgotten requests (``FolderWriter.drop_forgotten``)."""

    after: bytes
    through: int
    limit: int


class Close(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Nothing more will be asked."""


Ask = Commit | WriteTables | Rows | End | DropForgotten | Close


class Done(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """It is done; ``key`` is what ``DropForgotten`` came to, ``position`` where the journal ends at the start."""

    key: bytes | None = None
    position: int = 0


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Nothing was done: somebody must act first (``damaged`` or not), or it may go better after a while."""

    message: str
    act: bool = False
    damaged: bool = False
    retry_after: int = 5

    @classmethod
    def because(cls, error: Exception) -> Failed:
        """Return what is to be told of an error."""
        if isinstance(error, StoreError):
            return cls(str(error), act=True, damaged=isinstance(error, StoreDamaged))
        if isinstance(error, StoreUnavailable):
            return cls(str(error), retry_after=error.retry_after)
        return cls(f"The process that writes the data folder met an unexpected error: {error!r}")

    @property
    def error(self) -> OneselfError:
        """The error that it was, as far as that matters here."""
        if self.act:
            return (StoreDamaged if self.damaged else StoreError)(self.message)
        return StoreUnavailable(self.message, self.retry_after)


Answer = Done | Failed

_encoder = msgspec.msgpack.Encoder()


def frame(message: Ask | Answer) -> bytes:
    """Return a message as it goes over a socket."""
    body = _encoder.encode(message)
    return HEAD.pack(len(body)) + body
