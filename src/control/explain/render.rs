//! Explanations as text.

use std::fmt::{self, Write};

use super::{BackendExplanation, RequestExplanation, VersionExplanation};
use crate::deploy::Table;

impl RequestExplanation {
    /// The explanation as lines for people.
    pub(super) fn render(&self) -> String {
        let mut out = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, f: &mut String) -> fmt::Result {
        writeln!(f, "{}", self.url)?;
        writeln!(f, "listener  {}", self.listener)?;
        match &self.route {
            Some(route) => writeln!(f, "route     {route}: {}", self.route_why)?,
            None => writeln!(f, "route     none: {}", self.route_why)?,
        }
        if let Some(answer) = &self.answer {
            writeln!(f, "answer    {answer}, without a backend")?;
        }
        if let (Some(pool), Some(policy)) = (&self.pool, self.policy) {
            writeln!(f, "pool      {pool}, {policy}")?;
        }
        self.versions.iter().try_for_each(|version| write_version(f, version))
    }
}

fn write_version(f: &mut String, version: &VersionExplanation) -> fmt::Result {
    let share = version.share * 100.0;
    if !version.name.is_empty() {
        writeln!(f, "version   {}, {share:.0}% of new requests", version.name)?;
    }
    writeln!(f, "usable    {}", version.usable)?;
    if let Some(bound) = &version.bound_to {
        writeln!(f, "cookie    stands for {bound}")?;
    }
    if let Some(nobody) = version.nobody {
        writeln!(f, "now       {nobody}")?;
    }
    let rows = version.candidates.iter().map(|candidate| {
        let part = match candidate.part {
            0.0 => "-".to_owned(),
            part => format!("{:.0}%", part * 100.0),
        };
        [
            candidate.backend.clone(),
            part,
            format!("{:.2}", candidate.score),
            candidate.in_flight.to_string(),
            candidate.weight.to_string(),
            candidate.state.to_owned(),
            candidate.why.clone(),
        ]
    });
    let heads = ["BACKEND", "WOULD GET", "SCORE", "IN FLIGHT", "WEIGHT", "STATE", "WHY"];
    write!(f, "{}", Table::new(heads, rows))
}

/// A backend as lines for people.
pub(super) fn backend(told: &BackendExplanation) -> String {
    let mut out = String::new();
    let _ = write_backend(&mut out, told);
    out
}

fn write_backend(f: &mut String, told: &BackendExplanation) -> fmt::Result {
    let BackendExplanation { backend, pool, version, state, since_seconds, in_flight, .. } = told;
    let version = if version.is_empty() { String::new() } else { format!(", version {version}") };
    writeln!(f, "{backend} in pool {pool}{version}")?;
    writeln!(f, "{state} for {since_seconds:.0} s, {in_flight} requests in flight")?;
    if let Some(failure) = &told.now {
        writeln!(f, "its checks fail now: {failure}")?;
    }
    if told.suspected {
        writeln!(f, "under suspicion: it is being probed, and others are preferred")?;
    }
    if let Some(comes_back) = &told.comes_back {
        writeln!(f, "comes back {comes_back}")?;
    }
    if let Some(seconds) = told.learned_keepalive_seconds {
        writeln!(f, "unused connections are kept for {seconds} s at most, as learned from it")?;
    }
    for transition in &told.transitions {
        let super::TransitionView { ago_seconds, from, to, reason } = transition;
        writeln!(f, "  {ago_seconds:.0} s ago: {from} -> {to}: {reason}")?;
    }
    Ok(())
}
