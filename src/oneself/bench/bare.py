"""The bare endpoint: the same HTTP server, the same requests, answers of the same size, and no work in between."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from oneself.http import ServerSettings, serve

__all__ = ["Bare"]

_JSON: Final = (b"content-type", b"application/json")
_NO_BODY: Final = [(b"content-length", b"0")]
_ANSWER: Final = {
    "context": "b25lc2VsZi0x",
    "mpid": "-7459349377063902476",
    "matched_identities": {"device_application_stamp": "e353bbf7-144d-470b-b9ba-31647fa81372"},
    "is_ephemeral": False,
    "is_logged_in": False,
}
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Bare:
    """An application that decodes a request's body, if it has one, and answers with ``answer``.

    What is sent to a path for events is answered with 202 and nothing.
    """

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        message = await receive()
        if message["body"]:
            _decode(message["body"])
        if scope["raw_path"].endswith(b"/events"):
            await send({"type": "http.response.start", "status": 202, "headers": _NO_BODY})
            await send({"type": "http.response.body", "body": b""})
            return
        body = _encode(self._answer)
        headers = [_JSON, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve it on the port of the command line; the answer is in the file that is named after it, if one is."""
    import uvloop

    settings = ServerSettings(port=int(sys.argv[1]))
    answer = _decode(Path(sys.argv[2]).read_bytes()) if len(sys.argv) > 2 else _ANSWER

    async def run() -> None:
        await serve(Bare(answer), settings)

    uvloop.run(run())


if __name__ == "__main__":
    main()
