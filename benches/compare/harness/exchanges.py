"""Exchanges by hand, over each protocol; every byte of an answer is looked at."""

import socket
import ssl
import struct

from .http1 import exchange_http1, read_http1  # noqa: F401: others have it from here
from .incoming import Wrong, check_content
from .stage import KILOBYTE
from .websocket import exchange_websocket


def insecure(protocols=("http/1.1",)):
    """A client's TLS context that believes anyone: the certificate is our own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


def _read_until(connection, enough, got=b""):
    while not enough(got):
        part = connection.recv(65536)
        if not part:
            raise Wrong("the proxy closed a connection that was to stay open")
        got += part
    return got


def _frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Http2:
    """An HTTP/2 client that can send one request after another (RFC 9113), HPACK by hand."""

    DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8

    def __init__(self, connection):
        self.connection, self.stream, self.rest = connection, -1, b""
        self.unacknowledged = 0

    def exchange(self, streams=1):
        """So many requests for 1 KiB at once, and their whole answers."""
        opening = b"" if self.stream > 0 else b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(self.SETTINGS, 0, 0, b"")
        # :method GET, :scheme https, :path /1k, :authority localhost (RFC 7541 appendix A)
        block = b"\x82\x87\x04\x03/1k\x01\x09localhost"
        asked = range(self.stream + 2, self.stream + 2 + 2 * streams, 2)
        self.stream = asked[-1]
        self.connection.sendall(opening + b"".join(_frame(self.HEADERS, 0x05, stream, block) for stream in asked))
        body = dict.fromkeys(asked, b"")
        while asked:
            kind, flags, stream, payload = self._next_frame()
            if kind == self.SETTINGS and not flags & 1:
                self.connection.sendall(_frame(self.SETTINGS, 1, 0, b""))
            elif kind == self.PING and not flags & 1:
                self.connection.sendall(_frame(self.PING, 1, 0, payload))
            elif kind == self.GOAWAY:
                raise Wrong("the proxy says GOAWAY")
            elif stream in body:
                # A change of the table's size may stand before the status (RFC 7541 section 6.3).
                if kind == self.HEADERS and payload.lstrip(bytes(range(0x20, 0x40)))[:1] != b"\x88":
                    raise Wrong("status under HTTP/2 is not 200")
                body[stream] += payload if kind == self.DATA else b""
                asked = asked if not flags & 1 else [other for other in asked if other != stream]
                self.unacknowledged += len(payload) if kind == self.DATA else 0
        for content in body.values():
            check_content(content, KILOBYTE)
        # The window of the connection (RFC 9113 section 6.9), before it is used up.
        if self.unacknowledged >= 16384:
            self.connection.sendall(_frame(self.WINDOW_UPDATE, 0, 0, struct.pack(">I", self.unacknowledged)))
            self.unacknowledged = 0

    def _next_frame(self):
        self.rest = _read_until(self.connection, lambda got: len(got) >= 9, self.rest)
        length = int.from_bytes(self.rest[:3], "big")
        self.rest = _read_until(self.connection, lambda got: len(got) >= 9 + length, self.rest)
        head, payload, self.rest = self.rest[:9], self.rest[9:9 + length], self.rest[9 + length:]
        return head[3], head[4], int.from_bytes(head[5:9], "big"), payload


class Client:
    """One connection of a kind."""

    def __init__(self, kind, port, context):
        self.kind, self.context = kind, context
        self.connection = socket.create_connection(("127.0.0.1", port), 10)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.settimeout(10)
        self.http2 = None
        self.is_open = False

    def exchange(self):
        if not self.is_open and self.context:
            self.connection = self.context.wrap_socket(self.connection, server_hostname="localhost")
        if self.kind == "http2":
            self.http2 = self.http2 or Http2(self.connection)
            self.http2.exchange()
        elif self.kind == "websocket":
            exchange_websocket(self.connection, not self.is_open)
        else:
            exchange_http1(self.connection)
        self.is_open = True

    def close(self):
        self.connection.close()
