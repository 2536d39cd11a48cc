"""What comes on a connection: no more than was asked for, and within the time that it has."""

import socket
import ssl
import time

PART = 65536


class Wrong(Exception):
    """An answer that was not the one expected: the figure would be worth nothing."""


class Incoming:
    """The bytes of one exchange. It may take as long as the socket's timeout says, however many parts come."""

    def __init__(self, connection, got=b""):
        self.connection, self.got = connection, got
        self.patience = connection.gettimeout() or 10
        self.deadline = time.monotonic() + self.patience

    def more(self):
        """Waits for the next part."""
        left = self.deadline - time.monotonic()
        timeout = self.connection.gettimeout()
        try:
            if left <= 0:
                raise socket.timeout
            self.connection.settimeout(left)
            part = self.connection.recv(PART)
        except socket.timeout:
            raise Wrong(f"no whole answer in {self.patience:.0f} s; {len(self.got)} bytes wait for more: "
                        f"{self.got[:40]!r}")
        finally:
            self.connection.settimeout(timeout)
        if not part:
            raise Wrong("the proxy closed a connection that was to stay open")
        self.got += part

    def take(self, length):
        """So many bytes."""
        while len(self.got) < length:
            self.more()
        taken, self.got = self.got[:length], self.got[length:]
        return taken

    def line(self, most):
        """A line of at most so many bytes, without the CRLF at its end."""
        while b"\n" not in self.got[:most]:
            if len(self.got) >= most:
                raise Wrong(f"no end of a line in so many bytes as there may be: {self.got[:40]!r}")
            self.more()
        line, _, self.got = self.got.partition(b"\n")
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise Wrong(f"a line that does not end in CR and LF, or has one of them inside: {line[:80]!r}")
        return line[:-1]

    def must_be_empty(self):
        """Raises `Wrong` if more came along than was taken."""
        if self.got:
            raise Wrong(f"{len(self.got)} bytes behind the end of an answer: {self.got[:40]!r}")


def come_already(connection):
    """What is there without waiting; None if nothing is."""
    timeout = connection.gettimeout()
    connection.settimeout(0)
    try:
        # Session tickets are dealt with in here, and are nothing.
        part = connection.recv(PART)
    except (BlockingIOError, ssl.SSLWantReadError):
        return None
    finally:
        connection.settimeout(timeout)
    if not part:
        raise Wrong("the proxy has closed a connection that was to stay open")
    return part


def must_be_silent(connection):
    """Raises `Wrong` if something has come that nobody asked for, or the end."""
    part = come_already(connection)
    if part is not None:
        raise Wrong(f"{len(part)} bytes that nobody asked for: {part[:40]!r}")


def check_content(body, length):
    """Raises `Wrong` unless a body is what the backends answer at that length."""
    if body != b"x" * length:
        raise Wrong(f"{len(body)} bytes of body, and not {length} times `x`: {body[:20]!r}")
