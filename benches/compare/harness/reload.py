"""What a reload of 10,000 backends in 1,000 pools costs the requests of that moment."""

import http.client
import json
import os
import subprocess
import time
from dataclasses import dataclass
from statistics import median

from .exchanges import Wrong
from .loads import Rate

POOLS, BACKENDS_PER_POOL = 1000, 10
SECONDS, RELOAD_AT = 14, 8
# Every backend's probes are connections too; at this interval they leave the load alone.
PROBE_INTERVAL = "60s"


@dataclass
class Reload:
    """One reload under load; latencies in µs."""

    failed: int         # requests
    p99_before: float   # of the worst of as many seconds
    p99: float          # of the worst second around the reload
    slowest_before: float
    slowest: float
    seconds: float      # that the reload took
    cpu_seconds: float  # of the proxy in that time, the load's included


def write_config(proxy, weight, routes_per_pool=1, name="reload.toml", probe_interval=PROBE_INTERVAL):
    """A configuration of that size; every backend's weight is `weight`, so that all of them change."""
    stage = proxy.stage
    lines = [stage.render("tidegate.toml", {"http": proxy.http, "https": proxy.https, "admin": proxy.admin, "workers": 1}).read_text()]
    for pool in range(POOLS):
        # All of 127.0.0.0/8 is loopback, and the backends listen on every address.
        backends = ", ".join(
            f'{{ address = "127.{1 + pool // 250}.{pool % 250}.{1 + i}:{stage.backends[i % 3]}", weight = {weight} }}'
            for i in range(BACKENDS_PER_POOL))
        for i in range(routes_per_pool):
            host = f"app{pool}.example.com" if i == 0 else f"app{pool}-{i}.example.com"
            lines.append(f'[[routes]]\nhosts = ["{host}"]\npool = "app{pool}"')
        lines.append(f"[pools.app{pool}]\nbackends = [{backends}]\n"
                     f'[pools.app{pool}.health]\ntype = "tcp"\ninterval = "{probe_interval}"\n')
    path = stage.dir / name
    path.write_text("\n".join(lines))
    return path


def ask_for_reload(proxy):
    """What `tidegate reload` does, without a process that would have to be started beside the load."""
    admin = http.client.HTTPConnection("127.0.0.1", proxy.admin, timeout=60)
    admin.request("POST", "/api/reload", body="{}", headers={"Content-Type": "application/json"})
    answer = admin.getresponse()
    return answer.status, answer.read().decode(errors="replace")


def check_weight(proxy, weight):
    """Raises `Wrong` unless all backends of the last pool have this weight: what was asked for is in force."""
    admin = http.client.HTTPConnection("127.0.0.1", proxy.admin, timeout=60)
    admin.request("GET", "/api/status")
    try:
        pool = json.loads(admin.getresponse().read())["pools"][f"app{POOLS - 1}"]
        weights = [backend["weight"] for version in pool["versions"].values() for backend in version["backends"].values()]
    except (ValueError, KeyError, http.client.HTTPException) as trouble:
        raise Wrong(f"{proxy.name}: /api/status tells no weights: {type(trouble).__name__} {trouble}")
    if weights != [weight] * BACKENDS_PER_POOL:
        raise Wrong(f"{proxy.name}: the weights after the reload are {weights}, and not {weight}")


def measure(proxy, rate, cores=None):
    """Starts a tidegate with such a configuration, on these processors if any are named, and reloads it
    under load."""
    config = write_config(proxy, 1)
    # Now, and not under the load: to write it keeps the processor of the load generator busy for long.
    new_config = write_config(proxy, 2, name="reload-new.toml")
    proxy.start(config=config, cores=cores)
    load = None
    try:
        time.sleep(5)  # first verdicts of 10,000 backends
        load_began = time.monotonic()
        load = subprocess.Popen([str(part) for part in Rate().command(proxy, rate, SECONDS)],
                                stdout=subprocess.PIPE, text=True)
        time.sleep(RELOAD_AT + 0.3)
        os.replace(new_config, config)
        before, began = proxy.cpu_time(), time.monotonic()
        status, answer = ask_for_reload(proxy)
        took = time.monotonic() - began
        cpu = proxy.cpu_time().since(before)
        over = time.monotonic() - load_began
        said = json.loads(load.communicate(timeout=60)[0])
        if status == 200:
            check_weight(proxy, 2)
    finally:
        if load:
            load.kill()
        proxy.stop()
    if status != 200:
        raise Wrong(f"the reload failed: {answer[-300:]}")
    # Requests without a response are what the row tells; wrong responses are another matter.
    wrong = {kind: said[kind] for kind in ("status", "length", "content") if said[kind]}
    if wrong:
        raise Wrong(f"{proxy.name}: {wrong} of {said['due']} responses")
    # What it leaves behind counts too: the second after it, and the rest of the one in which that ends.
    end = int(over) + 2
    if end > SECONDS:
        raise Wrong(f"the reload took {took:.1f} s, and was not over before the load")
    seconds = said["seconds"]
    before, around = seconds[2:RELOAD_AT], seconds[RELOAD_AT:end]
    if not all(second["done"] for second in before):
        raise Wrong("before the reload nothing was answered for a second: the machine is too busy for this rate")
    # The worst of several seconds is worse than any of them, whatever happens in it.
    several = len(around)
    worst_before = [max(second["p99"] for second in before[at:at + several]) for at in range(len(before) - several + 1)]
    return Reload(
        said["due"] - said["done"], median(worst_before), max(second["p99"] for second in around),
        max(second["max"] for second in before), max(second["max"] for second in around), took, cpu)
