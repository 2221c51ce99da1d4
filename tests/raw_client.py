"""A connection on which a test says exactly what it wants to."""

from __future__ import annotations

import json
import socket

from http_edge import resolving

BODY = json.dumps(resolving()).encode()
HEADERS = b"host: x\r\nx-mp-key: web-key\r\n"
GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


def post(body: bytes = BODY, more: bytes = b"", path: bytes = b"/v1/identify") -> bytes:
    """Return an identify request."""
    return b"POST %s HTTP/1.1\r\n%s%scontent-length: %d\r\n\r\n" % (path, HEADERS, more, len(body)) + body


class Client:
    """A raw connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=15)
        self.left = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Client:
        self.socket.sendall(data)
        return self

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer."""
        while b"\r\n\r\n" not in self.left:
            self._more()
        head, _, self.left = self.left.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(headers.get("content-length", 0))
        while len(self.left) < length:
            self._more()
        body, self.left = self.left[:length], self.left[length:]
        return int(status.split()[1]), headers, body

    def _more(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError(f"the server closed; left over: {self.left!r}")
        self.left += data

    def rest(self) -> bytes:
        """Read until the server closes."""
        data = self.left
        try:
            while piece := self.socket.recv(65_536):
                data += piece
        except ConnectionResetError:
            return data
        return data

    def status(self) -> int:
        return self.answer()[0]
