"""The bare endpoint: the same HTTP server, the same requests, answers of the same size, and no work in between."""

from __future__ import annotations

import sys
from typing import Any, Final

import msgspec

from oneself.http import ServerSettings, serve

__all__ = ["bare"]

_JSON: Final = (b"content-type", b"application/json")
_ANSWER: Final = {
    "context": "b25lc2VsZi0x",
    "mpid": "-7459349377063902476",
    "matched_identities": {"device_application_stamp": "e353bbf7-144d-470b-b9ba-31647fa81372"},
    "is_ephemeral": False,
    "is_logged_in": False,
}
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


async def bare(_scope: Any, receive: Any, send: Any) -> None:
    """Decode a request's body, if it has one, and encode an answer."""
    message = await receive()
    if message["body"]:
        _decode(message["body"])
    body = _encode(_ANSWER)
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve it on the port of the command line."""
    import uvloop

    settings = ServerSettings(port=int(sys.argv[1]))

    async def run() -> None:
        await serve(bare, settings)

    uvloop.run(run())


if __name__ == "__main__":
    main()
