"""Exchanges by hand, over each protocol; every byte of an answer is looked at."""

import socket
import ssl

# What an exchange is made of; others have it from here.
from .http1 import exchange_http1, read_http1
from .http2 import Http2
from .incoming import Wrong, check_content, must_be_silent
from .websocket import exchange_websocket

__all__ = [
    "Client", "Http2", "Wrong", "check_content", "exchange_http1", "exchange_websocket", "insecure", "read_http1"]


def insecure(protocols=("http/1.1",)):
    """A client's TLS context that believes anyone: the certificate is our own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


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
        """One request and its answer, behind the handshakes if there were none yet."""
        if not self.is_open and self.context:
            self._wrap()
        if self.kind == "http2":
            self.http2 = self.http2 or Http2(self.connection)
            self.http2.exchange()
        elif self.kind == "websocket":
            exchange_websocket(self.connection, not self.is_open)
        else:
            exchange_http1(self.connection)
        self.is_open = True

    def must_be_silent(self):
        """Raises `Wrong` if something has come since the last exchange, or the end."""
        if self.http2:
            self.http2.must_be_silent()
        else:
            must_be_silent(self.connection)

    def close(self):
        self.connection.close()

    def _wrap(self):
        self.connection = self.context.wrap_socket(self.connection, server_hostname="localhost")
        chosen = self.connection.selected_alpn_protocol()
        # HTTP/1.1 need not be agreed upon.
        if chosen not in (["h2"] if self.kind == "http2" else ["http/1.1", None]):
            raise Wrong(f"ALPN chose {chosen} for {self.kind}")
