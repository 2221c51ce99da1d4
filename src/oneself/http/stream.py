"""Sending an answer piece by piece while its client listens (docs/admin-api.md, "Live stream")."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from oneself.http.exchange import Receive, Send
from oneself.http.wire import Stream

__all__ = ["send_stream"]


async def send_stream(stream: Stream, receive: Receive, send: Send) -> None:
    """Send an answer's pieces as they come, until there are no more or the client has gone."""
    sending = asyncio.create_task(_send_all(stream, send))
    gone = asyncio.create_task(_until_gone(receive))
    try:
        await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        finished = sending.done()
    finally:
        for task in (sending, gone):
            task.cancel()
        await asyncio.gather(sending, gone, return_exceptions=True)
        stream.done()
    if finished:
        await sending  # what stopped it, if something did


async def _send_all(stream: Stream, send: Send) -> None:
    await send({"type": "http.response.start", "status": stream.status, "headers": stream.headers})
    async with aclosing(stream.pieces) as pieces:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    """Wait until the client has closed the connection; what it may send until then is thrown away."""
    while (await receive())["type"] != "http.disconnect":
        pass
