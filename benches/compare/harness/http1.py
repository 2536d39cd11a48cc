"""A strict reader of responses under HTTP/1.1 (RFC 9112): what it lets through is right in every byte."""

import re

from .incoming import Incoming, Wrong, check_content, must_be_silent
from .stage import KILOBYTE

MOST_HEAD, MOST_CHUNK_LINE = 65536, 1024
_TEXT = rb"[\t -~\x80-\xff]*"
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9])(?: " + _TEXT + rb")?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):(" + _TEXT + rb")")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;" + _TEXT + rb")?")


class Head:
    """A status and fields."""

    def __init__(self, incoming):
        lines = _lines(incoming)
        status = _STATUS_LINE.fullmatch(lines[0])
        if not status:
            raise Wrong(f"{lines[0][:80]!r} is no status line")
        self.status = int(status.group(1))
        self.fields = _fields(lines[1:])

    def values(self, name):
        """What the fields of a name say."""
        return [value for other, value in self.fields if other == name]

    def tokens(self, name):
        """The members of a list, in lower case."""
        return [token.strip(b" \t").lower() for value in self.values(name) for token in value.split(b",")]

    def must_not_have(self, *names):
        """Raises `Wrong` if there is a field of one of these names."""
        for name, value in self.fields:
            if name in names:
                raise Wrong(f"a field that must not be there: {name.decode()}: {value[:80]!r}")


def _lines(incoming):
    """The lines before an empty one."""
    lines, room = [], MOST_HEAD
    while True:
        line = incoming.line(room)
        room -= len(line) + 2
        if not line and lines:
            return lines
        lines.append(line)


def _fields(lines):
    """[(name in lower case, value)]; a line with a blank before its name or colon is none."""
    fields = []
    for line in lines:
        field = _FIELD.fullmatch(line)
        if not field:
            raise Wrong(f"{line[:80]!r} is no field")
        fields.append((field.group(1).lower(), field.group(2).strip(b" \t")))
    return fields


def read_head(incoming):
    """The head of the final response. Interim ones are legal before it; 101 is final."""
    while True:
        head = Head(incoming)
        if head.status >= 200 or head.status == 101:
            return head


def exchange_http1(connection, request=b"GET /1k HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
    """One request for 1 KiB and its whole answer, on a connection that stays open."""
    must_be_silent(connection)
    connection.sendall(request)
    read_http1(connection, KILOBYTE, stays_open=True)


def read_http1(connection, length, stays_open=False):
    """One whole answer with a body of so many bytes, and nothing behind it. It may say that it is the connection's last
    one, unless that is to stay open."""
    incoming = Incoming(connection)
    head = read_head(incoming)
    if head.status != 200:
        raise Wrong(f"status {head.status}")
    if stays_open and b"close" in head.tokens(b"connection"):
        raise Wrong("the proxy says that it closes a connection that was to stay open")
    head.must_not_have(b"content-encoding")
    body = _chunks(incoming, length) if _is_chunked(head, length) else incoming.take(length)
    check_content(body, length)
    incoming.must_be_empty()


def _is_chunked(head, length):
    """Whether it is, or has that length; one of both, in a single field."""
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if len(lengths) + len(codings) != 1:
        raise Wrong(f"{len(lengths)} fields Content-Length and {len(codings)} Transfer-Encoding, and not one in all")
    if lengths and lengths[0] != b"%d" % length:
        raise Wrong(f"Content-Length is {lengths[0][:40]!r}, and not {length}")
    if codings and codings[0].lower() != b"chunked":
        raise Wrong(f"Transfer-Encoding is {codings[0][:40]!r}, and not chunked")
    return bool(codings)


def _chunks(incoming, most):
    """The content of chunks, and nothing of their trailers; `Wrong` if it is longer than that."""
    content = b""
    while True:
        line = incoming.line(MOST_CHUNK_LINE)
        found = _CHUNK_LINE.fullmatch(line)
        if not found:
            raise Wrong(f"{line[:40]!r} is no length of a chunk")
        length = int(found.group(1), 16)
        if length == 0:
            _skip_trailers(incoming)
            return content
        if len(content) + length > most:
            raise Wrong(f"chunks of {len(content) + length} bytes and more, and not {most}")
        content += incoming.take(length)
        end = incoming.take(2)
        if end != b"\r\n":
            raise Wrong(f"{end!r} where a chunk should end")


def _skip_trailers(incoming):
    lines, room = [], MOST_HEAD
    while line := incoming.line(room):
        lines.append(line)
        room -= len(line) + 2
    _fields(lines)
