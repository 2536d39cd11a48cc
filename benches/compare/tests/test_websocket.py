"""Openings and messages of a WebSocket."""

from harness.websocket import ACCEPT, ECHO, exchange_websocket

from . import Answers

STATUS = b"HTTP/1.1 101 Switching Protocols\r\n"
UPGRADE, CONNECTION = b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n"
KEY = b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n"
OPENED = STATUS + UPGRADE + CONNECTION + KEY + b"\r\n"


def once(connection):
    exchange_websocket(connection, opening=True)


class WebSocket(Answers):
    def test_what_is_right_is_taken(self):
        self.assert_taken("as usual", once, OPENED, ECHO)
        self.assert_taken("other case", once, OPENED.replace(b"Upgrade\r\n", b"keep-alive, upgrade\r\n"), ECHO)

    def test_wrong_openings_are_refused(self):
        for name, opened in {
            "a status": OPENED.replace(b"101", b"200"),
            "the key in another field": OPENED.replace(b"Sec-WebSocket-Accept", b"X-Foo"),
            "another key": OPENED.replace(ACCEPT, ACCEPT[1:]),
            "no upgrade": OPENED.replace(UPGRADE, b""),
            "no connection": OPENED.replace(CONNECTION, b""),
            "another protocol": OPENED.replace(b"websocket", b"h2c"),
            "an extension": OPENED.replace(KEY, KEY + b"Sec-WebSocket-Extensions: permessage-deflate\r\n"),
            "something behind": OPENED + b"junk",
        }.items():
            self.assert_refused(name, once, opened, ECHO)

    def test_wrong_messages_are_refused(self):
        for name, message in {"content": ECHO[:-1] + b"O", "twice": 2 * ECHO, "short": ECHO[:-1]}.items():
            self.assert_refused(name, once, OPENED, message)
