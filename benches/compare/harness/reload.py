"""What a reload of 10,000 backends in 1,000 pools costs the requests of that moment."""

import json
import subprocess
import time

from .loads import Rate, Wrong

POOLS, BACKENDS_PER_POOL = 1000, 10
SECONDS, RELOAD_AT = 12, 6
# Every backend's probes are connections too; at this interval they leave the load alone.
PROBE_INTERVAL = "60s"


def write_config(proxy, weight):
    """A configuration of that size; every backend's weight is `weight`, so that all of them change."""
    stage = proxy.stage
    lines = [stage.render("tidegate.toml", {"http": proxy.http, "https": proxy.https, "admin": proxy.admin, "workers": 1}).read_text()]
    for pool in range(POOLS):
        # All of 127.0.0.0/8 is loopback, and the backends listen on every address.
        backends = ", ".join(
            f'{{ address = "127.{1 + pool // 250}.{pool % 250}.{1 + i}:{stage.backends[i % 3]}", weight = {weight} }}'
            for i in range(BACKENDS_PER_POOL))
        lines.append(f'[[routes]]\nhosts = ["app{pool}.example.com"]\npool = "app{pool}"\n'
                     f"[pools.app{pool}]\nbackends = [{backends}]\n"
                     f'[pools.app{pool}.health]\ntype = "tcp"\ninterval = "{PROBE_INTERVAL}"\n')
    path = stage.dir / "reload.toml"
    path.write_text("\n".join(lines))
    return path


def measure(proxy, rate):
    """Starts a tidegate with such a configuration and reloads it under load.

    Gives (failed requests, p99 before, p99 of the worst second around the reload, both in µs,
    seconds that the reload took, processor seconds that it took).
    """
    config = write_config(proxy, 1)
    proxy.start(config=config)
    try:
        time.sleep(5)  # first verdicts of 10,000 backends
        load_began = time.monotonic()
        load = subprocess.Popen([str(part) for part in Rate().command(proxy, rate, SECONDS)],
                                stdout=subprocess.PIPE, text=True)
        time.sleep(RELOAD_AT + 0.3)
        write_config(proxy, 2)
        cpu, began = proxy.cpu_seconds(), time.monotonic()
        reload = subprocess.run([proxy.program, "reload", "--admin", f"http://127.0.0.1:{proxy.admin}"],
                                capture_output=True, text=True, timeout=60)
        took = time.monotonic() - began
        cpu = proxy.cpu_seconds() - cpu
        over = time.monotonic() - load_began
        said = json.loads(load.communicate(timeout=60)[0])
    finally:
        proxy.stop()
    if reload.returncode:
        raise Wrong(f"the reload failed: {reload.stderr.strip()[-300:]}")
    # What it leaves behind counts too: the second after it, and the rest of the one in which that ends.
    end = int(over) + 2
    if end > SECONDS:
        raise Wrong(f"the reload took {took:.1f} s, and was not over before the load")
    seconds = said["seconds"]
    before = sorted(second["p99"] for second in seconds[2:RELOAD_AT])
    around = max(second["p99"] for second in seconds[RELOAD_AT:end])
    return said["due"] - said["done"], before[len(before) // 2], around, took, cpu
