"""All that stands around a proxy under test: ports, certificate, backends, small C programs."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import machine
from .machine import Trouble

HERE = Path(__file__).resolve().parent.parent
PORTS = 200
KILOBYTE, MEGABYTE = 1024, 1024 * 1024
# What the programs in tools/ need that not every machine with a compiler has, by what the compiler says of it.
LIBRARIES = {"openssl/": "libssl-dev", "nghttp2/": "libnghttp2-dev", "-lssl": "libssl-dev", "-lnghttp2": "libnghttp2-dev"}


def check_port_base(parser, first):
    """Refuses, as a parser of arguments does, a first port behind which there is no room."""
    end = machine.first_outgoing_port()
    if not 0 < first <= end - PORTS:
        parser.error(f"--port-base: {PORTS} ports are needed below {end}, from where on they are those of outgoing connections")


class Stage:
    """A folder that goes away, ports and a certificate."""

    def __init__(self, port_base):
        self._folder = tempfile.TemporaryDirectory(prefix="tidegate-bench-")
        self.dir = Path(self._folder.name)
        # nginx's workers are another user when this runs as root.
        self.dir.chmod(0o755)
        self._next_port, self._last_port = port_base, port_base + PORTS
        self.missing = []
        self._certificate()

    def port(self):
        """A port that nobody listens on."""
        while self._next_port < self._last_port:
            self._next_port += 1
            if not machine.listens(self._next_port):
                return self._next_port
        raise Trouble(f"no free port below {self._last_port}: choose others by --port-base")

    def note_missing(self, what):
        """Remembers, and says once, what is not there."""
        if what not in self.missing:
            self.missing.append(what)
            print(f"missing: {what}", file=sys.stderr)

    def _certificate(self):
        openssl = machine.find("openssl")
        if openssl is None:
            raise Trouble("openssl makes the certificate and is not there: apt-get install openssl")
        cert, key = self.dir / "cert.pem", self.dir / "key.pem"
        done = subprocess.run(
            [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", str(key), "-out", str(cert)], capture_output=True, text=True)
        if done.returncode:
            raise Trouble(f"openssl makes no certificate:\n{done.stderr}")
        (self.dir / "both.pem").write_text(cert.read_text() + key.read_text())
        key.chmod(0o644)  # of no worth, and read by the unprivileged users of some proxies


class Scene(Stage):
    """The scenery of a comparison: backends, configurations, small C programs."""

    def __init__(self, port_base, proxy_core, load_core, one_cipher=False, patience=0):
        super().__init__(port_base)
        self.proxy_core, self.load_core = proxy_core, load_core
        self.patience, self._least_loop_ms = patience, float("inf")
        # Everybody has the cipher that Tidegate chooses.
        self.one_cipher = one_cipher
        self.files = machine.raise_file_limit()
        self.backends = [self.port() for _ in range(3)]
        self.echo = self.port()
        os.sched_setaffinity(0, {load_core})
        self._start_backends()

    def loop_ms(self):
        """What a fixed loop takes now on the busier of the two processors."""
        took = max(machine.loop_ms(core) for core in (self.proxy_core, self.load_core))
        self._least_loop_ms = min(self._least_loop_ms, took)
        return took

    def wait_for_calm(self):
        """Waits until nobody else has a part of the processors, no longer than `patience`; gives what the loop took."""
        deadline = time.monotonic() + self.patience
        while (took := self.loop_ms()) > machine.CALM * self._least_loop_ms and time.monotonic() < deadline:
            time.sleep(0.05)
        return took

    def render(self, name, values, target=None):
        """Fills in a file of configs/ and gives the path of the result."""
        text = (HERE / "configs" / name).read_text()
        known = {
            "dir": self.dir, "echo": self.echo, "files": self.files, "maxconn": min(20000, self.files // 2 - 200),
            "user": "user root;" if os.geteuid() == 0 else "",
            **{f"backend{i + 1}": port for i, port in enumerate(self.backends)}, **values,
        }
        for key, value in known.items():
            text = text.replace(f"@{key}@", str(value))
        path = self.dir / (target or name)
        path.write_text(text)
        return path

    def keep(self, program, name):
        """A copy of a program."""
        return Path(shutil.copy2(program, self.dir / f"{name}.binary".replace(" ", "-")))

    def compile(self, name, *libraries):
        """Compiles tools/NAME.c; None, and a word in `missing`, if that cannot be done."""
        target = self.dir / name
        if target.exists():
            return target
        compiler = machine.find("cc")
        if compiler is None:
            self.note_missing("a C compiler: apt-get install gcc libc6-dev")
            return None
        command = [compiler, "-O2", "-o", target, HERE / "tools" / f"{name}.c", *libraries]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode == 0:
            return target
        for sign, package in LIBRARIES.items():
            if sign in done.stderr:
                self.note_missing(f"{package}, which tools/{name}.c needs: apt-get install {package}")
                return None
        raise Trouble(f"tools/{name}.c does not compile:\n{done.stderr}")

    def _start_backends(self):
        nginx = machine.find("nginx")
        if nginx is None:
            raise Trouble("nginx is the backend, whatever is compared, and is not there: apt-get install nginx")
        www = self.dir / "www"
        www.mkdir()
        (www / "1m").write_bytes(b"x" * MEGABYTE)
        config = self.render("backend.nginx.conf", {"kilobyte": "x" * KILOBYTE})
        log = self.dir / "backend.log"
        process = machine.spawn([nginx, "-p", self.dir, "-e", log, "-c", config], {self.load_core}, log)
        machine.wait_for(process, "the backend (nginx)", log, *self.backends)
        log = self.dir / "echo.log"
        process = machine.spawn([sys.executable, Path(__file__).with_name("echo.py"), self.echo], {self.load_core}, log)
        machine.wait_for(process, "the WebSocket backend", log, self.echo)
