"""Loads: each runs for a while against one proxy and says what came back and what it cost.

Every answer is checked. Our own clients look at each response, byte by byte; wrk and h2load count
statuses and bytes, and responses are looked at before and after each of their loads, under wrk all
of a second's load like it. Whoever meets a wrong one gives no figure but raises `Wrong`.
"""

import json
import re
import socket
import subprocess
import sys
from dataclasses import dataclass

from . import machine
from .exchanges import Client, Wrong, insecure, read_http1
from .machine import Trouble
from .stage import HERE, KILOBYTE, MEGABYTE

WARM_UP_SECONDS = 0.4
# By so much a head of theirs may be longer or shorter than another one: Envoy tells how many milliseconds the backend
# took.
VARYING_BYTES = {"envoy": 3}
# So many times a few responses over HTTP/2 are looked at, before and after a load.
LOOKS = 50


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


def run(proxy, command, seconds):
    """Runs a load generator against a proxy, on the core that we are pinned to."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    except subprocess.TimeoutExpired:
        raise Wrong(f"{proxy.name}: {command[0]} did not end")
    if done.returncode:
        raise Wrong(f"{proxy.name}: {command[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def looked_at(proxy, exchange):
    """What an exchange gives; if it is wrong it is told whose."""
    try:
        return exchange()
    except (Wrong, OSError) as trouble:
        raise Wrong(f"{proxy.name}: {trouble}")


class Wrk:
    """HTTP/1.1 by wrk: as many requests as are answered."""

    def __init__(self, path, length, connections, tls=False):
        self.path, self.length, self.connections, self.tls = path, length, connections, tls

    @staticmethod
    def needs(stage):
        if machine.find("wrk") is None:
            stage.note_missing("wrk: apt-get install wrk")
            return False
        return True

    def exchange_length(self, proxy):
        """Bytes of one whole response, which is looked at."""
        connection = socket.create_connection(("127.0.0.1", proxy.https if self.tls else proxy.http), 5)
        if self.tls:
            connection = insecure().wrap_socket(connection)
        with connection:
            connection.sendall(f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            return looked_at(proxy, lambda: read_http1(connection, self.length))

    @staticmethod
    def _run(proxy, command, seconds):
        said = run(proxy, command, seconds)
        found = re.search(r"^JSON (.*)$", said, re.M)
        if not found:
            raise Trouble(f"wrk says something unknown:\n{said}")
        result = json.loads(found.group(1))
        wrong = {kind: result[kind] for kind in ("connect", "read", "write", "status", "timeout", "content") if result[kind]}
        if wrong:
            raise Wrong(f"{proxy.name}: wrk counts {wrong} in {result['requests']} requests")
        return result

    def measure(self, proxy, seconds):
        length = self.warm_up(proxy)
        sample = self.once(proxy, seconds, length)
        self.exchange_length(proxy)
        return sample

    def warm_up(self, proxy):
        """A second of the load, in which wrk looks at every response. Gives the bytes of one."""
        length = self.exchange_length(proxy)
        self._run(proxy, [*self._command(proxy, 1), "--", self.length], 1)
        return length

    def _command(self, proxy, seconds):
        scheme, port = ("https", proxy.https) if self.tls else ("http", proxy.http)
        return [machine.find("wrk"), "-t", "1", "-c", self.connections, "-s", HERE / "tools" / "wrk.lua",
                "-d", f"{seconds}s", f"{scheme}://127.0.0.1:{port}{self.path}"]

    def once(self, proxy, seconds, length):
        """Without a warm-up; each response has so many bytes."""
        for _ in range(2):
            with Meter(proxy) as meter:
                r = self._run(proxy, self._command(proxy, seconds), seconds)
            if r["requests"] or r["bytes"]:
                break
            # Rare, on a busy machine, and seen with more than one proxy. Twice in a row would be
            # refused below.
            print(f"   {proxy.name}: wrk saw no answer at all, and no error; once more", file=sys.stderr)
        # Requests under way at the end have sent part of their bytes.
        varies = VARYING_BYTES.get(proxy.kind, 0)
        least, most = r["requests"] * (length - varies), (r["requests"] + self.connections) * (length + varies)
        if not r["requests"] or not least <= r["bytes"] <= most:
            raise Wrong(f"{proxy.name}: {r['requests']} responses of {length} bytes came as {r['bytes']} bytes")
        return Sample(r["requests"], r["seconds"], meter.cpu_us(r["requests"]), r["p50"], r["p99"],
                      loop_ms=meter.loop_ms)


class Balance:
    """Few connections that each keep a worker busy, over two workers."""

    CONNECTIONS = 10

    def __init__(self):
        self.load = Wrk("/1m", MEGABYTE, self.CONNECTIONS, tls=True)
        self.needs = self.load.needs

    def measure(self, proxy, seconds):
        """The share of the less busy worker in what both used, and the sample. The other threads of a proxy do
        next to nothing."""
        length = self.load.warm_up(proxy)
        before = proxy.thread_seconds()
        sample = self.load.once(proxy, seconds, length)
        after = proxy.thread_seconds()
        used = sorted(total - before.get(thread, 0) for thread, total in after.items())
        return used[-2] / (used[-1] + used[-2]), sample


class H2load:
    """HTTP/2 over TLS by h2load: a known number of requests."""

    def __init__(self, path, length, connections, streams):
        self.path, self.length, self.connections, self.streams = path, length, connections, streams
        self._rate = {}

    @staticmethod
    def needs(stage):
        if machine.find("h2load") is None:
            stage.note_missing("h2load: apt-get install nghttp2-client")
            return False
        return True

    def _run(self, proxy, requests, seconds):
        log = proxy.stage.dir / "h2load.log"
        log.unlink(missing_ok=True)
        said = run(proxy, [machine.find("h2load"), "-n", requests, "-c", self.connections, "-m", self.streams, "-t", "1",
                    "--npn-list=h2", f"--log-file={log}", f"https://127.0.0.1:{proxy.https}{self.path}"], seconds)
        done = re.search(r"finished in ([\d.]+)(us|ms|s), ", said)
        statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said)
        data = re.search(r"traffic: .*\((\d+)\) data", said)
        if not (done and statuses and data):
            raise Trouble(f"h2load says something unknown:\n{said}")
        if "Application protocol: h2" not in said:
            raise Wrong(f"{proxy.name} does not speak HTTP/2")
        if [int(n) for n in statuses.groups()] != [requests, 0, 0, 0] or int(data.group(1)) != requests * self.length:
            raise Wrong(f"{proxy.name}: {statuses.group(0)}, {data.group(1)} bytes of data, in {requests} requests")
        took = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
        seconds = float(done.group(1)) * {"us": 1e-6, "ms": 1e-3, "s": 1}[done.group(2)]
        return seconds, took

    def _look(self, proxy):
        client = Client("http2", proxy.https, insecure(["h2"]))
        try:
            looked_at(proxy, client.exchange)
            for _ in range(LOOKS):
                looked_at(proxy, lambda: client.http2.exchange(self.streams))
        finally:
            client.close()

    def measure(self, proxy, seconds):
        if proxy.name not in self._rate:
            took, _ = self._run(proxy, 4000, 60)
            self._rate[proxy.name] = 4000 / took
        requests = max(2000, int(self._rate[proxy.name] * seconds))
        self._look(proxy)
        self._run(proxy, max(1000, requests // 8), 60)
        with Meter(proxy) as meter:
            took, latencies = self._run(proxy, requests, seconds * 4)
        self._rate[proxy.name] = requests / took
        self._look(proxy)
        return Sample(requests, took, meter.cpu_us(requests), latencies[len(latencies) // 2],
                      latencies[len(latencies) * 99 // 100], loop_ms=meter.loop_ms)


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
        run(proxy, [tool, port, "/1k", KILOBYTE, WARM_UP_SECONDS, *tail], seconds)
        with Meter(proxy) as meter:
            r = json.loads(run(proxy, [tool, port, "/1k", KILOBYTE, seconds, *tail], seconds))
        if r["wrong"] or not r["requests"]:
            raise Wrong(f"{proxy.name}: {r['wrong']} of {r['requests'] + r['wrong']} requests: {r['first_wrong']}")
        # The first handshake of each connection is a full one.
        if self.kind == "resumed" and r["resumed"] < r["requests"] - 2 * self.connections:
            raise Wrong(f"{proxy.name} resumed {r['resumed']} of {r['requests']} handshakes under TLS {self.version}")
        if self.kind == "full" and r["resumed"]:
            raise Wrong(f"{proxy.name} resumed {r['resumed']} handshakes that should be full")
        return Sample(r["requests"], r["seconds"], meter.cpu_us(r["requests"]), r["p50"], r["p99"],
                      loop_ms=meter.loop_ms)


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
        run(proxy, self.command(proxy, rate, 1), 1)
        with Meter(proxy) as meter:
            r = self.check(proxy, json.loads(run(proxy, self.command(proxy, rate, seconds), seconds)))
        return Sample(r["done"], seconds, meter.cpu_us(r["done"]), r["p50"], r["p99"], r["late_p99"], meter.loop_ms)


LOADS = {
    "h1": Wrk("/1k", KILOBYTE, 64),
    "tls": Wrk("/1k", KILOBYTE, 64, tls=True),
    "h2": H2load("/1k", KILOBYTE, 8, 8),
    "connect": Fresh("plain", connections=64),
    "full": Fresh("full", "1.3"),
    "resumed12": Fresh("resumed", "1.2"),
    "resumed13": Fresh("resumed", "1.3"),
    "large": Wrk("/1m", MEGABYTE, 16),
    "large-tls": Wrk("/1m", MEGABYTE, 16, tls=True),
}
