"""What a pick and a lookup cost, among few and among very many: the benches `pick` and `route`."""

import os
import re
import subprocess

from . import binary
from .machine import Trouble

FEW, MANY = 10, 10_000
_BENCH = ["cargo", "bench", "--locked", "--bench", "pick", "--bench", "route"]
_LINE = re.compile(r"^test (\S.*?)\s+\.\.\. bench:\s+([\d,]+) ns/iter", re.MULTILINE)
_COUNT = re.compile(r"\b\d+\b")


def measure(seconds, core, all_cores):
    """{what: (ns among 10, ns among 10,000)} by criterion, on one processor."""
    _run([*_BENCH, "--no-run"], all_cores)
    said = _run([*_BENCH, "--", "--output-format", "bencher", "--warm-up-time", "1", "--measurement-time", str(seconds),
                 "^(pick|route)/"], {core})
    found = {}
    for name, nanoseconds in _LINE.findall(said):
        what = _COUNT.sub("", name).strip("/ ")
        found.setdefault(what, {})[int(_COUNT.search(name).group())] = int(nanoseconds.replace(",", ""))
    if not found:
        raise Trouble(f"cargo bench measured nothing; it says:\n{said[-1500:]}")
    # Cargo has left a tidegate that holds what tests need. The usual one is still there, to be put back.
    binary.build_release(all_cores)
    return {what: (by_count[FEW], by_count[MANY]) for what, by_count in found.items()}


def _run(command, cores):
    done = subprocess.run(command, cwd=binary.REPOSITORY, capture_output=True, text=True,
                          preexec_fn=lambda: os.sched_setaffinity(0, cores))
    if done.returncode:
        raise Trouble(f"{' '.join(command)} fails:\n{done.stderr[-1500:]}")
    return done.stdout
