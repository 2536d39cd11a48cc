"""The machine: programs, cores, and what processes cost. Linux only."""

import atexit
import contextlib
import ctypes
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


class Trouble(Exception):
    """Something that the user has to know; its text says what to do."""


def find(program):
    """The path of a program, or None. Servers are often outside of a user's PATH."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")


def output_of(*command):
    """All that a command says, or nothing if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip()


def describe():
    """The machine in one line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {os.cpu_count()} processors, Linux {platform.release()}"


def raise_file_limit():
    """Lets this process and its children have all the files that the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < 9000:
        raise Trouble(f"only {hard} open files are allowed, and 9000 are needed: raise `ulimit -Hn`")
    return hard


# Where a fixed piece of work takes more than so many times its least, others have a part of the processor.
CALM = 1.2


def loop_ms(core):
    """What a fixed piece of work takes on a processor: more of it when others, unseen, share that."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return min(_timed_loop(), _timed_loop())
    finally:
        os.sched_setaffinity(0, own)


def _timed_loop():
    began = time.perf_counter()
    for _ in range(50_000):
        pass
    return (time.perf_counter() - began) * 1e3


# Processes --------------------------------------------------------------------------------------

_running = []
_prctl = ctypes.CDLL(None).prctl
_PR_SET_PDEATHSIG = 1


def spawn(command, cores, log):
    """Starts a process pinned to `cores` that ends, at the latest, together with this one."""

    def prepare():
        os.sched_setaffinity(0, cores)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    with open(log, "ab") as sink:
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            start_new_session=True, preexec_fn=prepare)
    _running.append(process)
    return process


def stop(process):
    """Ends a process that `spawn` started, with its children."""
    if process in _running:
        _running.remove(process)
    # The group is the process's own, by start_new_session. nginx and HAProxy take SIGTERM as "now", and end their
    # children. A script that was put before a proxy ends alone, so whatever is left of the group is ended too.
    for end in (process.terminate, lambda: os.killpg(process.pid, signal.SIGKILL)):
        try:
            end()
            process.wait(3)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def end_by_signals():
    """What asks us to end lets us stop whatever runs, and take away what we made, on the way out."""
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda number, _: sys.exit(128 + number))


@atexit.register
def stop_all():
    """Ends what is left."""
    while _running:
        stop(_running[-1])


def tree(pid):
    """A process and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += tree(int(child))
        except OSError:
            pass
    return found


def thread_seconds(pid):
    """Time on a processor, user and system, of each thread of a process and its descendants. {(process, thread): s}"""
    found = {}
    for process in tree(pid):
        for task in Path(f"/proc/{process}/task").glob("*/schedstat"):
            try:
                found[process, int(task.parent.name)] = int(task.read_text().split()[0]) / 1e9
            except (OSError, IndexError):
                pass
    return found


_TICK = 1 / os.sysconf("SC_CLK_TCK")


def _ticked_seconds(process):
    """Time on a processor of a process, its threads that have ended, and its children that have, in whole ticks."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return 0
    # Behind the name, which may hold anything: utime, stime, cutime and cstime are fields 14 to 17 of proc(5).
    return sum(int(ticks) for ticks in stat.rpartition(")")[2].split()[11:15]) * _TICK


class CpuTime:
    """Time that a process and its descendants have had on a processor until now."""

    def __init__(self, pid):
        processes = tree(pid)
        self._whole, self._error = sum(map(_ticked_seconds, processes)), 2 * _TICK * len(processes)
        self._threads = thread_seconds(pid)

    def since(self, before):
        """Seconds. To the nanosecond, unless threads that have ended meanwhile have used so much that the ticks tell."""
        exact = sum(total - before._threads.get(thread, 0) for thread, total in self._threads.items())
        whole = self._whole - before._whole
        return whole if whole > exact + self._error else exact


def memory_kib(pid):
    """Proportional set size, in KiB, of a process with its descendants."""
    total = 0
    for process in tree(pid):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


# Ports ------------------------------------------------------------------------------------------


def first_outgoing_port():
    """The first of those that the system gives to connections."""
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def listens(port):
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until_free(port, patience=3):
    """Waits until nobody listens there: who was stopped may still be on its way out."""
    deadline = time.monotonic() + patience
    while listens(port):
        if time.monotonic() > deadline:
            raise Trouble(f"somebody listens on port {port} already: choose others by --port-base")
        time.sleep(0.02)


def wait_for(process, what, log, *ports, patience=15):
    """Waits until `process`, and nobody else, accepts connections on these ports, for at most so many seconds. Gives
    the moment at which it first did: whose the sockets are takes a while to find among thousands."""
    deadline = time.monotonic() + patience
    while not all(map(listens, ports)):
        if process.poll() is not None or time.monotonic() > deadline:
            raise _not_started(what, log)
        time.sleep(0.02)
    since = time.monotonic()
    for port in ports:
        if not _listens_alone(process.pid, port):
            raise _not_started(what, log, f"somebody else listens on port {port}; ")
    return since


def _not_started(what, log, why=""):
    tail = Path(log).read_text(errors="replace").strip()[-1500:]
    return Trouble(f"{what} does not start; {why}it says:\n{tail}")


def _listens_alone(pid, port):
    """Whether all that listen on a port are sockets of a process or its descendants."""
    try:
        held = {file for process in tree(pid) for file in _files(process)}
    except PermissionError:
        # A program that has capabilities of its own does not show its files. That it runs has to do.
        return True
    return all(f"socket:[{inode}]" in held for inode in _listening(port))


def _files(pid):
    """What a process has open."""
    found = []
    # What is there may have been closed, or the process have ended, before it is looked at.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for file in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.append(os.readlink(f"/proc/{pid}/fd/{file}"))
    return found


def _listening(port):
    """Inodes of the sockets that listen on a port (proc(5), /proc/net/tcp)."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else []:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.append(fields[9])
    return found
