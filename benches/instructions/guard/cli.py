"""Arguments, the counting, and the verdict."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from harness import echo, machine
from harness.exchanges import Wrong
from harness.machine import Trouble
from harness.stage import Stage, check_port_base

from .callgrind import Dump
from .loads import LOADS

HERE = Path(__file__).resolve().parent.parent
REPOSITORY = HERE.parents[1]
RECORDED = HERE / "recorded.json"
PROFILE = "guard"
# Above the spread of several runs, below what is worth a look.
MARGIN = 0.02
# Another compiler may well need so many more for the same code, or less.
MARGIN_OF_OTHERS = 0.10
# Allocations hardly differ between runs, and compilers do not add any.
MORE_ALLOCATIONS = 0.5
# Counted in batches, of which the least counts: what happens beside the requests only ever adds to one.
WARM_UP, BATCHES, REQUESTS = 600, 10, 200
# A handshake takes as much as thirty requests, so there are fewer.
REQUESTS_OF = {"full": 20, "resumed": 20}
# Of which the least counts, where one run says too much, and to record.
RUNS = 3
ALLOCATIONS_GOAL = {"h1": 6}

CONFIG = """
[server]
workers = 1
[admin]
bind = "127.0.0.1:{admin}"
[log]
level = "error"
[listeners.http]
bind = "127.0.0.1:{http}"
[listeners.https]
bind = "127.0.0.1:{https}"
tls = {{ certificates = [{{ cert = "cert.pem", key = "key.pem" }}] }}
[[routes]]
pool = "app"
[[routes]]
path = "/ws"
pool = "echo"
[pools.echo]
backends = ["127.0.0.1:{echo}"]
[pools.app]
backends = ["127.0.0.1:{backend}"]
# Once, at the start: a probe in the middle of a load would be counted with it.
[pools.app.health]
type = "tcp"
interval = "1h"
"""


def arguments():
    parser = argparse.ArgumentParser(
        prog="benches/instructions/run",
        description="Counts instructions and allocations per request under callgrind and compares them with "
                    "benches/instructions/recorded.json. Repeatable, unlike times.",
        epilog=f"Exit code: 0, 1 if a load takes over {MARGIN:.0%} more instructions than recorded ({MARGIN_OF_OTHERS:.0%} with another "
               f"compiler), or over {MORE_ALLOCATIONS} allocations more, or was not recorded, 2 if nothing could be counted.")
    parser.add_argument("--binary", type=Path, metavar="PATH", help=f"count this one, instead of building with `--profile {PROFILE}`")
    parser.add_argument("--loads", default=",".join(LOADS), help=f"some of {','.join(LOADS)} (default: all)")
    parser.add_argument("--runs", type=int, default=1, help="count so often, and show the spread (default: 1)")
    parser.add_argument("--record", action="store_true", help="write the figures to recorded.json, as what is right from now on")
    parser.add_argument("--top", type=int, default=0, metavar="N", help="name the N functions that take most, and that allocate most")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep callgrind's files there, for KCachegrind")
    parser.add_argument("--port-base", type=int, default=22300, help="first of the ports to use (default: 22300)")
    args = parser.parse_args()
    args.loads = [load for load in args.loads.split(",") if load]
    if unknown := [load for load in args.loads if load not in LOADS]:
        parser.error(f"no such load: {', '.join(unknown)}")
    if args.runs < 1:
        parser.error("--runs is 1 at least")
    check_port_base(parser, args.port_base)
    return args


def build():
    """The profile is release without link-time optimization, which would take CI many minutes."""
    command = ["cargo", "build", "--locked", "--profile", PROFILE, "--bin", "tidegate"]
    if machine.find("cargo") is None:
        raise Trouble("cargo, which builds Tidegate, is not there: name a binary with --binary PATH")
    if subprocess.run(command, cwd=REPOSITORY).returncode:
        raise Trouble(f"`{' '.join(command)}` failed")
    return REPOSITORY / "target" / PROFILE / "tidegate"


def slow_clock(stage):
    """A library that lets time pass as slowly as everything else under callgrind."""
    library = stage.dir / "slow_clock.so"
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(Path(__file__).with_name("slow_clock.c"))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Trouble(f"`{' '.join(command)}` failed:\n{done.stderr}")
    return library


class Subject:
    """A tidegate under callgrind."""

    def __init__(self, binary, stage, backend, echo):
        self.stage = stage
        self.http, self.https, admin = stage.port(), stage.port(), stage.port()
        config = stage.dir / "guard.toml"
        config.write_text(CONFIG.format(http=self.http, https=self.https, admin=admin, backend=backend, echo=echo))
        self.log = stage.dir / "guard.log"
        self.out = stage.dir / "callgrind.out"
        command = [
            # The same routines of the C library everywhere; callgrind's own processor has no AVX-512.
            "env", "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-ERMS,-FSRM", f"LD_PRELOAD={slow_clock(stage)}",
            machine.find("valgrind"), "--tool=callgrind", f"--callgrind-out-file={self.out}",
            "--vgdb-poll=500", f"--vgdb-prefix={stage.dir}/vgdb", binary, "run", "-c", config,
        ]
        self.process = machine.spawn(command, os.sched_getaffinity(0), self.log)
        machine.wait_for(self.process, "tidegate under valgrind", self.log, self.http, self.https, patience=120)
        self._dumps = 0

    def tell(self, *words):
        """A command to callgrind."""
        done = subprocess.run([machine.find("vgdb"), f"--vgdb-prefix={self.stage.dir}/vgdb", f"--pid={self.process.pid}", *words],
                              capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise Trouble(f"vgdb {' '.join(words)} failed:\n{done.stderr[-500:]}")

    def count(self, load, requests):
        """What so many requests of a load take."""
        self.tell("zero")
        load.run(requests)
        self.tell("dump")
        self._dumps += 1
        return Path(f"{self.out}.{self._dumps}")


def count_all(args, binary, stage, backends):
    """{load: (instructions, allocations, lines on who), per request}, by one process."""
    subject = Subject(binary, stage, *backends)
    figures = {}
    try:
        for name in args.loads:
            load, requests = LOADS[name][1](subject), REQUESTS_OF.get(name, REQUESTS)
            load.run(WARM_UP * requests // REQUESTS)
            files = [subject.count(load, requests) for _ in range(BATCHES)]
            dumps = {file: Dump(file.read_text()) for file in files}
            file, dump = min(dumps.items(), key=lambda one: one[1].instructions)
            if args.keep:
                (args.keep / f"callgrind.out.{name}").write_bytes(file.read_bytes())
            who = [f"{count / requests:9.1f}  {function}" for function, count in dump.own.most_common(args.top)]
            who += [f"{count / requests:9.2f}  allocations in {function}" for function, count in dump.allocations.most_common(args.top)]
            figures[name] = (dump.instructions / requests, sum(dump.allocations.values()) / requests, who)
    finally:
        machine.stop(subject.process)
    return figures


def judge(name, instructions, allocations, recorded, margin, is_own=True):
    """(text, whether it is too much); `is_own` unless it is another binary's, which is not to be recorded."""
    before = recorded.get("loads", {}).get(name)
    if before is None:
        return "NOT RECORDED", True
    change = instructions / before["instructions"] - 1
    text = f"{change:+.1%} of {before['instructions']}"
    if allocations > before["allocations"] + MORE_ALLOCATIONS:
        return f"{text}, allocations were {before['allocations']}: TOO MANY", True
    if change > margin:
        return f"{text}: TOO MUCH", True
    if change < -margin:
        return f"{text}: less" + ("; record it anew, so that it stays so" if is_own else ""), False
    return text, False


def read_recorded():
    """What was recorded; nothing, if there is no such file."""
    try:
        recorded = json.loads(RECORDED.read_text())
        for load in recorded.get("loads", {}).values():
            if not (load["instructions"] > 0 and load["allocations"] >= 0):
                raise ValueError("a figure is none")
    except FileNotFoundError:
        return {}
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise Trouble(f"{RECORDED} is not what `--record` writes ({error!r}): take it from the repository, or delete it "
                      "and use `--record`")
    return recorded


def tools():
    """What the figures depend on besides the code."""
    return {"rustc": machine.output_of("rustc", "--version"), "valgrind": machine.output_of("valgrind", "--version")}


def run(args):
    for program, package in (("valgrind", "valgrind"), ("vgdb", "valgrind"), ("openssl", "openssl"), ("cc", "gcc libc6-dev")):
        if machine.find(program) is None:
            raise Trouble(f"{program} is not there: apt-get install {package}")
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    binary = args.binary.resolve() if args.binary else build()
    stage = Stage(args.port_base)
    backends, log = [], stage.dir / "backends.log"
    for program in (Path(__file__).with_name("backend.py"), Path(echo.__file__)):
        port = stage.port()
        process = machine.spawn([sys.executable, program, port], os.sched_getaffinity(0), log)
        machine.wait_for(process, f"the backend ({program.name})", log, port)
        backends.append(port)

    recorded = read_recorded()
    margin = MARGIN
    others = [f"{recorded.get(name)}, and this is {tool}" for name, tool in tools().items() if recorded.get(name) != tool]
    if recorded and not args.record and others:
        margin = MARGIN_OF_OTHERS
        print(f"Recorded with {'; with '.join(others)}: judged with a margin of {margin:.0%} in place of {MARGIN:.0%}. "
              "Once CI has these: `benches/instructions/run --record`.", file=sys.stderr)
    runs = []

    def count():
        runs.append(count_all(args, binary, stage, backends))
        if args.runs > 1:
            print(f"run {len(runs)}: " + ", ".join(f"{name} {figure[0]:.0f}" for name, figure in runs[-1].items()), flush=True)

    def least(name):
        # What disturbs a run only ever adds to it.
        return tuple(min(figures[name][which] for figures in runs) for which in (0, 1))

    while len(runs) < (max(args.runs, RUNS) if args.record else args.runs):
        count()
    # Nobody is told off for a run that was disturbed.
    while len(runs) < RUNS and any(name in recorded.get("loads", {}) and judge(name, *least(name), recorded, margin)[1] for name in args.loads):
        count()

    figures, too_much = {}, False
    for name in args.loads:
        counts = [figures_of_run[name][0] for figures_of_run in runs]
        instructions, allocations = least(name)
        figures[name] = {"instructions": round(instructions), "allocations": round(allocations, 2)}
        spread = f", spread {(max(counts) - min(counts)) / min(counts):.2%}" if len(counts) > 1 else ""
        goal = f" (goal: {ALLOCATIONS_GOAL[name]})" if name in ALLOCATIONS_GOAL else ""
        verdict, over = judge(name, instructions, allocations, recorded, margin, args.binary is None)
        too_much |= over and not args.record
        print(f"{LOADS[name][0]:45} {instructions:9.0f} instructions{spread}, {allocations:5.2f} allocations{goal}   {verdict}")
        for line in runs[-1][name][2]:
            print(line)
    if args.record:
        loads = recorded.get("loads", {}) | figures
        RECORDED.write_text(json.dumps({"about": "per request; written by `benches/instructions/run --record`", **tools(), "loads": loads}, indent=2) + "\n")
        print(f"recorded in {RECORDED.relative_to(REPOSITORY)}")
    elif too_much:
        print("A request takes more than it did, or nobody knows what it did. If it has to: `benches/instructions/run --record`, "
              "and say why in the commit.", file=sys.stderr)
        for tool, version in tools().items():
            if recorded.get(tool) != version:
                print(f"(Recorded with {recorded.get(tool)}; this is {version}.)", file=sys.stderr)
    return 1 if too_much else 0


def main():
    machine.end_by_signals()
    args = arguments()
    try:
        return run(args)
    except KeyboardInterrupt:
        return 130
    except (Trouble, Wrong, OSError) as trouble:
        print(f"error: {trouble}", file=sys.stderr)
        return 2
