//! What the operating system counts for the process, from `/proc`. Where there is none, or it says
//! something else than expected, the series are absent.

use std::fs;

use super::text::Text;
use crate::telemetry::metrics as metric;

pub(super) fn write(text: &mut Text<'_>) {
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse)
    {
        let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
        text.family(&metric::PROCESS_CPU).add(&[], stat.cpu_ticks as f64 / ticks);
        text.family(&metric::PROCESS_THREADS).add(&[], stat.threads);
        text.family(&metric::PROCESS_VIRTUAL).add(&[], stat.virtual_bytes);
        let page = rustix::param::page_size() as u64;
        text.family(&metric::PROCESS_RESIDENT).add(&[], stat.resident_pages.saturating_mul(page));
        if let Some(boot) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(boot_time) {
            let start = boot as f64 + stat.start_ticks as f64 / ticks;
            text.family(&metric::PROCESS_START).add(&[], start);
        }
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        text.family(&metric::PROCESS_OPEN_FDS).add(&[], entries.count().saturating_sub(1));
    }
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if let Some(files) = limits.current {
        text.family(&metric::PROCESS_MAX_FDS).add(&[], files);
    }
}

/// What is of use in `/proc/self/stat` (see proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the command in parentheses, which may hold spaces and parentheses.
        let (_, after) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        // By the numbers of the manual page; the first field after the command is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the machine started, in seconds since 1970, from `/proc/stat`.
fn boot_time(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text =
            "42 (a ) b) S 1 42 42 0 -1 4194560 1 0 0 0 70 30 0 0 20 0 5 0 9000 1000000 250 1";
        let expected = Stat {
            cpu_ticks: 100,
            threads: 5,
            start_ticks: 9_000,
            virtual_bytes: 1_000_000,
            resident_pages: 250,
        };
        assert_eq!(Stat::parse(text), Some(expected));
    }

    #[test]
    fn a_short_line_gives_nothing() {
        assert_eq!(Stat::parse("42 (a) S 1 42"), None);
    }

    #[test]
    fn the_boot_time_stands_in_a_line_of_its_own() {
        assert_eq!(boot_time("cpu 1 2 3\nbtime 1700000000\nprocesses 5\n"), Some(1_700_000_000));
    }
}
