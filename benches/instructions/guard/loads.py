"""The loads that are counted. Each is one client that never has more under way than it says, so
that the same things happen in the same order every time."""

import os
import signal
import socket
import ssl
import time
from pathlib import Path

from harness.exchanges import Http2, exchange_http1, exchange_websocket, insecure, read_http1
from harness.machine import Trouble
from harness.stage import KILOBYTE

# What a browser sends, in size and in number of fields.
REQUEST = (b"GET /1k HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0)\r\n"
           b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
           b"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nCookie: id=0123456789abcdef\r\n\r\n")
STREAMS = 8


def connect(port):
    # Everything is some fifty times slower under callgrind.
    connection = socket.create_connection(("127.0.0.1", port), 120)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def connect_tls(port, protocol):
    context = insecure([protocol])
    # One cipher, whatever the machine would prefer.
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    return context.wrap_socket(connect(port), server_hostname="localhost")


class Keepalive:
    """Requests one after another on one connection."""

    def __init__(self, proxy, tls):
        self.connection = connect_tls(proxy.https, "http/1.1") if tls else connect(proxy.http)

    def run(self, requests):
        for _ in range(requests):
            exchange_http1(self.connection, REQUEST)


class Streams:
    """Eight requests at a time on one HTTP/2 connection, then the next eight."""

    def __init__(self, proxy):
        self.client = Http2(connect_tls(proxy.https, "h2"))

    def run(self, requests):
        for _ in range(requests // STREAMS):
            self.client.exchange(STREAMS)


class Messages:
    """Messages of a WebSocket over TLS, each of which comes back before the next."""

    def __init__(self, proxy):
        self.connection = connect_tls(proxy.https, "http/1.1")
        exchange_websocket(self.connection, opening=True)

    def run(self, requests):
        for _ in range(requests):
            exchange_websocket(self.connection, opening=False)


class Fresh:
    """A connection for each request. What its client says first is there when the connection is accepted: the proxy
    stands still until then. Left to chance it would be so more often on a quiet machine."""

    REQUEST = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    def __init__(self, port, proxy):
        self.port, self.pid = port, proxy.process.pid

    def run(self, requests):
        for _ in range(requests):
            with self.connect_and_say(self.REQUEST) as connection:
                self.read_answer(connection)

    @staticmethod
    def read_answer(connection):
        read_http1(connection, KILOBYTE)
        if connection.recv(1):
            raise ConnectionError("more came than one answer")

    def connect_and_say(self, first):
        patience = time.monotonic() + 60
        while not self._is_asleep():
            if time.monotonic() > patience:
                raise Trouble("tidegate under valgrind has ended, or does not come to rest")
        os.kill(self.pid, signal.SIGSTOP)
        try:
            os.waitpid(self.pid, os.WUNTRACED)
            connection = connect(self.port)
            connection.sendall(first)
            return connection
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def _is_asleep(self):
        """Whether it has done all that it had to do. Under valgrind one thread runs at a time, and the others sleep."""
        states = (stat.read_text().rpartition(") ")[2][0] for stat in Path(f"/proc/{self.pid}/task").glob("*/stat"))
        return set(states) == {"S"}


class Handshakes(Fresh):
    """A connection and a handshake under TLS 1.3 for each request, which goes out with the last word of the handshake.
    Full, or taking up the session before."""

    def __init__(self, proxy, resumed):
        super().__init__(proxy.https, proxy)
        self.context = insecure()
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.resumed, self.session = resumed, None

    def run(self, requests):
        for _ in range(requests):
            records = Records(self.context, self.session)
            with self.connect_and_say(records.said()) as connection:
                records.shake_hands(connection)
                if records.tls.session_reused != (self.session is not None):
                    raise ConnectionError("a session was taken up that should not be, or not taken up")
                records.tls.write(self.REQUEST)
                connection.sendall(records.said())
                self.read_answer(records)
                self.session = records.tls.session if self.resumed else None


class Records:
    """TLS by hand, so that what it says goes out when it is told to."""

    def __init__(self, context, session):
        self._in, self._out, self._connection = ssl.MemoryBIO(), ssl.MemoryBIO(), None
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost", session=session)
        self._is_done()

    def said(self):
        return self._out.read()

    def shake_hands(self, connection):
        self._connection = connection
        while not self._is_done():
            self._take()

    def _is_done(self):
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _take(self):
        data = self._connection.recv(65536)
        self._in.write(data) if data else self._in.write_eof()

    # As a connection has them:

    def recv(self, size):
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                self._take()
            except ssl.SSLZeroReturnError:
                return b""

    def gettimeout(self):
        return self._connection.gettimeout()

    def settimeout(self, seconds):
        self._connection.settimeout(seconds)


LOADS = {
    "h1": ("HTTP/1.1 keep-alive, 1 KiB", lambda proxy: Keepalive(proxy, tls=False)),
    "tls": ("HTTP/1.1 keep-alive over TLS, 1 KiB", lambda proxy: Keepalive(proxy, tls=True)),
    "h2": (f"HTTP/2 over TLS, {STREAMS} streams, 1 KiB", Streams),
    "connect": ("new TCP connection for each request, 1 KiB", lambda proxy: Fresh(proxy.http, proxy)),
    "full": ("full TLS 1.3 handshake for each request", lambda proxy: Handshakes(proxy, resumed=False)),
    "resumed": ("resumed TLS 1.3 handshake for each request", lambda proxy: Handshakes(proxy, resumed=True)),
    "ws": ("message over a WebSocket over TLS, and back", Messages),
}
