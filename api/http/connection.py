"""HTTP/1.1 as uvicorn speaks it, but a client may not take for ever to send its headers, and errors are JSON."""

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.http.responses import error_body

HEADERS_S = 10.0
"""From the first byte of a request, or the opening of a connection, to the end of its headers."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    _headers_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Line ends between requests begin none, and yet stop uvicorn's own clock for connections that idle.
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self._headers_due is None and not self.transport.is_closing():
            self._expect_headers()

    def on_headers_complete(self) -> None:
        self._expect_nothing()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's own sentence
        self._refuse(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP.")

    def _expect_headers(self) -> None:
        self._headers_due = self.loop.call_later(HEADERS_S, self._too_slow)

    def _expect_nothing(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _too_slow(self) -> None:
        self._headers_due = None
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The request's headers did not end within {HEADERS_S:g} s.")

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        self._expect_nothing()
        body = error_body(sentence)
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()
