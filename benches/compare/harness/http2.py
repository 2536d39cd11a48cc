"""An HTTP/2 client that can send one request after another (RFC 9113), HPACK by hand.

Of a response's fields only the status is looked at, and a few things that are legal are refused, since no proxy here
does them: interim responses, header blocks in several frames, frames of types that RFC 9113 does not know.
"""

import struct
import time

from .incoming import Incoming, Wrong, check_content, come_already
from .stage import KILOBYTE

DATA, HEADERS, PRIORITY, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 2, 4, 6, 8
NAMES = ("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
         "CONTINUATION")
# Flags; the first has two meanings.
ACK = END_STREAM = 0x01
END_HEADERS, PADDED, HAS_PRIORITY = 0x04, 0x08, 0x20
# What a peer may send that was told nothing else.
MOST_PAYLOAD = 16384
# :method GET, :scheme https, :path /1k, :authority localhost (RFC 7541 appendix A)
REQUEST = b"\x82\x87\x04\x03/1k\x01\x09localhost"
# `:status` with a literal value: it has seven numbers, and there are three ways to keep such a field.
STATUS_NAMES = [bytes([way | number]) for way in (0x00, 0x10, 0x40) for number in range(8, 15)]
# 200 as it is, and by Huffman's code.
LITERALS_200 = (b"\x03200", b"\x82\x10\x01")


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def is_200(block):
    """Whether the first field of a header block is `:status: 200`."""
    # Changes of the table's size may stand before it (RFC 7541 section 6.3), each a number of one byte or more (5.1).
    while block and block[0] & 0xE0 == 0x20:
        is_long = block[0] & 0x1F == 0x1F
        block = block[1:]
        while is_long and block:
            is_long = block[0] & 0x80
            block = block[1:]
    # It is number 8 of the static table.
    return block[:1] == b"\x88" or block[:1] in STATUS_NAMES and block[1:].startswith(LITERALS_200)


class Response:
    """What came of one."""

    def __init__(self):
        self.begun = self.ended = False
        self.body = b""

    def take(self, kind, flags, payload):
        """Takes a HEADERS or DATA frame."""
        content = _unpadded(kind, flags, payload)
        if kind == HEADERS:
            self._take_headers(flags, content)
        elif not self.begun:
            raise Wrong("DATA before the HEADERS of a response")
        else:
            self.body += content
        if len(self.body) > KILOBYTE:
            raise Wrong(f"{len(self.body)} bytes of body and more, and not {KILOBYTE}")
        self.ended = bool(flags & END_STREAM)

    def _take_headers(self, flags, block):
        if not flags & END_HEADERS:
            raise Wrong("HEADERS without END_HEADERS, which this client does not read")
        if not self.begun and not is_200(block):
            raise Wrong(f"status under HTTP/2 is not 200, or not the first field: {block[:20]!r}")
        # The second ones are trailers, and the end.
        if self.begun and not flags & END_STREAM:
            raise Wrong("HEADERS twice in a response")
        self.begun = True


def _unpadded(kind, flags, payload):
    before = 5 if kind == HEADERS and flags & HAS_PRIORITY else 0
    behind = 0
    if flags & PADDED:
        before, behind = before + 1, payload[0] if payload else 0
    if before + behind > len(payload):
        raise Wrong("a frame with more padding than it is long")
    return payload[before:len(payload) - behind]


class Http2:
    """One connection."""

    def __init__(self, connection):
        self.connection, self.stream, self.rest = connection, -1, b""
        self.unacknowledged = 0
        self.greeted = self.settled = False
        self.responses = {}

    def exchange(self, streams=1):
        """So many requests for 1 KiB at once, and their whole answers."""
        is_open = self.stream > 0
        if is_open:
            self.must_be_silent()
        opening = b"" if is_open else b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"")
        asked = range(self.stream + 2, self.stream + 2 + 2 * streams, 2)
        self.stream = asked[-1]
        self.responses = {stream: Response() for stream in asked}
        self.connection.sendall(
            opening + b"".join(frame(HEADERS, END_STREAM | END_HEADERS, stream, REQUEST) for stream in asked))
        incoming = Incoming(self.connection, self.rest)
        while not all(response.ended for response in self.responses.values()):
            self._take_frame(incoming)
        # What came along behind the end.
        while len(incoming.got) >= 9 + int.from_bytes(incoming.got[:3], "big"):
            self._take_frame(incoming)
        self.rest = incoming.got
        for response in self.responses.values():
            check_content(response.body, KILOBYTE)
        # The window of the connection (RFC 9113 section 6.9), before it is used up.
        if self.unacknowledged >= 16384:
            self.connection.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self.unacknowledged)))
            self.unacknowledged = 0

    def must_be_silent(self):
        """Raises `Wrong` if something has come that nobody asked for, other than a word about the connection."""
        incoming = Incoming(self.connection, self.rest)
        while incoming.got or (part := come_already(self.connection)):
            incoming.got = incoming.got or part
            self._take_frame(incoming)
        self.rest = b""

    def _take_frame(self, incoming):
        # Frames can be there already, one after another, without an end.
        if time.monotonic() > incoming.deadline:
            raise Wrong(f"frames without an end, for {incoming.patience:.0f} s")
        head = incoming.take(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        name = NAMES[kind] if kind < len(NAMES) else f"type {kind}"
        if length > MOST_PAYLOAD:
            raise Wrong(f"a frame ({name}) of {length} bytes")
        if not self.greeted and (kind != SETTINGS or flags & ACK):
            raise Wrong(f"the first frame is {name}, flags {flags}, and not SETTINGS")
        self.greeted = True
        payload = incoming.take(length)
        if kind in (HEADERS, DATA):
            self._take_content(name, kind, flags, stream, payload)
        elif not self._is_about_connection(kind, flags, stream, payload):
            raise Wrong(f"a frame that nobody asked for, or that is malformed: {name}, flags {flags}, stream {stream}, "
                        f"{payload[:40]!r}")

    def _take_content(self, name, kind, flags, stream, payload):
        response = self.responses.get(stream)
        if response is None or response.ended:
            raise Wrong(f"{name} on stream {stream}, where nothing was asked for or all has come")
        response.take(kind, flags, payload)
        self.unacknowledged += len(payload) if kind == DATA else 0

    def _is_about_connection(self, kind, flags, stream, payload):
        """Whether a frame is one that may come at any time; answers it."""
        is_ack = bool(flags & ACK)
        if kind == SETTINGS and is_ack:
            right = stream == 0 and not payload and not self.settled
            self.settled = True
        elif kind == SETTINGS:
            right = stream == 0 and len(payload) % 6 == 0
            self.connection.sendall(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING:
            right = stream == 0 and len(payload) == 8 and not is_ack
            self.connection.sendall(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            right = stream <= self.stream and len(payload) == 4 and payload != b"\0\0\0\0"
        else:
            right = kind == PRIORITY and stream > 0 and len(payload) == 5
        return right
