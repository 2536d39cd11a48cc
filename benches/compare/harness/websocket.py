"""A client of a WebSocket that echoes (RFC 6455)."""

from .http1 import read_head
from .incoming import Incoming, Wrong, must_be_silent

OPENING = (b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
# RFC 6455 section 1.3, for this key.
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
MESSAGE, ECHO = b"\x81\x85\0\0\0\0hello", b"\x81\x05hello"


def exchange_websocket(connection, opening):
    """One message, echoed. The opening handshake comes first if `opening`."""
    must_be_silent(connection)
    incoming = Incoming(connection)
    if opening:
        connection.sendall(OPENING)
        _read_opening(incoming)
    connection.sendall(MESSAGE)
    # A wrong start is told at once, and not when no more comes.
    while len(incoming.got) < len(ECHO) and ECHO.startswith(incoming.got):
        incoming.more()
    if incoming.got != ECHO:
        raise Wrong(f"another message came back than was sent: {incoming.got[:40]!r}")


def _read_opening(incoming):
    head = read_head(incoming)
    if head.status != 101:
        raise Wrong(f"status {head.status} to a WebSocket's opening")
    upgrade = [value.lower() for value in head.values(b"upgrade")]
    if upgrade != [b"websocket"] or b"upgrade" not in head.tokens(b"connection"):
        raise Wrong(f"no upgrade to a WebSocket: Upgrade {upgrade}, Connection {head.values(b'connection')}")
    if head.values(b"sec-websocket-accept") != [ACCEPT]:
        raise Wrong("a WebSocket's opening is not accepted by its key")
    # Nobody offered the first two, and no content can follow a 101.
    head.must_not_have(b"sec-websocket-extensions", b"sec-websocket-protocol", b"content-length", b"transfer-encoding")
    incoming.must_be_empty()
