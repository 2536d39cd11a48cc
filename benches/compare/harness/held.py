"""10,000 idle WebSockets and 10,000 idle keep-alive connections, all over TLS, held at once.

A WebSocket takes two files of a proxy, and proxies keep some for themselves: where one process may not
have so many open, they are shared out among as many processes of the proxy as it takes.
"""

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from statistics import quantiles

from . import machine
from .exchanges import Wrong
from .idle import SETTLE_SECONDS
from .proxies import Proxy
from .stage import HERE

PAIRS = 10_000
IDLE_SECONDS = 3
# Proxies refuse to take more than about half of the files, since a connection can need two.
SPARE_FILES = 600
# More than any answer of the clients takes that comes at all; to open all of them takes longest.
MOST_SECONDS = 300


@dataclass
class Held:
    """What it cost."""

    processes: int
    before_mib: float
    held_mib: float
    after_mib: float
    idle_ms_per_second: float
    echo_p50_ms: float
    echo_p99_ms: float


class Side:
    """One proxy process and the process of its clients."""

    def __init__(self, kind, pairs):
        self.proxy = Proxy(kind.name, kind.stage, kind.program, kind.kind)
        self.proxy.start(cores={kind.stage.proxy_core, kind.stage.load_core})
        self.crowd = subprocess.Popen(
            [sys.executable, "-B", "-m", "harness.crowd", str(self.proxy.https), str(pairs)],
            cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            # Ctrl-C is for the parent, which ends its clients itself.
            start_new_session=True)

    def tell(self, what):
        self.crowd.stdin.write(what + "\n")
        self.crowd.stdin.flush()

    def answer(self):
        limit = threading.Timer(MOST_SECONDS, self.crowd.kill)
        limit.start()
        try:
            line = self.crowd.stdout.readline()
        finally:
            limit.cancel()
        if not line.endswith("\n"):
            raise Wrong(f"{self.proxy.name}: the clients have ended, or did not answer in {MOST_SECONDS} s")
        said = json.loads(line)
        if "wrong" in said:
            raise Wrong(f"{self.proxy.name}: {said['wrong']}")
        return said["done"]

    def stop(self):
        self.crowd.kill()
        self.crowd.wait()
        self.proxy.stop()


def measure(kind):
    """Starts what it takes of a proxy, and gives what came out."""
    most = kind.stage.files // 4 - SPARE_FILES // 2
    count = -(-PAIRS // most)
    sides = []
    try:
        for number in range(count):
            sides.append(Side(kind, PAIRS // count + (number < PAIRS % count)))
        before = _memory(sides)
        _all(sides, "open")
        time.sleep(SETTLE_SECONDS)
        held = _memory(sides)
        idle_since = [side.proxy.cpu_time() for side in sides]
        time.sleep(IDLE_SECONDS)
        cpu = sum(side.proxy.cpu_time().since(before) for side, before in zip(sides, idle_since))
        echoes = _all(sides[:1], "echo")[0]
        _all(sides, "use")
        _all(sides, "close")
        time.sleep(2 * SETTLE_SECONDS)
        after = _memory(sides)
    finally:
        for side in sides:
            side.stop()
    cuts = quantiles(echoes, n=100)
    return Held(count, before, held, after, cpu * 1e3 / IDLE_SECONDS, cuts[49], cuts[98])


def _all(sides, what):
    for side in sides:
        side.tell(what)
    return [side.answer() for side in sides]


def _memory(sides):
    return sum(machine.memory_kib(side.proxy.process.pid) for side in sides) / 1024
