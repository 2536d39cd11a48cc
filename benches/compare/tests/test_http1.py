"""Responses under HTTP/1.1, before both who judge them: `harness/http1.py` and `tools/client.h`."""

import socket
import subprocess
import tempfile
from pathlib import Path

from harness.http1 import exchange_http1, read_http1
from harness.machine import find

from . import BODY, Answers

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK, LAST_CHUNK = b"400\r\n" + BODY + b"\r\n", b"0\r\n\r\n"


def with_field(line):
    """A right response with this line in its head."""
    return HEAD[:-2] + line + b"\r\n\r\n" + BODY


RIGHT = {
    "plain": HEAD + BODY,
    "no reason": HEAD.replace(b"OK", b"") + BODY,
    "no blank behind the colon": HEAD.replace(b": ", b":") + BODY,
    "lower case": HEAD.replace(b"Content-Length", b"content-length") + BODY,
    "an empty field": with_field(b"A:"),
    "bytes above 127": with_field(b"A: \xc3\xbc\tb"),
    "keep-alive": with_field(b"Connection: keep-alive"),
}
WRONG = {
    "another status": HEAD.replace(b"200", b"503") + BODY,
    "a status of four digits": HEAD.replace(b"200", b"2009") + BODY,
    "another version": HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + BODY,
    "a wrong byte": HEAD + BODY[:-1] + b"y",
    "a byte too many": HEAD + BODY + b"x",
    "a second response": 2 * (HEAD + BODY),
    "another length": HEAD.replace(b"1024", b"1023") + BODY[1:],
    "a length that is none": HEAD.replace(b"1024", b"1024, 1024") + BODY,
    "two lengths": with_field(b"Content-Length: 1024"),
    "no length": b"HTTP/1.1 200 OK\r\n\r\n" + BODY,
    "a length beside chunks": with_field(b"Transfer-Encoding: chunked"),
    "a blank before a colon": with_field(b"A : b"),
    "a blank before a name": with_field(b" Transfer-Encoding: chunked"),
    "no colon": with_field(b"A"),
    "no name": with_field(b": b"),
    "a bare line feed": with_field(b"A: b\nTransfer-Encoding: chunked"),
    "a bare carriage return": with_field(b"A: b\rc"),
    "a zero byte": with_field(b"A: b\0c"),
    "a coded body": with_field(b"Content-Encoding: gzip"),
    "an end that is announced": with_field(b"Connection: close"),
}


class Http1(Answers):
    def test_right_responses_are_taken(self):
        for name, response in RIGHT.items():
            self.assert_taken(name, exchange_http1, response)

    def test_wrong_responses_are_refused(self):
        for name, response in WRONG.items():
            self.assert_refused(name, exchange_http1, response)

    def test_a_response_that_is_not_whole_is_refused(self):
        self.assert_refused("silence", exchange_http1, (HEAD + BODY)[:-1])
        self.assert_refused("closed", exchange_http1, None)

    def test_interim_responses_come_first(self):
        self.assert_taken("103", exchange_http1, b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + HEAD + BODY)

    def test_a_last_response_may_say_so(self):
        def ask(connection):
            connection.sendall(b"GET")
            read_http1(connection, len(BODY))

        self.assert_taken("close", ask, with_field(b"Connection: close"))

    def test_chunks(self):
        for name, response in {
            "one": CHUNKED + CHUNK + LAST_CHUNK,
            "many": CHUNKED + 1024 * b"1\r\nx\r\n" + LAST_CHUNK,
            "extensions and trailers": CHUNKED + b"400;a=b\r\n" + BODY + b"\r\n0\r\nA: b\r\n\r\n",
        }.items():
            self.assert_taken(name, exchange_http1, response)
        for name, response in {
            "another coding": CHUNKED.replace(b"chunked", b"gzip, chunked") + CHUNK + LAST_CHUNK,
            "no size": CHUNKED + b"0x400\r\n" + BODY + b"\r\n" + LAST_CHUNK,
            "no end of a chunk": CHUNKED + b"400\r\n" + BODY + b"!?" + LAST_CHUNK,
            "too long": CHUNKED + CHUNK + b"1\r\nx\r\n" + LAST_CHUNK,
            "surplus behind the last": CHUNKED + CHUNK + 2 * LAST_CHUNK,
        }.items():
            self.assert_refused(name, exchange_http1, response)

    def test_nothing_comes_between_exchanges(self):
        def ask_twice(connection):
            exchange_http1(connection)
            # What the other side says to this is what nobody asked for.
            connection.sendall(b"?")
            other_side_is_done(connection)
            exchange_http1(connection)

        self.assert_refused("bytes", ask_twice, HEAD + BODY, b"x")
        self.assert_refused("the end", ask_twice, HEAD + BODY, None)


def other_side_is_done(connection):
    """Waits until something has come, the end included, and leaves it there."""
    connection.recv(1, socket.MSG_PEEK)


class Judge(Answers):
    """The same for the load generators, which read no chunks and no interim responses."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.judge = Path(cls.folder.name) / "judge"
        source = Path(__file__).with_name("judge.c")
        subprocess.run([find("cc"), "-O1", "-Wall", "-Wextra", "-o", cls.judge, source], check=True)

    def verdict(self, response, piece):
        """What it says of a response that comes in pieces of so many bytes."""
        command = [self.judge, str(len(BODY)), str(piece)]
        return subprocess.run(command, input=response, capture_output=True).stdout.decode().strip()

    def test_right_responses_are_taken_in_pieces_of_any_size(self):
        for name, response in RIGHT.items():
            for piece in 1, 7, 4096:
                with self.subTest(name, piece=piece):
                    self.assertEqual(self.verdict(response, piece), "right")

    def test_wrong_responses_are_refused_in_pieces_of_any_size(self):
        for name, response in WRONG.items():
            for piece in 1, 7, 4096:
                with self.subTest(name, piece=piece):
                    self.assertNotIn(self.verdict(response, piece), ("right", ""))
