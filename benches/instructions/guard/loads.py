"""The loads that are counted. Each is one client that never has more under way than it says, so
that the same things happen in the same order every time."""

import os
import signal
import socket
import ssl
import time
from pathlib import Path

from harness.exchanges import Http2, exchange_http1, insecure, read_http1
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


class Fresh:
    """A connection for each request, which is there when the connection is accepted: the proxy stands still until
    then. Left to chance it would be so more often on a quiet machine."""

    REQUEST = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    def __init__(self, proxy):
        self.port, self.pid = proxy.http, proxy.process.pid

    def run(self, requests):
        for _ in range(requests):
            with self._connect_and_ask() as connection:
                read_http1(connection, KILOBYTE)
                if connection.recv(1):
                    raise ConnectionError("more came than one answer")

    def _connect_and_ask(self):
        patience = time.monotonic() + 60
        while not self._is_asleep():
            if time.monotonic() > patience:
                raise Trouble("tidegate under valgrind has ended, or does not come to rest")
        os.kill(self.pid, signal.SIGSTOP)
        try:
            os.waitpid(self.pid, os.WUNTRACED)
            connection = connect(self.port)
            connection.sendall(self.REQUEST)
            return connection
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def _is_asleep(self):
        """Whether it has done all that it had to do. Under valgrind one thread runs at a time, and the others sleep."""
        states = (stat.read_text().rpartition(") ")[2][0] for stat in Path(f"/proc/{self.pid}/task").glob("*/stat"))
        return set(states) == {"S"}


LOADS = {
    "h1": ("HTTP/1.1 keep-alive, 1 KiB", lambda proxy: Keepalive(proxy, tls=False)),
    "tls": ("HTTP/1.1 keep-alive over TLS, 1 KiB", lambda proxy: Keepalive(proxy, tls=True)),
    "h2": (f"HTTP/2 over TLS, {STREAMS} streams, 1 KiB", Streams),
    "connect": ("new TCP connection for each request, 1 KiB", Fresh),
}
