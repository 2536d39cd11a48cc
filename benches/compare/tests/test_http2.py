"""Frames of responses under HTTP/2."""

from harness.http2 import DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, SETTINGS, WINDOW_UPDATE, Http2, frame

from . import BODY, Answers

RST_STREAM, PUSH_PROMISE, GOAWAY, CONTINUATION = 3, 5, 7, 9
GREETING = frame(SETTINGS, 0, 0, b"")
STATUS_200 = b"\x88"
HEAD = frame(HEADERS, END_HEADERS, 1, STATUS_200)
CONTENT = frame(DATA, END_STREAM, 1, BODY)


def once(connection):
    Http2(connection).exchange()


def with_block(block):
    return GREETING + frame(HEADERS, END_HEADERS, 1, block) + CONTENT


class Responses(Answers):
    def test_what_is_legal_is_taken(self):
        for name, response in {
            "as usual": GREETING + HEAD + CONTENT,
            "in pieces": GREETING + HEAD + frame(DATA, 0, 1, BODY[:500]) + frame(DATA, END_STREAM, 1, BODY[500:]),
            "padding": GREETING + HEAD + frame(DATA, END_STREAM | PADDED, 1, b"\x02" + BODY + b"\0\0"),
            "trailers": GREETING + HEAD + frame(DATA, 0, 1, BODY) + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\1a\1b"),
            "a change of the table before the status": with_block(b"\x3f\xe1\x1f" + STATUS_200),
            "a status in letters": with_block(b"\x08\x03200"),
            "a status by Huffman's code": with_block(b"\x18\x82\x10\x01"),
            "a window": GREETING + frame(WINDOW_UPDATE, 0, 0, b"\0\0\1\0") + HEAD + CONTENT,
        }.items():
            self.assert_taken(name, once, response)

    def test_what_is_wrong_is_refused(self):
        for name, response in {
            "no greeting": HEAD + CONTENT,
            "another status": with_block(b"\x08\x03503"),
            "no status": with_block(b""),
            "no head": GREETING + CONTENT,
            "two heads": GREETING + HEAD + HEAD + CONTENT,
            "no end of the head":
                GREETING + frame(HEADERS, 0, 1, STATUS_200) + frame(CONTINUATION, END_HEADERS, 1, b"") + CONTENT,
            "short": GREETING + HEAD + frame(DATA, END_STREAM, 1, BODY[1:]),
            "long": GREETING + HEAD + frame(DATA, END_STREAM, 1, BODY + b"x"),
            "a wrong byte": GREETING + HEAD + frame(DATA, END_STREAM, 1, BODY[:-1] + b"y"),
            "behind the end": GREETING + HEAD + CONTENT + CONTENT,
            "another stream": GREETING + frame(HEADERS, END_HEADERS, 11, STATUS_200) + HEAD + CONTENT,
            "too much padding": GREETING + HEAD + frame(DATA, END_STREAM | PADDED, 1, b"\xff" + BODY[:9]),
            "a reset": GREETING + HEAD + frame(RST_STREAM, 0, 1, b"\0\0\0\2"),
            "a promise": GREETING + frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + STATUS_200) + HEAD + CONTENT,
            "a farewell": GREETING + HEAD + CONTENT + frame(GOAWAY, 0, 0, bytes(8)),
            "HTTP/1.1": b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + BODY,
        }.items():
            self.assert_refused(name, once, response)

    def test_a_ping_is_answered(self):
        # Each comes only when something was said to the one before: to the greeting its acknowledgement.
        self.assert_taken("ping", once, GREETING, frame(PING, 0, 0, b"12345678"), HEAD + CONTENT)
