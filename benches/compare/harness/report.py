"""Figures to tables: medians with their spread, ratios taken within a round, goals."""

from statistics import median

from . import machine

TITLES = {
    "h1": "HTTP/1.1 keep-alive, 1 KiB",
    "tls": "HTTP/1.1 keep-alive over TLS, 1 KiB",
    "h2": "HTTP/2 over TLS, 8 streams a connection, 1 KiB",
    "connect": "new TCP connection for each request, 1 KiB",
    "full": "full TLS 1.3 handshake for each request (P-256)",
    "resumed12": "resumed TLS 1.2 handshake for each request",
    "resumed13": "resumed TLS 1.3 handshake for each request",
    "large": "1 MiB responses",
    "large-tls": "1 MiB responses over TLS",
    "mem-h1": "idle HTTP/1.1",
    "mem-tls": "idle HTTP/1.1 over TLS",
    "mem-h2": "idle HTTP/2 over TLS",
    "mem-ws": "idle WebSocket",
    "mem-wss": "idle WebSocket over TLS",
    "held": "10,000 idle WebSockets and 10,000 idle keep-alive connections over TLS, at once",
    "p99": "HTTP/1.1 at 60 % of capacity",
    "workers": "two workers against one",
    "balance": "10 connections of 1 MiB responses over TLS, two workers",
    "pick": "a pick and a lookup, among 10,000 against 10",
    "reload": "reload of 10,000 backends under load",
    "scale": "10,000 backends in 1,000 pools with 10,000 routes",
}

# Row: (at most, of whom). None: of nothing, the figure itself. "best": of the best peer.
GOALS = {
    "h1": [(0.92, "nginx"), (1.32, "floor")],
    "tls": [(0.80, "nginx")],
    "h2": [(0.95, "haproxy")],
    "connect": [(1.00, "nginx")],
    "full": [(0.45, "nginx")],
    "resumed12": [(0.90, "nginx")],
    "resumed13": [(0.90, "nginx")],
    "large": [(0.70, "haproxy")],
    "large-tls": [(0.60, "best")],
    "mem-h1": [(3, None)], "mem-tls": [(12, None)], "mem-h2": [(20, None)],
    "mem-ws": [(4, None)], "mem-wss": [(14, None)],
    "p99": [(1.15, "best")],
}
SUBJECT = "tidegate"
# Of fewer samples in quiet moments no median is told.
CALM_SAMPLES = 3
LOAD_ROWS = {"h1", "tls", "h2", "connect", "full", "resumed12", "resumed13", "large", "large-tls"}


def spread(values, digits=2):
    """`median (least-most)`, or the value alone."""
    text = f"{median(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def ratios(figures, name, of):
    """Round by round, one proxy's figure over another's."""
    return [a / b for a, b in zip(figures[name], figures[of])]


def best_peer(figures):
    """The peer with the least median, if there is a peer."""
    peers = [name for name in figures if name != "floor" and not name.startswith(SUBJECT)]
    return min(peers, key=lambda name: median(figures[name]), default=None)


def table(head, rows):
    """A Markdown table."""
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    line = lambda row: "| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths)) + " |"
    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def builds(figures):
    """Those of the proxies that are Tidegate."""
    return [name for name in figures if name.startswith(SUBJECT)]


def which(name):
    """What tells a goal of another build from that of the first."""
    return "" if name == SUBJECT else f", {name}"


def goal_lines(row, figures, unit=""):
    """What the goals of a row say of each build: [(goal, measured, verdict)]."""
    return [line for name in builds(figures) for line in lines_of(row, figures, name, unit)]


def lines_of(row, figures, name, unit):
    """What they say of one of them."""
    lines = []
    for limit, of in GOALS.get(row, []):
        peer = best_peer(figures) if of == "best" else of
        if of is None:
            values, goal = figures[name], f"<= {limit} {unit}"
        elif peer in figures:
            values, goal = ratios(figures, name, peer), f"<= {limit:.2f} of {peer}"
        else:
            lines.append((f"<= {limit:.2f} of {peer or 'the best peer'}{which(name)}", "-", "not measured"))
            continue
        met = median(values) <= limit
        # Narrowly missed has to look missed.
        digits = 2 if met or round(median(values), 2) > limit else 3
        lines.append((goal + which(name), spread(values, digits), "met" if met else "missed"))
    return lines


def load_section(row, samples):
    """The table of a row of loads: {proxy: [Sample]}."""
    cpu = {name: [s.cpu_us for s in list_] for name, list_ in samples.items()}
    rows = []
    for name, list_ in samples.items():
        rows.append([
            name, spread(cpu[name], 1), spread(ratios(cpu, name, "nginx")) if "nginx" in cpu else "-",
            spread([s.rate for s in list_], 0), spread([s.p50_us for s in list_], 0), spread([s.p99_us for s in list_], 0)])
    text = table(["proxy", "CPU µs/request", "ratio to nginx", "requests/s", "p50 µs", "p99 µs"], rows)
    figures = {name: [s.p99_us for s in list_] for name, list_ in samples.items()} if row == "p99" else cpu
    return section(row, text, goal_lines(row, figures))


def memory_section(row, figures):
    """The table of a memory row: {proxy: [KiB per connection]}."""
    text = table(["proxy", "KiB per connection"], [[name, spread(values, 1)] for name, values in figures.items()])
    return section(row, text, goal_lines(row, figures, "KiB"))


def held_section(found):
    """The table of what is held at once: {proxy: Held}."""
    text = table(
        ["proxy", "processes", "MiB before", "held", "after they closed", "ms of processor time a second", "echo p50 ms", "p99 ms"],
        [[name, one.processes, *(f"{mib:.0f}" for mib in (one.before_mib, one.held_mib, one.after_mib)),
          f"{one.idle_ms_per_second:.1f}", f"{one.echo_p50_ms:.2f}", f"{one.echo_p99_ms:.2f}"] for name, one in found.items()])
    return section("held", text, [])[0]


def workers_section(found):
    """The table of two workers against one: {proxy: [(Sample with one worker, with two)]}."""
    of = lambda pairs, workers: [pair[workers - 1].cpu_us for pair in pairs]
    more = {name: [two.cpu_us / one.cpu_us for one, two in pairs] for name, pairs in found.items()}
    text = table(
        ["proxy", "CPU µs/request, one worker", "two workers", "ratio"],
        [[name, spread(of(pairs, 1), 1), spread(of(pairs, 2), 1), spread(more[name])] for name, pairs in found.items()])
    return section("workers", text, [
        (f"within 10 %{which(name)}", spread(more[name]), "met" if median(more[name]) <= 1.10 else "missed")
        for name in builds(found)])


def balance_section(found):
    """The table of the balance between two workers: {proxy: [(share of the less busy, Sample)]}."""
    text = table(
        ["proxy", "share of the less busy worker", "responses/s", "CPU µs/response"],
        [[name, spread([share for share, _ in rounds]), spread([s.rate for _, s in rounds], 0),
          spread([s.cpu_us for _, s in rounds], 0)] for name, rounds in found.items()])
    return section("balance", text, [])


def reload_section(found):
    """The table of reloads: {(build, processors that it has): [Reload]}, those of its worker alone first."""
    def cells(rounds):
        of = lambda figure, digits=0: spread([figure(one) for one in rounds], digits)
        return [of(lambda one: one.failed), of(lambda one: one.p99_before), of(lambda one: one.p99),
                of(lambda one: one.p99 / one.p99_before, 2), of(lambda one: one.slowest_before / 1e3, 1),
                of(lambda one: one.slowest / 1e3, 1), of(lambda one: one.seconds * 1e3), of(lambda one: one.cpu_seconds * 1e3)]
    text = table(
        ["build", "processors", "failed requests", "p99 before, µs", "p99 of the worst second", "ratio",
         "slowest before, ms", "slowest around it", "reload took, ms", "CPU in that time, load included, ms"],
        [[*of, *cells(rounds)] for of, rounds in found.items()])
    goals = []
    for name in dict.fromkeys(build for build, _ in found):
        alone, beside = (rounds for (build, _), rounds in found.items() if build == name)
        failed = sum(one.failed for one in [*alone, *beside])
        took, slowest = [one.seconds * 1e3 for one in alone], [one.slowest / 1e3 for one in beside]
        p99 = lambda rounds: [one.p99 / one.p99_before for one in rounds]
        goals += [
            (f"no failed request{which(name)}", str(failed), "missed" if failed else "met"),
            (f"takes <= 200 ms{which(name)}", spread(took, 0), "met" if median(took) <= 200 else "missed"),
            *((f"p99 <= 2 times before, {where}{which(name)}", spread(p99(rounds)),
               "met" if median(p99(rounds)) <= 2 else "missed")
              for where, rounds in (("one processor", alone), ("two processors", beside))),
            (f"nobody waits over 5 ms, two processors{which(name)}", spread(slowest, 1),
             "met" if median(slowest) <= 5 else "missed")]
    return section("reload", text, goals)


def scale_section(rounds):
    """The table of what very many backends cost: [Scale]."""
    ms = lambda figure: spread([figure(one) * 1e3 for one in rounds], 0) + " ms"
    mib = lambda figure: spread([figure(one) for one in rounds], 0) + " MiB"
    rows = [["`tidegate check`", ms(lambda one: one.check)], ["start, until it accepts", ms(lambda one: one.accepts)],
            ["start, until `/readyz`", ms(lambda one: one.ready)], ["reload", spread([took * 1e3 for one in rounds for took in one.reloads], 0) + " ms"],
            ["memory", mib(lambda one: one.memory_mib)], ["memory after two reloads", mib(lambda one: one.reloaded_mib)]]
    for what, scrape in (("scrape", lambda one: one.plain), ("scrape, gzip", lambda one: one.gzip),
                         ("scrape, all backends used", lambda one: one.plain_used),
                         ("scrape, all backends used, gzip", lambda one: one.gzip_used)):
        size = median(scrape(one).bytes for one in rounds) / 1e6
        series = median(scrape(one).series for one in rounds)
        growth = median(scrape(one).growth_mib for one in rounds)
        rows.append([what, f"{ms(lambda one: scrape(one).seconds)}, {size:.1f} MB, {series:,.0f} series, {growth:+.0f} MiB"])
    probes = median(one.probes for one in rounds)
    rows.append([f"{probes:,.0f} probes a second", f"{ms(lambda one: one.probing)} of processor time a second"])
    return section("scale", table(["", ""], rows), [])


def section(row, text, goals):
    """A row's part of the report, and its goals for the summary."""
    said = "".join(f"\nGoal {goal}: {measured}, {verdict}." for goal, measured, verdict in goals)
    return f"### {TITLES[row]}\n\n{text}\n{said}".rstrip() + "\n", [(row, *goal) for goal in goals]


def overview(figures):
    """All rows in two tables: {row: {proxy: [Sample or KiB]}}."""
    loads = {row: {name: [s.cpu_us for s in list_] for name, list_ in by_proxy.items()}
             for row, by_proxy in figures.items() if row in LOAD_ROWS}
    memory = {row: by_proxy for row, by_proxy in figures.items() if row.startswith("mem-")}
    text = ""
    for title, rows, ratio in (("CPU µs per request, and the ratio to nginx", loads, True),
                               ("KiB per idle connection", memory, False)):
        names = list(dict.fromkeys(name for by_proxy in rows.values() for name in by_proxy))

        def cell(by_proxy, name):
            if name not in by_proxy:
                return ""
            of_nginx = ratio and "nginx" in by_proxy and name != "nginx"
            return spread(by_proxy[name], 1) + (f"; {median(ratios(by_proxy, name, 'nginx')):.2f}" if of_nginx else "")

        if rows:
            text += f"### {title}\n\n" + table(["", *names], [
                [TITLES[row], *(cell(by_proxy, name) for name in names)] for row, by_proxy in rows.items()]) + "\n\n"
    return text


def summary(goals):
    """The goal table."""
    rows = [[TITLES[row], goal, measured, verdict] for row, goal, measured, verdict in goals]
    return "### Goals\n\n" + table(["load", "goal", "measured", ""], rows) + "\n"


def quiet(figures):
    """How quiet the machine was, and what the loads cost whenever it was: {row: {proxy: [Sample]}, and other rows}."""
    loads = {row: by_proxy for row, by_proxy in figures.items() if row in LOAD_ROWS}
    loop_ms = [sample.loop_ms for by_proxy in loads.values() for list_ in by_proxy.values() for sample in list_]
    if not loop_ms:
        return ""
    least = min(loop_ms)
    times = spread([one / least for one in loop_ms])
    text = (f"Before and after each load a fixed loop on both processors took {times} times its least, {least:.1f} ms. On a "
            "quiet machine that is close to 1 throughout; elsewhere figures lie as far apart.\n")
    calm = {row: {name: calm_us(list_, machine.CALM * least) for name, list_ in by_proxy.items()} for row, by_proxy in loads.items()}
    if not any(values for by_proxy in calm.values() for values in by_proxy.values()):
        return text
    names = list(dict.fromkeys(name for by_proxy in calm.values() for name in by_proxy))
    cell = lambda values: f"{median(values):.1f} ({len(values)})" if values else "-"
    rows = [[TITLES[row], *(cell(by_proxy.get(name)) for name in names), *(calm_goals(row, by_proxy, build) for build in builds(names))]
            for row, by_proxy in calm.items()]
    return (f"{text}\n### CPU µs per request where the loop took no more than {machine.CALM} times its least\n\nMedians, how many "
            "they are of, and ratios of such medians.\n\n"
            + table(["", *names, *(f"{build}, goals" for build in builds(names))], rows) + "\n")


def calm_us(samples, most_ms):
    """Processor time of those samples around which the loop took no more; nothing, if they are too few for a median."""
    found = [sample.cpu_us for sample in samples if sample.loop_ms <= most_ms]
    return found if len(found) >= CALM_SAMPLES else []


def calm_goals(row, by_proxy, build):
    """The ratios that the goals of a row are about."""
    ratio = lambda of: f"{median(by_proxy[build]) / median(by_proxy[of]):.2f} of {of}"
    # The best of all peers only if all are there to be compared.
    peers = {name: values for name, values in by_proxy.items() if name not in builds(by_proxy)}
    wanted = [(best_peer(by_proxy) if all(peers.values()) else None) if of == "best" else of for _, of in GOALS[row]]
    return ", ".join(ratio(of) for of in wanted if by_proxy.get(build) and by_proxy.get(of)) or "-"
