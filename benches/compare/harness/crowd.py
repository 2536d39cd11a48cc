"""Clients of one proxy, half of them WebSockets, in a process of their own, which does what it reads from
stdin and answers each line with one of JSON. See `held`, whose hands these are.
"""

import json
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from .exchanges import Client, insecure
from .idle import BURST
from .machine import raise_file_limit

ECHOES = 1000


class Crowd:
    """So many WebSockets and as many keep-alive connections, all over TLS."""

    def __init__(self, port, pairs):
        self.port, self.pairs = port, pairs
        self.context = insecure()
        self.clients = []

    def open(self):
        """Opens all of them; each does one exchange."""
        for kind in ("websocket", "http1"):
            for begun in range(0, self.pairs, BURST):
                burst = [Client(kind, self.port, self.context) for _ in range(min(BURST, self.pairs - begun))]
                self.clients += burst
                self._exchange(burst)

    def echo(self):
        """Echoes over WebSockets that have long been silent, one after another; milliseconds."""
        took = []
        for client in random.choices(self.clients[:self.pairs], k=ECHOES):
            began = time.perf_counter()
            client.exchange()
            took.append((time.perf_counter() - began) * 1e3)
        return took

    def use(self):
        """One more exchange with every one of them: whoever was dropped shows now."""
        self._exchange(self.clients)

    def close(self):
        """Closes all of them, if nothing has come since."""
        for client in self.clients:
            client.must_be_silent()
        for client in self.clients:
            client.close()

    @staticmethod
    def _exchange(clients):
        with ThreadPoolExecutor(BURST) as threads:
            list(threads.map(Client.exchange, clients))


def main(port, pairs):
    raise_file_limit()
    crowd = Crowd(port, pairs)
    for line in sys.stdin:
        try:
            answer = {"done": getattr(crowd, line.strip())()}
        except Exception as trouble:  # whatever it is, the other side tells it
            answer = {"wrong": f"{type(trouble).__name__}: {trouble}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
