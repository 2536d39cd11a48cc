//! The status page: everything at a glance, without anything from elsewhere. A small script keeps it
//! true by `/api/events`; without scripts it loads itself anew.

mod swaps;

use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::HeaderValue;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::control::Readiness;
use crate::control::status::{BackendStatus, PoolStatus, Status};
use crate::state::Event;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Seconds after which the page loads itself anew where scripts are off.
const REFRESH: u32 = 2;

/// Allows nothing but the page's own style and script, known by their hashes, and asking us.
pub(super) fn content_security_policy() -> HeaderValue {
    static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
        let hash = |text: &str| BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(STYLE),
            hash(SCRIPT),
        );
        // Base64 and the text above are visible ASCII; should that change, nothing is allowed.
        HeaderValue::from_str(&policy)
            .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
    });
    POLICY.clone()
}

/// The page as HTML, with the reports of the last swaps and the last events.
pub(super) fn render(
    status: &Status,
    readiness: &Readiness,
    reports: &[Value],
    events: &[Arc<Event>],
) -> String {
    let mut page = Page::default();
    page.head(status, readiness);
    for (name, pool) in &status.pools {
        page.pool(name, pool, reports);
    }
    page.reports(reports);
    page.listeners(status);
    page.events(events);
    page.raw(format_args!("</main>\n<script>{SCRIPT}</script>\n"));
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    /// Adds markup.
    fn raw(&mut self, markup: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(markup);
    }

    fn head(&mut self, status: &Status, readiness: &Readiness) {
        let (class, ready) = match readiness {
            Readiness::Ready => ("healthy", "ready".to_owned()),
            Readiness::NotReady(reason) => ("unhealthy", format!("not ready: {}", Text(reason))),
        };
        self.raw(format_args!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
             <noscript><meta http-equiv=\"refresh\" content=\"{REFRESH}\"></noscript>\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <title>Tidegate</title><style>{STYLE}</style>\n<body><main>\
             <header><h1>Tidegate</h1><p><b class=\"{class}\">{ready}</b>\
             <span>version {}</span><span>up {}</span><span>configuration {}</span></p></header>\n",
            Text(status.version),
            Age(status.uptime_seconds),
            status.generation,
        ));
        for note in &status.notes {
            self.raw(format_args!("<p><b class=\"unhealthy\">{}</b></p>\n", Text(note)));
        }
    }

    fn pool(&mut self, name: &str, pool: &PoolStatus, reports: &[Value]) {
        self.raw(format_args!(
            "<section><h2>{}</h2><p><span>{}</span>",
            Text(name),
            Text(pool.policy)
        ));
        let several = pool.versions.len() > 1 || !pool.active.is_empty();
        self.0.push_str("</p>\n");
        if several {
            self.versions(pool, reports);
        }
        for note in &pool.notes {
            self.raw(format_args!("<p><b class=\"unhealthy\">{}</b></p>\n", Text(note)));
        }
        self.0.push_str("<table class=\"backends\"><tr>");
        let version = if several { &["Version"][..] } else { &[] };
        for title in version.iter().chain(&["Backend", "State", "Since", "In flight", "Why"]) {
            self.raw(format_args!("<th>{title}"));
        }
        self.0.push('\n');
        for (version, facts) in &pool.versions {
            for (address, backend) in &facts.backends {
                self.0.push_str("<tr>");
                if several {
                    self.raw(format_args!("<td>{}", Text(version)));
                }
                self.backend(address, backend);
            }
        }
        self.0.push_str("</table></section>\n");
    }

    fn backend(&mut self, address: &str, backend: &BackendStatus) {
        self.raw(format_args!("<td>{}", Text(address)));
        if backend.weight != 1 {
            self.raw(format_args!(" <small>weight {}</small>", backend.weight));
        }
        // The share of one that is out is the one that it will begin with.
        let is_in = matches!(backend.state, "healthy" | "checking");
        if is_in && backend.weight_ratio < 1.0 {
            let percent = backend.weight_ratio * 100.0;
            self.raw(format_args!(" <small>{percent:.0}% of its share</small>"));
        }
        if backend.circuit_breaker == "half_open" {
            self.0.push_str(" <small>on trial</small>");
        }
        if backend.suspected {
            self.0.push_str(" <small>suspected</small>");
        }
        if backend.backup {
            self.0.push_str(" <small>backup</small>");
        }
        self.raw(format_args!(
            "<td><b class=\"{0}\">{0}</b><td>{1}<td>{2}<td>{3}",
            Text(backend.state),
            Age(backend.since_seconds),
            backend.in_flight,
            Text(&backend.reason),
        ));
        if let Some(failure) = &backend.now {
            self.raw(format_args!("; now: {}", Text(failure)));
        }
        if let Some(finding) = &backend.finding {
            self.raw(format_args!("; {}", Text(finding)));
        }
        self.0.push('\n');
    }

    fn listeners(&mut self, status: &Status) {
        self.0.push_str(
            "<section><h2>Listeners</h2>\n<table><tr><th>Listener<th>Address<th>TLS\
             <th>Connections\n",
        );
        for (name, listener) in &status.listeners {
            self.raw(format_args!(
                "<tr><td>{}<td>{}<td>{}<td>{}\n",
                Text(name),
                Text(&listener.addresses.join(" ")),
                if listener.tls { "yes" } else { "no" },
                listener.connections,
            ));
        }
        self.0.push_str("</table></section>\n");
    }
}

/// A text in which nothing is markup.
struct Text<'a>(&'a str);

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_char(' ')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Seconds in the two units that matter.
struct Age(f64);

impl std::fmt::Display for Age {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A float beyond the type becomes its nearest value.
        let seconds = self.0 as u64;
        match seconds {
            0..60 => write!(f, "{seconds} s"),
            60..3_600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            3_600..86_400 => write!(f, "{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
            _ => write!(f, "{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::control::status::VersionStatus;
    use crate::control::swaps::view::HeldView;

    #[test]
    fn what_backends_say_is_not_markup() {
        let backend = BackendStatus {
            state: "unhealthy",
            since_seconds: 61.0,
            reason: "said \"<script>alert('&')</script>\"".into(),
            now: None,
            weight_ratio: 1.0,
            weight: 1,
            backup: false,
            in_flight: 0,
            tunnels: 0,
            circuit_breaker: "closed",
            suspected: false,
            finding: Some("is <slow>".into()),
            learned_keepalive_seconds: None,
        };
        let backends = BTreeMap::from([("127.0.0.1:1".into(), backend)]);
        let version = VersionStatus {
            share: 1.0,
            serves_from: "healthy",
            held: HeldView::default(),
            backends,
        };
        let versions = BTreeMap::from([("".into(), version)]);
        let pool = PoolStatus {
            active: "".into(),
            policy: "round_robin",
            versions,
            waiting: 0,
            circuit_breaker: None,
            notes: vec!["<script>".to_owned()],
            swaps: None,
        };
        let mut page = Page::default();
        page.pool("app", &pool, &[]);
        assert!(!page.0.contains("<script"));
        let why = "<td>said &quot;&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;&quot;; is &lt;slow&gt;\n";
        assert!(page.0.contains(why), "{}", page.0);
    }
}
