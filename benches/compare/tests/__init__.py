"""That the clients of the comparison refuse what is wrong, and take what is legal.

    python3 -B -m unittest discover -s benches/compare -t benches/compare
"""

import socket
import threading
import unittest

from harness.incoming import Wrong

BODY = b"x" * 1024
# Where something is missing, that is waited for so long.
PATIENCE = 0.3


class Answers(unittest.TestCase):
    """Has a client ask over a pair of sockets, on whose other side these answers come."""

    def assert_taken(self, name, client, *answers):
        with self.subTest(name):
            self._exchange(client, answers)

    def assert_refused(self, name, client, *answers):
        with self.subTest(name), self.assertRaises((Wrong, ConnectionError)):
            self._exchange(client, answers)

    @staticmethod
    def _exchange(client, answers):
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        theirs.settimeout(10)
        answering = threading.Thread(target=_answer, args=(theirs, answers))
        answering.start()
        try:
            client(ours)
        finally:
            ours.close()
            answering.join()
            theirs.close()


def _answer(connection, answers):
    """One answer for each time that something is asked; None closes."""
    try:
        for answer in answers:
            if not connection.recv(65536):
                return
            if answer is None:
                return connection.close()
            connection.sendall(answer)
        connection.recv(65536)
    except OSError:
        pass
