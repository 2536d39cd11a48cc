"""Memory per idle connection: the process before and after 2,000 connections that did one exchange.

They are opened in bursts of 50 that do their exchanges at the same time, as after a restart, so
that a proxy also shows what a burst leaves behind.
"""

import time
from concurrent.futures import ThreadPoolExecutor

from . import machine
from .exchanges import Client, Wrong, insecure

CONNECTIONS, BURST = 2000, 50
# Proxies give memory back after a while.
SETTLE_SECONDS = 4


KINDS = {
    "mem-h1": ("http1", False), "mem-tls": ("http1", True), "mem-h2": ("http2", True),
    "mem-ws": ("websocket", False), "mem-wss": ("websocket", True),
}


def measure(proxy, row):
    """KiB per idle connection, of a proxy that was started for nothing else."""
    kind, tls = KINDS[row]
    context = insecure(["h2"] if kind == "http2" else ["http/1.1"]) if tls else None
    port = proxy.https if tls else proxy.http
    clients = []
    proxy.start()
    try:
        with ThreadPoolExecutor(BURST) as threads:

            def burst():
                new = [Client(kind, port, context) for _ in range(BURST)]
                list(threads.map(Client.exchange, new))
                return new

            for client in burst():
                client.must_be_silent()
                client.close()
            time.sleep(1)
            before = machine.memory_kib(proxy.process.pid)
            while len(clients) < CONNECTIONS:
                clients += burst()
            time.sleep(SETTLE_SECONDS)
            after = machine.memory_kib(proxy.process.pid)
            # All must be there still, and work.
            list(threads.map(Client.exchange, clients))
            for client in clients:
                client.must_be_silent()
    except (OSError, Wrong) as trouble:
        raise Wrong(f"{proxy.name}: {trouble}")
    finally:
        for client in clients:
            client.close()
        proxy.stop()
    return (after - before) / CONNECTIONS
