//! The webhook: its secret and the authorities that it is verified by, read anew.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Uri;

use super::upstream::Roots;
use super::{Context, Findings, Generation};
use crate::config::Diagnostic;
use crate::config::model::{self, Config};
use crate::control::files;
use crate::control::notify::Webhook;
use crate::state::tls::{ALPN_HTTP1, ClientTls, Trust};

/// Before the second try.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What stands before a secret that is written in base64, as the Standard Webhooks have it.
const BASE64_PREFIX: &str = "whsec_";

pub(super) fn compile(
    config: &Config,
    old: &Generation,
    context: &Context<'_>,
    roots: &mut Roots,
    findings: &mut Findings,
) -> Option<Arc<Webhook>> {
    let notify = config.notify.as_ref()?;
    let secret = secret(notify, context, findings);
    let url: Uri = notify.url.value.parse().ok()?;
    let tls = (url.scheme_str() == Some("https")).then(|| {
        let roots = roots.load(notify.ca.as_ref(), "notify.ca", &old.roots, context);
        let roots = roots.map_err(|mut error| {
            error.span = error.span.or(notify.url.span);
            error
        });
        let trust = Trust::Authorities(findings.take(roots)?);
        let tls = ClientTls::new(None, trust, &[ALPN_HTTP1]).map_err(|error| {
            Box::new(Diagnostic::error(error.to_string()).at(notify.url.span).key("notify"))
        });
        findings.take(tls)
    });
    let tls = match tls {
        Some(None) => return None,
        Some(tls) => tls,
        None => None,
    };
    let (timeout, attempts) = (notify.timeout, notify.attempts);
    Some(Arc::new(Webhook { url, secret, tls, timeout, attempts, pause: FIRST_PAUSE }))
}

fn secret(
    notify: &model::Notify,
    context: &Context<'_>,
    findings: &mut Findings,
) -> Option<Vec<u8>> {
    let key = "notify.secret_file";
    let (text, span) = match (&notify.secret, &notify.secret_file) {
        (Some(secret), _) => (secret.expose().to_owned(), notify.url.span),
        (None, Some(path)) => {
            let bytes = findings.take(files::read(context.read, path, key))?;
            (String::from_utf8_lossy(&bytes).trim().to_owned(), path.span)
        }
        (None, None) => return None,
    };
    let decoded = match text.strip_prefix(BASE64_PREFIX) {
        Some(rest) => BASE64_STANDARD.decode(rest).ok(),
        None => Some(text.into_bytes()),
    };
    // The secret itself is never part of an error: errors end up in logs.
    let wrong = match &decoded {
        None => "it begins with `whsec_`, but what follows is no base64",
        Some(bytes) if bytes.len() < 16 => "it is shorter than 16 bytes",
        Some(_) => return decoded,
    };
    let message = format!("the secret that signs webhooks cannot be used: {wrong}");
    let help = "make one with `openssl rand -hex 32`".to_owned();
    findings.error(Diagnostic::error(message).at(span).key(key).help(help));
    None
}
