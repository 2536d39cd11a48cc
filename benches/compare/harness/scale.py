"""What a configuration of 10,000 backends in 1,000 pools with 10,000 routes costs without any load."""

import gzip
import http.client
import subprocess
import time
from dataclasses import dataclass

from . import machine, reload
from .exchanges import Wrong, check_content
from .stage import KILOBYTE

ROUTES_PER_POOL = 10
REQUESTS_PER_POOL = 30
PATIENCE = 60
# The default, which no other row has: there, probes would take what is to be measured.
USUAL_INTERVAL = "2s"
PROBING_SECONDS = 10


@dataclass
class Scrape:
    """One answer to `GET /metrics`."""

    seconds: float
    bytes: int          # as they were sent
    series: int
    growth_mib: float   # of the process's memory, at its highest


@dataclass
class Scale:
    """One life of a proxy with such a configuration."""

    check: float        # seconds, as all that follow
    accepts: float      # from the start
    ready: float        # from the start: every pool has had a verdict
    reloads: list
    memory_mib: float   # once every backend was probed
    reloaded_mib: float
    plain: Scrape
    gzip: Scrape
    plain_used: Scrape  # after requests to nearly all backends
    gzip_used: Scrape
    probes: float       # a second, at the default interval
    probing: float      # seconds of processor time a second, with nothing but these


def measure(proxy):
    """Starts it, looks at it, reloads it twice, sends requests to every pool."""
    config = reload.write_config(proxy, 1, ROUTES_PER_POOL)
    check = _command(proxy, "check", "-c", config)
    began = time.monotonic()
    proxy.start(config=config)
    try:
        accepts = proxy.accepts_since - began
        while _get(proxy, "/readyz")[0] != 200:
            if time.monotonic() - began > PATIENCE:
                raise Wrong(f"{proxy.name} is not ready after {PATIENCE} s")
            time.sleep(0.02)
        ready = time.monotonic() - began
        time.sleep(3)  # the rest of the first verdicts
        memory = _memory_mib(proxy)
        plain, zipped = _scrape(proxy, {}), _scrape(proxy, {"Accept-Encoding": "gzip"})
        took = []
        for weight in (2, 1):
            reload.write_config(proxy, weight, ROUTES_PER_POOL)
            took.append(_command(proxy, "reload", "--admin", f"http://127.0.0.1:{proxy.admin}"))
            reload.check_weight(proxy, weight)
            time.sleep(2)
        reloaded = _memory_mib(proxy)
        _use_all(proxy)
        plain_used, zipped_used = _scrape(proxy, {}), _scrape(proxy, {"Accept-Encoding": "gzip"})
    finally:
        proxy.stop()
    return Scale(check, accepts, ready, took, memory, reloaded, plain, zipped, plain_used, zipped_used, *_probe(proxy))


def _probe(proxy):
    """Probes a second at the default interval, and what they cost, in seconds of processor time."""
    proxy.start(config=reload.write_config(proxy, 1, ROUTES_PER_POOL, probe_interval=USUAL_INTERVAL))
    try:
        time.sleep(5)  # the start, and the first verdicts
        first, first_at = _probes_so_far(proxy), time.monotonic()
        before, began = proxy.cpu_time(), time.monotonic()
        time.sleep(PROBING_SECONDS)
        cost = proxy.cpu_time().since(before) / (time.monotonic() - began)
        last = _probes_so_far(proxy)
        if last == first:
            raise Wrong(f"{proxy.name} does not look at its backends")
        return (last - first) / (time.monotonic() - first_at), cost
    finally:
        proxy.stop()


def _probes_so_far(proxy):
    lines = _get(proxy, "/metrics")[2].decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("tidegate_backend_health_checks_total{"))


def _command(proxy, *words):
    began = time.monotonic()
    done = subprocess.run([str(word) for word in (proxy.program, *words)], capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise Wrong(f"`tidegate {words[0]}` fails: {done.stderr.strip()[-300:]}")
    return time.monotonic() - began


def _get(proxy, path, fields={}):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.admin, timeout=PATIENCE)
    connection.request("GET", path, headers=fields)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.getheader("content-encoding"), body


def _scrape(proxy, fields):
    before, began = _memory_mib(proxy), time.monotonic()
    status, coding, body = _get(proxy, "/metrics", fields)
    took = time.monotonic() - began
    after = _memory_mib(proxy)
    if status != 200 or (coding == "gzip") != bool(fields):
        raise Wrong(f"/metrics answers {status} as {coding}")
    text = gzip.decompress(body) if coding else body
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    if series < reload.POOLS * reload.BACKENDS_PER_POOL:
        raise Wrong(f"/metrics has {series} series")
    return Scrape(took, len(body), series, after - before)


def _memory_mib(proxy):
    return machine.memory_kib(proxy.process.pid) / 1024


def _use_all(proxy):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.http, timeout=PATIENCE)
    for pool in range(reload.POOLS):
        for _ in range(REQUESTS_PER_POOL):
            connection.request("GET", "/1k", headers={"Host": f"app{pool}.example.com"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise Wrong(f"app{pool} answers {answer.status}")
            check_content(answer.read(), KILOBYTE)
    connection.close()
