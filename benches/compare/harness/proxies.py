"""The proxies that are compared: where they are, how they start, what they are called."""

import re

from . import machine
from .machine import Trouble


# What Tidegate, Envoy, Caddy and Traefik choose on processors that know AES.
CIPHER_1_2, CIPHER_1_3 = "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256"


class Proxy:
    """One kind of proxy; between `start` and `stop` it is a process."""

    def __init__(self, name, stage, program, kind=None):
        self.name, self.stage, self.program, self.kind = name, stage, program, kind or name
        self.http, self.https, self.admin = stage.port(), stage.port(), stage.port()
        self.process, self.accepts_since = None, None

    def version(self):
        """What it calls itself."""
        said = machine.output_of(self.program, *VERSION[self.kind])
        found = re.search(r"(\d+\.\d+[\w.+~-]*)", said)
        return f"{self.name} {found.group(1)}" if found else self.name

    def start(self, workers=1, cores=None, config=None):
        """Starts it, pinned to the proxy's core unless told otherwise, and waits until it accepts."""
        values = {"http": self.http, "https": self.https, "admin": self.admin, "workers": workers}
        command = COMMAND[self.kind](self, values, config)
        log = self.stage.dir / f"{self.name}.log"
        ports = [self.http, self.https] if self.kind in SPEAKS_TLS else [self.http]
        for port in ports:
            machine.wait_until_free(port)
        self.process = machine.spawn(command, cores or {self.stage.proxy_core}, log)
        try:
            self.accepts_since = machine.wait_for(self.process, self.name, log, *ports)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """Ends it, if it runs."""
        if self.process is not None:
            machine.stop(self.process)
            self.process = None

    def cpu_time(self):
        """See `machine.CpuTime`."""
        self.must_run()
        return machine.CpuTime(self.process.pid)

    def thread_seconds(self):
        """See `machine.thread_seconds`."""
        self.must_run()
        return machine.thread_seconds(self.process.pid)

    def must_run(self):
        """Raises `Trouble`, with its last words, if it has ended."""
        if self.process.poll() is not None:
            log = (self.stage.dir / f"{self.name}.log").read_text(errors="replace")[-800:]
            raise Trouble(f"{self.name} has ended by itself; it says:\n{log}")


def _tidegate(proxy, values, config):
    config = config or proxy.stage.render("tidegate.toml", values, f"{proxy.name}.toml")
    return [proxy.program, "run", "-c", config]


def _nginx(proxy, values, _config):
    # `http2` moved from `listen` to a directive of its own.
    version = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", machine.output_of(proxy.program, "-v"))
    own = version is not None and tuple(map(int, version.groups())) >= (1, 25, 1)
    values |= {"http2_listen": "" if own else "http2", "http2_directive": "http2 on;" if own else ""}
    # Without, the first worker that wakes up takes a whole burst of connections.
    values["reuseport"] = "reuseport" if values["workers"] > 1 else ""
    values["ciphers"] = (f"ssl_prefer_server_ciphers on; ssl_ciphers {CIPHER_1_2}; "
                         f"ssl_conf_command Ciphersuites {CIPHER_1_3};") if proxy.stage.one_cipher else ""
    config = proxy.stage.render("nginx.conf", values)
    return [proxy.program, "-p", proxy.stage.dir, "-e", proxy.stage.dir / "nginx.log", "-c", config]


def _haproxy(proxy, values, _config):
    values["ciphers"] = (f"ssl-default-bind-ciphers {CIPHER_1_2}\n    ssl-default-bind-ciphersuites {CIPHER_1_3}"
                         if proxy.stage.one_cipher else "")
    return [proxy.program, "-db", "-f", proxy.stage.render("haproxy.cfg", values)]


def _envoy(proxy, values, _config):
    config = proxy.stage.render("envoy.yaml", values)
    return [proxy.program, "-c", config, "--concurrency", values["workers"], "-l", "error", "--use-dynamic-base-id"]


def _caddy(proxy, values, _config):
    config = proxy.stage.render("Caddyfile", values)
    return ["env", f"GOMAXPROCS={values['workers']}", f"HOME={proxy.stage.dir}",
            proxy.program, "run", "--config", config, "--adapter", "caddyfile"]


def _traefik(proxy, values, _config):
    proxy.stage.render("traefik.routes.yml", values)
    config = proxy.stage.render("traefik.yml", values)
    return ["env", f"GOMAXPROCS={values['workers']}", proxy.program, f"--configFile={config}"]


def _relay(proxy, values, _config):
    return [proxy.program, values["http"], *proxy.stage.backends]


COMMAND = {
    "tidegate": _tidegate, "nginx": _nginx, "haproxy": _haproxy, "envoy": _envoy, "caddy": _caddy,
    "traefik": _traefik, "floor": _relay,
}
VERSION = {
    "tidegate": ["--version"], "nginx": ["-v"], "haproxy": ["-v"], "envoy": ["--version"], "caddy": ["version"],
    "traefik": ["version"], "floor": [],
}
SPEAKS_TLS = {"tidegate", "nginx", "haproxy", "envoy", "caddy", "traefik"}
PEERS = ["nginx", "haproxy", "envoy", "caddy", "traefik"]


def find_peers(stage, wanted):
    """Those peers that are installed, or of them those that are wanted."""
    proxies = []
    for name in PEERS:
        if wanted and name not in wanted:
            continue
        program = machine.find(name)
        if program is None:
            stage.note_missing(f"{name}, so its column is left out")
        else:
            proxies.append(Proxy(name, stage, program))
    return proxies
