"""The journal's entries: one for each decision, kept for good (docs/journal.md).

An entry holds the request as it was sent, the policy version, the answer, every change that was made and the
trace. What a batch brought stands beside its entry, in a record of its own, since events are not kept for good. All
other state is derived from the two, in the order of their positions.
"""

from __future__ import annotations

from typing import Any

import msgspec

from oneself.identity import Decision, Request
from oneself.profiles import Batch, Quarantined

__all__ = ["BatchRecord", "Entry", "decode", "decode_batch", "encode", "encode_batch"]


class Entry(msgspec.Struct, omit_defaults=True, gc=False):
    """One journalled decision.

    ``at_ms`` is unix ms; ``space`` is ``SCOPE/ENVIRONMENT``; ``input`` is ``WORKSPACE/INPUT``; ``policy`` is
    the version of the scope's policy that was in force.
    """

    at_ms: int
    space: str
    input: str
    policy: int
    request: Request
    decision: Decision
    request_id: str = ""


class BatchRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a batch brought, as far as it is kept.

    ``quarantined`` are its events that could not be used. Where the batch as a whole could not be, ``batch`` is
    None, ``document`` is all of it as it was sent, and ``reason`` says why. ``trimmed`` tells that its events are
    no longer kept, while what they made of the profile still is. ``moved_to`` is whose it is since an undo or a
    split, 0 for nobody; None where it is the answer's of its entry.
    """

    batch: Batch | None = None
    quarantined: tuple[Quarantined, ...] = ()
    document: Any = None
    reason: str = ""
    trimmed: bool = False
    moved_to: int | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)
_batches = msgspec.json.Decoder(BatchRecord)


def encode(entry: Entry) -> bytes:
    """Return an entry as UTF-8 JSON."""
    return _encoder.encode(entry)


def decode(body: bytes | str) -> Entry:
    """Return the entry of a JSON body; raise ``msgspec.DecodeError`` where it is none."""
    return _decoder.decode(body)


def encode_batch(record: BatchRecord) -> bytes:
    """Return a batch's record as UTF-8 JSON."""
    return _encoder.encode(record)


def decode_batch(body: bytes | str) -> BatchRecord:
    """Return the batch's record of a JSON body; raise ``msgspec.DecodeError`` where it is none."""
    return _batches.decode(body)
