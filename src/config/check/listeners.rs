//! Listeners and the admin API: somebody must listen, and nobody at another's address.

use crate::config::diagnostic::Diagnostic;
use crate::config::model::{BindAddress, Config};
use crate::config::reader::Reader;
use crate::config::source::Located;

pub(super) fn check(config: &Config, reader: &Reader) {
    if config.listeners.is_empty() && !reader.failed("listeners") {
        let help = "add a section [listeners.http] with bind = \"0.0.0.0:8080\"".to_owned();
        reader.report(Diagnostic::error("there is no listener").help(help));
    }
    check_overlaps(config, reader);
    check_use(config, reader);
}

fn check_overlaps(config: &Config, reader: &Reader) {
    let mut taken: Vec<(String, &Located<BindAddress>)> = Vec::new();
    if !reader.failed("admin") {
        taken.push(("admin".to_owned(), &config.admin.bind));
    }
    for listener in config.listeners.values() {
        let key = format!("listeners.{}", *listener.name);
        for bind in &listener.bind {
            if let Some((other, first)) = taken.iter().find(|(_, first)| overlap(first, bind)) {
                let error = Diagnostic::error(format!("{} is already taken by `{other}`", **bind));
                reader.report(
                    error
                        .at(bind.span)
                        .key(format!("{key}.bind"))
                        .related(first.span, format!("`{other}` listens on {}", ***first))
                        .help("an address can be listened on once".to_owned()),
                );
            }
            taken.push((key.clone(), bind));
        }
    }
}

/// Whether the kernel would refuse one of the two. `[::]` serves IPv4 too.
fn overlap(a: &BindAddress, b: &BindAddress) -> bool {
    match (a, b) {
        (BindAddress::Unix(a), BindAddress::Unix(b)) => a == b,
        (BindAddress::Tcp(a), BindAddress::Tcp(b)) => {
            let covers = |all: std::net::IpAddr, one: std::net::IpAddr| {
                all.is_unspecified() && (all.is_ipv6() || one.is_ipv4())
            };
            let (port, a, b) = (a.port() == b.port() && a.port() != 0, a.ip(), b.ip());
            port && (a == b || covers(a, b) || covers(b, a))
        }
        _ => false,
    }
}

fn check_use(config: &Config, reader: &Reader) {
    if config.routes.iter().any(|route| route.listeners.is_empty()) || reader.failed("routes") {
        return;
    }
    for (name, listener) in &config.listeners {
        let named = |route: &crate::config::model::Route| {
            route.listeners.iter().any(|named| **named == *name)
        };
        if !config.routes.iter().any(named) {
            let warning = Diagnostic::warning(format!("no route stands on listener `{name}`"));
            reader.report(
                warning
                    .at(listener.name.span)
                    .key(format!("listeners.{name}"))
                    .help("every request there is answered 404; add a [[routes]]".to_owned()),
            );
        }
    }
}
