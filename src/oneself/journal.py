"""The journal's entries: one for each decision, kept for good (docs/journal.md).

An entry holds the request as it was sent, the policy version, the answer, every change that was made and the
trace. All other state is derived from the entries, in the order of their positions.
"""

from __future__ import annotations

import msgspec

from oneself.identity import Decision, Request

__all__ = ["Entry", "decode", "encode"]


class Entry(msgspec.Struct, omit_defaults=True):
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


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """Return an entry as UTF-8 JSON."""
    return _encoder.encode(entry)


def decode(body: bytes | str) -> Entry:
    """Return the entry of a JSON body; raise ``msgspec.DecodeError`` where it is none."""
    return _decoder.decode(body)
