"""Arguments, and the order in which everything is measured."""

import argparse
import dataclasses
import json
import os
import re
import sys
import traceback
from pathlib import Path
from statistics import median

from . import binary, held, idle, machine, reload, report, scale, single
from .exchanges import Wrong
from .loads import LOADS, Balance, Rate
from .machine import Trouble
from .proxies import PEERS, Proxy, find_peers
from .stage import PORTS, Scene, check_port_base

# Connections are open and idle meanwhile, which some close after a minute.
MOST_PATIENCE = 30
GROUPS = {
    "loads": list(LOADS), "memory": list(idle.KINDS), "handshakes": ["full", "resumed12", "resumed13"],
    "all": [*LOADS, *idle.KINDS, "held", "p99", "workers", "balance", "pick", "reload", "scale"],
}


def arguments():
    parser = argparse.ArgumentParser(
        prog="benches/compare/run",
        description="Compares Tidegate with the proxies that are installed: processor time per request, latency, "
                    "memory. Prints Markdown to stdout and progress to stderr. benches/README.md tells the method.",
        epilog=f"Rows: {', '.join(GROUPS['all'])}. Groups of rows: {', '.join(GROUPS)}. "
               "Exit code: 0, 1 if a row was refused because an answer was wrong or something failed, 2 if nothing could be "
               "measured.")
    parser.add_argument("--tidegate", type=Path, metavar="PATH",
                        help="the binary (default: target/release/tidegate, which is built if it is not up to date)")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=PATH",
                        help="one more binary of Tidegate, with figures and goals of its own in all rows but pick and scale")
    parser.add_argument("--rows", default="all", help="which rows or groups, separated by commas (default: all)")
    parser.add_argument("--peers", default="", help="which peers, separated by commas (default: all that are installed)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every row (default: 5)")
    parser.add_argument("--seconds", type=int, default=3, help="of one measurement (default: 3)")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 second: a glance, not a result")
    parser.add_argument("--cores", default="", metavar="PROXY,LOAD",
                        help="processors for the proxy, and for load and backends (default: the first two)")
    parser.add_argument("--one-cipher", action="store_true",
                        help="nginx and HAProxy with the cipher that Tidegate chooses, in place of their own")
    parser.add_argument("--patience", type=float, default=0, metavar="SECONDS",
                        help="wait up to so long, before each load, for a moment in which nobody else has a part of the "
                             "processors (default: 0)")
    parser.add_argument("--port-base", type=int, default=22000, help=f"first of {PORTS} ports (default: 22000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single figure there")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds = 2, 1
    rows = [row for part in args.rows.split(",") if part for row in GROUPS.get(part, [part])]
    if unknown := [row for row in rows if row not in GROUPS["all"]]:
        parser.error(f"no such row: {', '.join(unknown)}")
    if not rows:
        parser.error("--rows names none")
    args.rows = list(dict.fromkeys(rows))
    args.peers = [peer for peer in args.peers.split(",") if peer]
    if unknown := [peer for peer in args.peers if peer not in PEERS]:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    args.also = [also.partition("=") for also in args.also]
    if any(not (name and path) for name, _, path in args.also):
        parser.error("--also takes NAME=PATH")
    if unfit := [name for name, _, _ in args.also if not re.fullmatch(r"[\w.-]+", name)]:
        parser.error(f"--also: a name has letters, digits, _, . and - only: {', '.join(unfit)}")
    if len({name for name, _, _ in args.also}) < len(args.also):
        parser.error("--also: each needs a name of its own")
    if args.rounds < 1 or args.seconds < 1:
        parser.error("--rounds and --seconds are 1 at least")
    if not 0 <= args.patience <= MOST_PATIENCE:
        parser.error(f"--patience is 0 to {MOST_PATIENCE}")
    check_port_base(parser, args.port_base)
    if args.json:
        # Now, and not when all is measured.
        try:
            args.json.open("a").close()
        except OSError as error:
            parser.error(f"--json {args.json}: {error.strerror}")
    return args


def choose_cores(wanted):
    allowed = sorted(os.sched_getaffinity(0))
    if wanted:
        try:
            proxy, load = (int(part) for part in wanted.split(","))
        except ValueError:
            raise Trouble("--cores takes two numbers, such as 0,1")
        if proxy == load:
            raise Trouble("--cores takes two different processors: one for the proxy, one for load and backends")
        if not {proxy, load} <= set(allowed):
            raise Trouble(f"--cores {wanted}: this process may use {allowed}")
        return proxy, load
    if len(allowed) < 2:
        raise Trouble("two processors are needed: one for the proxy, one for load and backends")
    return allowed[0], allowed[1]


class Comparison:
    """One run."""

    def __init__(self, args):
        self.args = args
        cores = choose_cores(args.cores)
        binaries = {report.SUBJECT: binary.find(args.tidegate)}
        binaries |= {f"{report.SUBJECT} {name}": binary.find(Path(path)) for name, _, path in args.also}
        self.descriptions = {name: binary.describe(path) for name, path in binaries.items()}
        self.stage = Scene(args.port_base, *cores, args.one_cipher, args.patience)
        # Copies, so that what is measured stays the same, whatever is built meanwhile.
        self.builds = [Proxy(name, self.stage, self.stage.keep(path, name), report.SUBJECT)
                       for name, path in binaries.items()]
        self.proxies = self.builds + find_peers(self.stage, args.peers)
        self.goals, self.refused, self.figures = [], [], {}
        self.capacity = {}

    @property
    def both_cores(self):
        return {self.stage.proxy_core, self.stage.load_core}

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def head(self):
        versions = ", ".join(proxy.version() for proxy in self.proxies)
        for name, description in self.descriptions.items():
            versions += f"; {name}: {description}"
        if self.args.one_cipher:
            versions += "; all with the cipher that Tidegate chooses"
        return (f"Measured on {machine.describe()}; {versions}; {self.args.rounds} rounds of {self.args.seconds} s, "
                f"proxy on processor {self.stage.proxy_core}, load and backends on {self.stage.load_core}. "
                "In cells: median (least-most) of the rounds.\n")

    def run(self):
        print(self.head(), flush=True)
        try:
            for row in self.args.rows:
                self.say(f"== {report.TITLES[row]}")
                text, goals = self.row_or_refusal(row)
                if text:
                    print(text, flush=True)
                self.goals += goals
        finally:
            # Whatever ends the run, what was measured until then is told: to the file first, since whoever reads the
            # tables may be gone.
            if self.args.json:
                self.write_json()
            print(report.overview(self.figures), end="")
            if self.goals:
                print(report.summary(self.goals), flush=True)
            print(report.quiet(self.figures), end="", flush=True)
        if self.refused:
            return 1
        return 0 if self.figures else 2

    def row_or_refusal(self, row):
        """The text and the goals of a row; if it fails, why, and the other rows go on."""
        try:
            return self.row(row)
        except Wrong as wrong:
            why = f"Refused, because an answer was wrong: {wrong}"
        except (Trouble, OSError) as trouble:
            why = f"Not measured: {trouble}"
        except Exception as mistake:
            # Ours, or an answer that nobody thought of.
            traceback.print_exc()
            why = f"Not measured: {type(mistake).__name__}: {mistake}"
        self.refused.append(row)
        self.say(why)
        return f"### {report.TITLES[row]}\n\n{why}\n", [(row, "-", "-", "**refused**")]

    def row(self, row):
        if row in idle.KINDS:
            return self.memory_row(row)
        if row == "held":
            return self.held_row()
        if row == "pick":
            return self.pick_row()
        if row == "reload":
            return self.reload_row()
        if row == "scale":
            return self.scale_row()
        if row == "p99":
            return self.rate_row()
        if row == "workers":
            return self.workers_row()
        if row == "balance":
            return self.balance_row()
        return self.load_row(row)

    def rounds(self, proxies, measure, rounds, show):
        """Measures every proxy once a round, each round in another order. {proxy: [figure]}"""
        figures = {proxy.name: [] for proxy in proxies}
        for number in range(rounds):
            self.round(number, proxies, measure, rounds, show, figures)
        return figures

    def rounds_anew(self, proxies, measure, rounds, show):
        """The same while all of them run, started anew for each round: where a process comes to lie in memory makes
        a percent or two, for as long as it runs."""
        figures = {proxy.name: [] for proxy in proxies}
        for number in range(rounds):
            self.with_running(proxies, lambda: self.round(number, proxies, measure, rounds, show, figures))
        return figures

    def round(self, number, proxies, measure, rounds, show, figures):
        turn = number % len(proxies)
        for proxy in proxies[turn:] + proxies[:turn]:
            figure = measure(proxy)
            figures[proxy.name].append(figure)
            self.say(f"   {number + 1}/{rounds} {proxy.name:9} {show(figure)}")

    def with_running(self, proxies, work):
        """Calls `work` while all of them run."""
        try:
            for proxy in proxies:
                proxy.start()
            return work()
        finally:
            for proxy in proxies:
                proxy.stop()

    def load_row(self, row):
        load = LOADS[row]
        if not load.needs(self.stage):
            return "", []
        proxies = list(self.proxies)
        if row == "h1" and (relay := self.stage.compile("relay")):
            proxies.append(Proxy("floor", self.stage, relay))
        samples = self.rounds_anew(
            proxies, lambda proxy: load.measure(proxy, self.args.seconds), self.args.rounds, self.show_sample)
        self.keep(row, samples)
        return report.load_section(row, samples)

    def memory_row(self, row):
        figures = self.rounds(self.proxies, lambda proxy: idle.measure(proxy, row),
                              self.args.rounds, lambda kib: f"{kib:6.1f} KiB")
        self.figures[row] = figures
        return report.memory_section(row, figures)

    def held_row(self):
        found = {}
        for proxy in self.proxies:
            found[proxy.name] = one = held.measure(proxy)
            self.say(f"   {proxy.name:9} {one.held_mib:.0f} MiB, echo p99 {one.echo_p99_ms:.2f} ms")
        self.figures["held"] = found
        return report.held_section(found), []

    def rate_row(self):
        load = Rate()
        if not self.can_rate():
            return "", []
        measure_of = "nginx" if any(proxy.name == "nginx" for proxy in self.proxies) else report.SUBJECT
        rate = 0.6 * self.capacity_of(measure_of)
        # Whatever else happens on the machine makes the 99th percentile of a short round.
        rounds, seconds = (max(self.args.rounds, 7), max(self.args.seconds, 10)) if not self.args.quick else (2, 2)
        samples = self.with_running(self.proxies, lambda: self.rounds(
            self.proxies, lambda proxy: load.measure(proxy, seconds, rate), rounds, self.show_sample))
        self.keep("p99", samples)
        text, goals = report.load_section("p99", samples)
        late = report.spread([sample.late_us for list_ in samples.values() for sample in list_], 0)
        of = f"{rate:.0f} requests a second for each, 60 % of what {measure_of} can, {rounds} rounds of {seconds} s. " \
             f"99 % of them were sent no later than {late} µs after they were due and a connection was free."
        return text.replace("\n\n", f"\n\n{of}\n\n", 1), goals

    def on_both_processors(self, measure):
        """Measures those who can be told how many workers to have, in rounds. Both processors belong to everybody
        here, so that two workers can run at all. {proxy: [what `measure` gave]}"""
        proxies = [proxy for proxy in self.proxies if proxy.kind in ("tidegate", "nginx", "haproxy")]
        found = {proxy.name: [] for proxy in proxies}
        os.sched_setaffinity(0, self.both_cores)
        try:
            for number in range(self.args.rounds):
                for proxy in proxies:
                    found[proxy.name].append(measure(proxy))
                self.say(f"   {number + 1}/{self.args.rounds}")
        finally:
            os.sched_setaffinity(0, {self.stage.load_core})
        return found

    def with_workers(self, proxy, workers, measure):
        """Calls `measure` while a proxy runs with so many workers."""
        try:
            proxy.start(workers=workers, cores=self.both_cores)
            return measure(proxy)
        finally:
            proxy.stop()

    def workers_row(self):
        load = LOADS["h1"]
        if not load.needs(self.stage):
            return "", []
        measure = lambda proxy: load.measure(proxy, self.args.seconds)
        found = self.on_both_processors(lambda proxy: [self.with_workers(proxy, count, measure) for count in (1, 2)])
        self.figures["workers"] = found
        return report.workers_section(found)

    def balance_row(self):
        load = Balance()
        if not load.needs(self.stage):
            return "", []
        measure = lambda proxy: load.measure(proxy, self.args.seconds)
        found = self.on_both_processors(lambda proxy: self.with_workers(proxy, 2, measure))
        self.figures["balance"] = found
        return report.balance_section(found)

    def pick_row(self):
        if machine.find("cargo") is None:
            self.stage.note_missing("cargo, which measures a pick and a lookup")
            return "", []
        found = single.measure(self.args.seconds, self.stage.proxy_core, self.both_cores)
        self.figures["pick"] = found
        rows = [[what, few, many, f"{many / few:.2f}"] for what, (few, many) in found.items()]
        text = report.table(["", f"ns among {single.FEW}", f"ns among {single.MANY:,}", "ratio"], rows)
        worst = max(many / few for few, many in found.values())
        return report.section("pick", text, [
            ("each <= 3 times", f"{worst:.2f} at worst", "met" if worst <= 3 else "missed")])

    def reload_row(self):
        if not self.can_rate():
            return "", []
        rate = 0.3 * self.capacity_of("tidegate")
        places = {"that of the worker": None, "another one too": self.both_cores}
        found = {(build.name, place): [] for build in self.builds for place in places}
        for _ in range(self.args.rounds):
            for build in self.builds:
                for place, cores in places.items():
                    one = reload.measure(build, rate, cores)
                    found[build.name, place].append(one)
                    self.say(f"   {build.name:9} {place}: {one.seconds * 1e3:.0f} ms, p99 {one.p99_before:.0f} to {one.p99:.0f} µs")
        self.figures["reload"] = {f"{build}, processors: {place}": rounds for (build, place), rounds in found.items()}
        text, goals = report.reload_section(found)
        return text.replace("\n\n", f"\n\nAt {rate:.0f} requests a second.\n\n", 1), goals

    def scale_row(self):
        rounds = [scale.measure(self.builds[0]) for _ in range(self.args.rounds)]
        self.figures["scale"] = rounds
        return report.scale_section(rounds)

    def can_rate(self):
        """Whether there is what makes a fixed rate, and what finds the capacity that it is a part of."""
        return Rate.needs(self.stage) and LOADS["h1"].needs(self.stage)

    def capacity_of(self, name):
        """Requests a second under the first load; measured now if that row was not asked for."""
        if name not in self.capacity:
            proxy = next(proxy for proxy in self.proxies if proxy.name == name)
            sample = self.with_running([proxy], lambda: LOADS["h1"].measure(proxy, self.args.seconds))
            self.capacity[name] = sample.rate
        return self.capacity[name]

    def keep(self, row, samples):
        self.figures[row] = samples
        if row == "h1":
            self.capacity = {name: median(s.rate for s in list_) for name, list_ in samples.items()}

    @staticmethod
    def show_sample(sample):
        late = f", sent {sample.late_us:.0f} µs late" if sample.late_us else ""
        return f"{sample.cpu_us:8.1f} µs/request {sample.rate:8.0f}/s p99 {sample.p99_us:.0f} µs{late}"

    def write_json(self):
        self.args.json.write_text(json.dumps({
            "machine": machine.describe(), "versions": [proxy.version() for proxy in self.proxies],
            "builds": self.descriptions,
            "rounds": self.args.rounds, "seconds": self.args.seconds, "missing": self.stage.missing,
            "refused": self.refused, "rows": self.figures,
            "goals": [dict(zip(("row", "goal", "measured", "verdict"), goal)) for goal in self.goals],
        }, indent=1, default=dataclasses.asdict) + "\n")


def main():
    # So that whatever runs is stopped on the way out.
    machine.end_by_signals()
    args = arguments()
    try:
        return Comparison(args).run()
    except Trouble as trouble:
        print(f"error: {trouble}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads the tables.
        _write_nothing_more()
        return 1
    except OSError as error:
        _write_nothing_more()
        print(f"error: {error}", file=sys.stderr)
        return 2


def _write_nothing_more():
    """Else Python would try, on the way out, to write what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
