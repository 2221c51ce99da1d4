"""The keys under which identities and requests are looked up: 128-bit digests, so that any value costs the same.

At a billion keys the chance that any two of them collide is below 1 in 10^20, so a key stands for its value.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["batch_key", "event_key", "holder_key", "request_key"]


def holder_key(space: str, type_: str, value: str) -> bytes:
    """Return the 16-byte key of an identity in a space."""
    return _digest(f"{space}\0{type_}\0{value}")


def request_key(input_: str, request_id: str) -> bytes:
    """Return the 16-byte key under which an input's request is answered once."""
    return _digest(f"{input_}\0{request_id}")


def batch_key(input_: str, source_request_id: str) -> bytes:
    """Return the 16-byte key under which an input's batch is taken in once."""
    return _digest(f"{input_}\0batch\0{source_request_id}")


def event_key(input_: str, source_message_id: str) -> bytes:
    """Return the 16-byte key under which an input's event is taken in once."""
    return _digest(f"{input_}\0event\0{source_message_id}")


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
