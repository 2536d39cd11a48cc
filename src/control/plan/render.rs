//! The plan of a reload as text.

use std::fmt::{self, Write};

use super::{BackendsPlan, Difference, ReloadPlan};

impl ReloadPlan {
    /// The plan as lines for people.
    pub(in crate::control) fn render(&self) -> String {
        let mut out = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, f: &mut String) -> fmt::Result {
        writeln!(f, "a reload would take {}", self.file)?;
        if let Some(other) = &self.reload_reads {
            writeln!(f, "note: the running tidegate reads {other}, not this file")?;
        }
        for words in &self.leaving {
            writeln!(f, "{words}")?;
        }
        if !self.changes_anything {
            writeln!(f, "it would change nothing")?;
        }
        write_difference(f, "listeners", &self.listeners, ["opened", "closed"])?;
        write_difference(f, "pools", &self.pools, ["added", "removed"])?;
        for (pool, BackendsPlan { added, removed, kept }) in &self.backends {
            for backend in added {
                writeln!(f, "  {pool}: adds {backend}")?;
            }
            for backend in removed {
                writeln!(f, "  {pool}: removes {backend}; what it has in flight is finished")?;
            }
            if !added.is_empty() || !removed.is_empty() {
                writeln!(f, "  {pool}: {kept} stay as they are")?;
            }
        }
        let plain = self
            .changes
            .iter()
            .filter(|change| !change.starts_with("listener ") && !change.starts_with("pool "));
        for change in plain {
            writeln!(f, "{change}")?;
        }
        for swap in &self.swaps {
            let (pool, from, to) = (&swap.pool, &swap.from, &swap.to);
            writeln!(f, "swap of pool {pool}: {from} to {to}, guarded")?;
            if let Some(words) = &swap.cancels {
                writeln!(f, "  which ends this one: {words}")?;
            }
        }
        for words in self.running.iter().chain(&self.overrides) {
            writeln!(f, "{words}")?;
        }
        self.write_notes(f)
    }

    /// What is worth knowing beside the changes.
    fn write_notes(&self, f: &mut String) -> fmt::Result {
        match (self.tunnels, self.tunnels_on_removed) {
            (0, _) => {}
            (all, 0) => writeln!(f, "WebSockets and other tunnels: {all} open, all stay open")?,
            (all, some) => writeln!(
                f,
                "WebSockets and other tunnels: {all} open, all stay open, {some} of them on backends \
                 that leave"
            )?,
        }
        for certificate in &self.certificates {
            let listener = &certificate.listener;
            let names = match &certificate.names[..] {
                [] => format!("without a name in `{}`", certificate.file),
                names => format!("for {}", names.join(", ")),
            };
            match certificate.days {
                days @ 0.. => {
                    writeln!(f, "certificate {names} (listener {listener}) expires in {days} days")?
                }
                _ => writeln!(f, "certificate {names} (listener {listener}) has expired")?,
            }
        }
        for words in &self.shadowed {
            writeln!(f, "route: {words}")?;
        }
        Ok(())
    }
}

fn write_difference(
    f: &mut String,
    what: &str,
    difference: &Difference,
    [added, removed]: [&str; 2],
) -> fmt::Result {
    let Difference { kept, changed, .. } = difference;
    let lists = [
        ("kept", kept),
        ("changed", changed),
        (added, &difference.added),
        (removed, &difference.removed),
    ];
    let filled = lists.iter().filter(|(_, names)| !names.is_empty());
    let told: Vec<String> = filled.map(|(how, names)| format!("{how} {}", list(names))).collect();
    writeln!(f, "{what}: {}", told.join("; "))
}

/// The names, or how many there are.
fn list(names: &[String]) -> String {
    match names.len() {
        0..=8 => names.join(", "),
        many => format!("{many}"),
    }
}
