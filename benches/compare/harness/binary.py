"""The binaries of Tidegate that are measured."""

import os
import subprocess
import sys
import time
from pathlib import Path

from . import machine
from .machine import Trouble

REPOSITORY = Path(__file__).resolve().parents[3]


def find(path):
    """The binary at `path`, or else the usual one, built if it is not up to date."""
    if path is None:
        build_release()
        path = REPOSITORY / "target" / "release" / "tidegate"
    elif not os.access(path, os.X_OK) or path.is_dir():
        raise Trouble(f"{path} is no program")
    elif newer := newer_source(path):
        print(f"warning: {newer} is newer than {path}, so what is measured may not be these sources", file=sys.stderr)
    return path.resolve()


def build_release(cores=None):
    """Builds target/release/tidegate if it is not up to date, on these processors if any are named."""
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(REPOSITORY / "target")]
    if machine.find("cargo") is None:
        raise Trouble("cargo, which builds Tidegate, is not there: name a binary with --tidegate PATH")
    pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
    if subprocess.run(command, cwd=REPOSITORY, preexec_fn=pin).returncode:
        raise Trouble("cargo build --release failed; another binary can be named with --tidegate PATH")


def newer_source(program):
    """A source that was changed after a binary was built, if there is one."""
    sources = [REPOSITORY / "Cargo.toml", REPOSITORY / "Cargo.lock", *(path for path in (REPOSITORY / "src").rglob("*") if path.is_file())]
    newest = max(sources, key=lambda source: source.stat().st_mtime)
    return newest.relative_to(REPOSITORY) if newest.stat().st_mtime > program.stat().st_mtime else None


def describe(program):
    """Its path, and when it was built; versions do not tell one build from another."""
    return f"`{program}` of " + time.strftime("%d %B %Y, %H:%M", time.localtime(program.stat().st_mtime))
