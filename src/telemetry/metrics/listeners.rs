//! Series of listeners and their certificates.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::text::{Family, Text, code_counts};
use crate::state::snapshot::ListenerCells;
use crate::state::{H2Abuse, Idleness, Listener, Snapshot};
use crate::telemetry::metrics as metric;

pub(super) fn write(snapshot: &Snapshot, text: &mut Text<'_>) {
    let listeners = &snapshot.listeners;
    let mut samples = text.family(&metric::LISTENER_CONNECTIONS);
    for listener in listeners {
        samples.add(&[&listener.name], listener.state.connections.taken());
    }
    each(listeners, text, &metric::LISTENER_ACCEPTED, |cells| cells.accepted.get());
    each(listeners, text, &metric::LISTENER_MALFORMED, |cells| cells.malformed.get());
    let mut samples = text.family(&metric::LISTENER_REQUESTS);
    for listener in listeners {
        let codes = listener.state.cells.cells().map(|cells| &cells.codes);
        for (code, count) in code_counts(codes) {
            samples.add(&[&listener.name, &code], count);
        }
    }
    refused(listeners, text);
    made_room(listeners, text);
    handshakes(listeners, text);
    h2_abuse(listeners, text);
    certificates(listeners, text);
}

fn each(
    listeners: &[Arc<Listener>],
    text: &mut Text<'_>,
    family: &Family,
    value: impl Fn(&ListenerCells) -> u64,
) {
    let mut samples = text.family(family);
    for listener in listeners {
        samples.add(&[&listener.name], listener.state.cells.sum(&value));
    }
}

fn refused(listeners: &[Arc<Listener>], text: &mut Text<'_>) {
    let mut samples = text.family(&metric::LISTENER_REFUSED);
    for listener in listeners {
        let cells = &listener.state.cells;
        for (reason, count) in [
            ("max_connections", cells.sum(|cells| cells.refused.get())),
            ("max_connections_per_address", cells.sum(|cells| cells.refused_address.get())),
            ("silent", cells.sum(|cells| cells.silent.get())),
            ("write_timeout", cells.sum(|cells| cells.untaken.get())),
        ] {
            samples.add(&[&listener.name, reason], count);
        }
    }
}

fn made_room(listeners: &[Arc<Listener>], text: &mut Text<'_>) {
    let mut samples = text.family(&metric::LISTENER_MADE_ROOM);
    for listener in listeners {
        for idleness in Idleness::ALL {
            let count = listener.state.cells.sum(|cells| cells.made_room[idleness.index()].get());
            samples.add(&[&listener.name, idleness.label()], count);
        }
    }
}

fn handshakes(listeners: &[Arc<Listener>], text: &mut Text<'_>) {
    let mut samples = text.family(&metric::LISTENER_HANDSHAKES);
    for listener in listeners.iter().filter(|listener| listener.tls.is_some()) {
        let cells = &listener.state.cells;
        for (reason, count) in [
            ("timeout", cells.sum(|cells| cells.handshake_timeouts.get())),
            ("closed", cells.sum(|cells| cells.handshake_closed.get())),
            ("protocol", cells.sum(|cells| cells.handshake_failed.get())),
        ] {
            samples.add(&[&listener.name, reason], count);
        }
    }
}

fn h2_abuse(listeners: &[Arc<Listener>], text: &mut Text<'_>) {
    let mut samples = text.family(&metric::LISTENER_H2_ABUSE);
    for listener in listeners.iter().filter(|listener| listener.tls.is_some() || listener.h2c) {
        for kind in H2Abuse::ALL {
            let count = listener.state.cells.sum(|cells| cells.h2_abuse[kind.index()].get());
            samples.add(&[&listener.name, kind.label()], count);
        }
    }
}

fn certificates(listeners: &[Arc<Listener>], text: &mut Text<'_>) {
    let mut expiry: BTreeMap<&str, SystemTime> = BTreeMap::new();
    for identity in listeners
        .iter()
        .filter_map(|l| l.tls.as_ref())
        .flat_map(|tls| tls.certificates.identities())
    {
        let name = identity.names.first().unwrap_or(&identity.fingerprint);
        let earliest = expiry.entry(name).or_insert(identity.not_after);
        *earliest = identity.not_after.min(*earliest);
    }
    let mut samples = text.family(&metric::CERTIFICATE_NOT_AFTER);
    for (name, not_after) in expiry {
        let since = not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        samples.add(&[name], since.as_secs());
    }
}
