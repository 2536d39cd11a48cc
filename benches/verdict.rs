//! How fast the verdict finds a bad version, and how often it blames a good one: watches of ten
//! minutes, simulated with the real code. `cargo bench --bench verdict -- --watches 10000`

use std::thread;

use tidegate::deploy;

#[path = "../src/deploy/tests/simulation.rs"]
mod simulation;

use simulation::{EQUAL, Ended, Scenario, Trouble, Whom, fault, watch};

const RATES: [f64; 3] = [1.0, 50.0, 500.0];
const SEED: u64 = 0x7469_6465;

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--watches").skip(1);
    let watches = match arguments.next().map(|number| number.parse::<u64>()) {
        None => 1_000,
        Some(Ok(watches)) if watches > 0 => watches,
        Some(_) => {
            eprintln!("--watches takes a number, 1 or more");
            std::process::exit(64);
        }
    };
    println!("seed {SEED:#x}, ten minutes, three backends, 99.9 % confidence\n");
    false_alarms(watches);
    let few = watches.div_ceil(10);
    times_to_find(few);
    one_backend(few);
    shared_troubles(few);
    thin_history(few);
}

fn false_alarms(watches: u64) {
    println!("Rolled back of {watches} watches of a version that is not to blame:");
    println!("{:<44} {:>8} {:>8} {:>8}", "", "1/s", "50/s", "500/s");
    let at_p0 = Scenario { failing: 0.0099, clean_history: Some(30_000), ..EQUAL };
    let kinds = [
        ("equal, 0.1 % failures", EQUAL),
        ("equal, with 5 % control", Scenario { control: 0.05, ..EQUAL }),
        ("errors exactly at p0", Scenario { failing: 0.01, ..at_p0 }),
        ("latency exactly at p0", Scenario { slow: Some(0.05), ..EQUAL }),
        ("both exactly at p0", Scenario { failing: 0.01, slow: Some(0.05), ..at_p0 }),
    ];
    for (name, scenario) in kinds {
        print!("{name:<44}");
        for rate in RATES {
            let ended = all(&Scenario { rate, ..scenario }, watches);
            print!(" {:>8}", ended.iter().filter(|ended| ended.rolled_back.is_some()).count());
        }
        println!();
    }
    println!();
}

fn times_to_find(watches: u64) {
    println!("Seconds from the fault to the verdict, median / 95th percentile of {watches}:");
    for (when, from) in [("at the switch", 0), ("5 s later", 20), ("at minute five", 1200)] {
        println!("{:<44} {:>13} {:>13} {:>13}", format!("fault {when}"), "1/s", "50/s", "500/s");
        for share in [1.0, 0.2, 0.05, 0.02] {
            let trouble = fault(Whom::Version, from, share);
            row(&format!("  {} % fail", 100.0 * share), trouble, watches);
        }
        let slower = Trouble {
            whom: Whom::Version,
            from: Some(from),
            lasts: u32::MAX,
            failing: 0.001,
            slower: 5.0,
        };
        row("  five times slower", Some(slower), watches);
    }
    println!();
}

fn row(name: &str, trouble: Option<Trouble>, watches: u64) {
    print!("{name:<44}");
    for rate in RATES {
        let ended = all(&Scenario { rate, trouble, clean_history: Some(30_000), ..EQUAL }, watches);
        print!(" {:>13}", spread(ended.iter().map(|ended| ended.rolled_back)));
    }
    println!();
}

fn one_backend(watches: u64) {
    println!("One backend of three fails from minute one, {watches} watches:");
    println!(
        "{:<12} {:>6} {:>12} {:>16} {:>11}",
        "", "rate", "rolled back", "named after s", "slandered"
    );
    for share in [1.0, 0.2] {
        for rate in RATES {
            let scenario = Scenario { rate, trouble: fault(Whom::Backend, 240, share), ..EQUAL };
            let ended = all(&scenario, watches);
            println!(
                "{:<12} {rate:>6} {:>12} {:>16} {:>11}",
                format!("{} % fail", 100.0 * share),
                ended.iter().filter(|ended| ended.rolled_back.is_some()).count(),
                spread(ended.iter().map(|ended| ended.named)),
                ended.iter().map(|ended| ended.slandered).sum::<u32>(),
            );
        }
    }
    println!();
}

fn shared_troubles(watches: u64) {
    println!("Rolled back of {watches} watches with a trouble that both versions share:");
    println!("{:<44} {:>8} {:>8} {:>8}", "", "1/s", "50/s", "500/s");
    for (seconds, failing, control) in [
        (10, 1.0, 0.05),
        (10, 0.5, 0.05),
        (10, 0.3, 0.05),
        (10, 0.1, 0.05),
        (10, 1.0, 0.0),
        (10, 0.3, 0.0),
        (2, 0.3, 0.05),
        (2, 0.3, 0.0),
    ] {
        print!(
            "{:<44}",
            format!("{seconds} s, {} % fail, {} % control", 100.0 * failing, 100.0 * control)
        );
        for rate in RATES {
            let trouble = Some(Trouble {
                whom: Whom::Both,
                from: None,
                lasts: 4 * seconds,
                failing,
                slower: 1.0,
            });
            let ended = all(&Scenario { rate, control, trouble, ..EQUAL }, watches);
            print!(" {:>8}", ended.iter().filter(|ended| ended.rolled_back.is_some()).count());
        }
        println!();
    }
    println!();
}

fn thin_history(watches: u64) {
    println!(
        "Fault of 10 % at the switch, the old version having served so many without a failure:"
    );
    println!("{:<44} {:>13} {:>13} {:>13}", "", "1/s", "50/s", "500/s");
    for history in [0, 30, 1000] {
        print!("{:<44}", format!("  {history}"));
        for rate in RATES {
            let trouble = fault(Whom::Version, 0, 0.1);
            let clean_history = Some(history);
            let ended = all(&Scenario { rate, trouble, clean_history, ..EQUAL }, watches);
            print!(" {:>13}", spread(ended.iter().map(|ended| ended.rolled_back)));
        }
        println!();
    }
}

/// Median and 95th percentile; `-` where it did not happen.
fn spread(times: impl Iterator<Item = Option<f64>>) -> String {
    let mut times: Vec<f64> = times.map(|time| time.unwrap_or(f64::INFINITY)).collect();
    times.sort_by(f64::total_cmp);
    let at = |q: f64| match times[((times.len() - 1) as f64 * q) as usize] {
        time if time.is_infinite() => "-".to_owned(),
        time if time < 10.0 => format!("{time}"),
        time => format!("{time:.0}"),
    };
    format!("{} / {}", at(0.5), at(0.95))
}

/// All watches of a kind, on all cores.
fn all(scenario: &Scenario, watches: u64) -> Vec<Ended> {
    let threads = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    thread::scope(|scope| {
        let run = |first| {
            move || {
                (first..watches)
                    .step_by(threads as usize)
                    .map(|n| watch(scenario, SEED.wrapping_add(n)))
                    .collect::<Vec<_>>()
            }
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(run(first))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}
