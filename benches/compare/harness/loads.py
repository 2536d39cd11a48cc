"""Loads: each runs for a while against one proxy and says what came back and what it cost.

The load generators look at each response, byte by byte. A wrong one makes them give no figure, and
raises `Wrong`.
"""

import json
import subprocess
from dataclasses import dataclass

from .exchanges import Wrong
from .proxies import CIPHER_1_2, CIPHER_1_3
from .stage import KILOBYTE, MEGABYTE

WARM_UP_SECONDS = 0.4


@dataclass
class Sample:
    """One measured load."""

    requests: int
    seconds: float
    cpu_us: float   # processor time of the proxy, microseconds per request
    p50_us: float
    p99_us: float
    late_us: float = 0  # 99 % of the requests were sent no later than that, where they had their times
    loop_ms: float = 0  # what a fixed loop took before and after it, the worst

    @property
    def rate(self):
        return self.requests / self.seconds


class Meter:
    """Takes, around a load, what that costs a proxy and how quiet the machine is."""

    def __init__(self, proxy):
        self.proxy = proxy

    def __enter__(self):
        self.loop_ms = self.proxy.stage.wait_for_calm()
        self._before = self.proxy.cpu_time()
        return self

    def __exit__(self, failure, *_):
        if failure is None:
            self._cpu_seconds = self.proxy.cpu_time().since(self._before)
            self.loop_ms = max(self.loop_ms, self.proxy.stage.loop_ms())

    def cpu_us(self, requests):
        """Of each request."""
        return self._cpu_seconds * 1e6 / requests


def run(proxy, command, seconds, meter=None):
    """Runs a load generator against a proxy, on the core that we are pinned to, and gives the last that it says.
    Where there is a meter the generator says `ready` when it is, and that is measured which it does after a word
    of ours."""
    command = [str(part) for part in command]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as generator:
        try:
            if meter and (said := generator.stdout.readline()) == "ready\n":
                with meter:
                    said, errors = generator.communicate("go\n", timeout=seconds + 60)
            elif meter:
                errors = generator.stderr.read()
            else:
                said, errors = generator.communicate(timeout=seconds + 60)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{proxy.name}: {command[0]} did not end")
        finally:
            # Whatever ends us, it does not go on.
            generator.kill()
    if generator.returncode:
        proxy.must_run()
        raise Wrong(f"{proxy.name}: {command[0]} failed: {(errors or said).strip()[-300:]}")
    return said


def check_cipher(proxy, cipher, wanted=CIPHER_1_3):
    """Raises `Wrong` if another than the one that all are to have was agreed on; in plain text there is none."""
    if proxy.stage.one_cipher and cipher not in ("", wanted):
        raise Wrong(f"{proxy.name} has chosen {cipher}, and not {wanted}")


class Closed:
    """As many requests as are answered, over connections that stay open, by tools/closed.c."""

    LIBRARIES = "-lssl", "-lcrypto", "-lnghttp2"

    def __init__(self, protocol, connections, streams=1, path="/1k", length=KILOBYTE):
        self.protocol, self.connections, self.streams, self.path, self.length = protocol, connections, streams, path, length

    def needs(self, stage):
        return stage.compile("closed", *self.LIBRARIES) is not None

    def measure(self, proxy, seconds):
        port = proxy.http if self.protocol == "plain" else proxy.https
        command = [proxy.stage.compile("closed", *self.LIBRARIES), port, self.path, self.length, seconds,
                   self.connections, self.protocol, self.streams]
        meter = Meter(proxy)
        r = json.loads(run(proxy, command, seconds, meter))
        if "wrong" in r or not r["requests"]:
            raise Wrong(f"{proxy.name}: {r.get('wrong', 'nothing came')}, behind {r['requests']} good responses")
        check_cipher(proxy, r["cipher"])
        return Sample(r["requests"], r["seconds"], meter.cpu_us(r["requests"]), r["p50"], r["p99"],
                      loop_ms=meter.loop_ms)


class Balance:
    """Few connections that each keep a worker busy, over two workers."""

    CONNECTIONS = 10

    def __init__(self):
        self.load = Closed("tls", self.CONNECTIONS, path="/1m", length=MEGABYTE)
        self.needs = self.load.needs

    def measure(self, proxy, seconds):
        """The share of the less busy worker in what both used, and the sample. The other threads of a proxy do
        next to nothing."""
        before = proxy.thread_seconds()
        sample = self.load.measure(proxy, seconds)
        after = proxy.thread_seconds()
        used = sorted(total - before.get(thread, 0) for thread, total in after.items())
        return used[-2] / (used[-1] + used[-2]), sample


class Fresh:
    """A connection for each request, with or without TLS, by tools/fresh.c."""

    def __init__(self, kind, version="1.3", connections=16):
        self.kind, self.version, self.connections = kind, version, connections

    @staticmethod
    def needs(stage):
        return stage.compile("fresh", "-lssl", "-lcrypto") is not None

    def measure(self, proxy, seconds):
        tool = proxy.stage.compile("fresh", "-lssl", "-lcrypto")
        port = proxy.http if self.kind == "plain" else proxy.https
        tail = [self.connections, self.kind, self.version]
        once = lambda seconds: self.check(proxy, json.loads(run(proxy, [tool, port, "/1k", KILOBYTE, seconds, *tail], seconds)))
        once(WARM_UP_SECONDS)
        with Meter(proxy) as meter:
            r = once(seconds)
        check_cipher(proxy, r["cipher"], CIPHER_1_2 if self.version == "1.2" else CIPHER_1_3)
        if self.kind == "resumed":
            self._check_resumed(proxy, r)
        if self.kind == "full" and r["resumed"]:
            raise Wrong(f"{proxy.name} resumed {r['resumed']} handshakes that should be full")
        return Sample(r["requests"], r["seconds"], meter.cpu_us(r["requests"]), r["p50"], r["p99"],
                      loop_ms=meter.loop_ms)

    def _check_resumed(self, proxy, result):
        """The first handshake of each client is a full one. They must be few, or they would show in the figure."""
        resumed, requests = result["resumed"], result["requests"]
        if resumed < requests - self.connections:
            raise Wrong(f"{proxy.name} resumed {resumed} of {requests} handshakes under TLS {self.version}")
        if requests < 10 * self.connections:
            raise Wrong(f"{proxy.name}: {requests} handshakes are too few beside {self.connections} full ones")

    @staticmethod
    def check(proxy, result):
        """Raises `Wrong` unless every request was answered rightly."""
        if result["wrong"] or not result["requests"]:
            raise Wrong(f"{proxy.name}: {result['wrong']} of {result['requests'] + result['wrong']} requests: {result['first_wrong']}")
        return result


class Rate:
    """HTTP/1.1 at a fixed rate by tools/rate.c; see there how latency is counted."""

    CONNECTIONS = 64

    def __init__(self, path="/1k", length=KILOBYTE):
        self.path, self.length = path, length

    @staticmethod
    def needs(stage):
        return stage.compile("rate") is not None

    def command(self, proxy, rate, seconds):
        tool = proxy.stage.compile("rate")
        return [tool, proxy.http, self.path, self.length, f"{rate:.0f}", seconds, self.CONNECTIONS]

    @staticmethod
    def check(proxy, result):
        """Raises `Wrong` unless every request that was due was answered rightly."""
        wrong = {kind: result[kind] for kind in ("closed", "status", "length", "content", "unfinished") if result[kind]}
        if wrong or result["done"] != result["due"]:
            raise Wrong(f"{proxy.name}: {wrong} of {result['due']} requests")
        return result

    def measure(self, proxy, seconds, rate):
        once = lambda seconds: self.check(proxy, json.loads(run(proxy, self.command(proxy, rate, seconds), seconds)))
        once(1)
        with Meter(proxy) as meter:
            r = once(seconds)
        return Sample(r["done"], r["took"], meter.cpu_us(r["done"]), r["p50"], r["p99"], r["late_p99"], meter.loop_ms)


LOADS = {
    "h1": Closed("plain", 64),
    "tls": Closed("tls", 64),
    "h2": Closed("http2", 8, streams=8),
    "connect": Fresh("plain", connections=64),
    "full": Fresh("full", "1.3"),
    "resumed12": Fresh("resumed", "1.2"),
    "resumed13": Fresh("resumed", "1.3"),
    "large": Closed("plain", 16, path="/1m", length=MEGABYTE),
    "large-tls": Closed("tls", 16, path="/1m", length=MEGABYTE),
}
