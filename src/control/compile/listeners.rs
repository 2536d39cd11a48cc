//! Listeners: their certificates read again, their counts and ticket keys carried by name.

use std::sync::Arc;

use super::{Bound, Context, Findings, Generation, convert};
use crate::certs::{self, CertificateTable, Identity, Input};
use crate::config::model::{self, BindAddress, Config};
use crate::config::{Diagnostic, Located};
use crate::control::files;
use crate::control::sockets::SocketKey;
use crate::state::snapshot::ListenerLimits;
use crate::state::tls::{ALPN_H2, ALPN_HTTP1, ServerTls, TlsError, ticketer};
use crate::state::{Listener, ListenerState};

/// A listener whose sockets are not bound yet.
#[derive(Debug)]
pub(super) struct CompiledListener {
    /// Its sockets, each at the place of its address in the text.
    pub(super) sockets: Vec<Located<SocketKey>>,
    name: Arc<str>,
    tls: Option<ServerTls>,
    h2c: bool,
    limits: ListenerLimits,
    state: Arc<ListenerState>,
}

impl CompiledListener {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn tls(&self) -> Option<&ServerTls> {
        self.tls.as_ref()
    }

    pub(super) fn at(self, index: u16, bound: &impl Fn(&SocketKey) -> Option<Bound>) -> Listener {
        let bound: Vec<Bound> = self.sockets.iter().filter_map(|key| bound(key)).collect();
        Listener {
            name: self.name,
            index,
            sockets: bound.iter().map(|bound| bound.id).collect(),
            port: bound.iter().map(|bound| bound.port).find(|port| *port != 0).unwrap_or(0),
            addresses: bound.into_iter().map(|bound| bound.address).collect(),
            tls: self.tls,
            h2c: self.h2c,
            limits: self.limits,
            state: self.state,
        }
    }
}

/// In the order of names: a listener's index is its place in here.
pub(super) fn compile(
    config: &Config,
    old: &Generation,
    context: &Context<'_>,
    findings: &mut Findings,
) -> Vec<CompiledListener> {
    let compile = |(name, listener): (&String, &model::Listener)| {
        let old = old.snapshot.listeners.iter().find(|old| *old.name == **name);
        let tls = listener.tls.as_ref();
        let sockets = listener.bind.iter().enumerate();
        let key = |(position, address): (usize, &Located<BindAddress>)| Located {
            value: SocketKey::new(name, position, address),
            span: address.span,
        };
        CompiledListener {
            sockets: sockets.map(key).collect(),
            name: old.map_or_else(|| name.as_str().into(), |old| Arc::clone(&old.name)),
            tls: tls.and_then(|tls| server_tls(listener, tls, old, context, findings)),
            h2c: listener.h2c,
            limits: convert::limits(&listener.limits),
            state: match old {
                Some(old) => Arc::clone(&old.state),
                None => Arc::new(ListenerState::new(context.workers)),
            },
        }
    };
    config.listeners.iter().map(compile).collect()
}

fn server_tls(
    listener: &model::Listener,
    tls: &model::Tls,
    old: Option<&Arc<Listener>>,
    context: &Context<'_>,
    findings: &mut Findings,
) -> Option<ServerTls> {
    let name = &listener.name;
    let identities: Vec<Option<Identity>> = (0..)
        .zip(&tls.certificates)
        .map(|(index, certificate): (usize, _)| {
            let key = format!("listeners.{}.tls.certificates[{index}]", name.value);
            identity(certificate, &key, context, findings)
        })
        .collect();
    let identities: Vec<Identity> = identities.into_iter().collect::<Option<_>>()?;
    let made = CertificateTable::new(identities)
        .map_err(TlsError::from)
        .and_then(|table| {
            // Whoever holds a ticket of before can resume with it.
            let ticketer = match old.and_then(|old| old.tls.as_ref()) {
                Some(tls) => Arc::clone(&tls.config.ticketer),
                None => ticketer()?,
            };
            ServerTls::new(Arc::new(table), &[ALPN_H2, ALPN_HTTP1], ticketer)
        })
        .map_err(|error| {
            let key = format!("listeners.{}.tls", name.value);
            Box::new(Diagnostic::error(error.to_string()).at(name.span).key(key))
        });
    findings.take(made)
}

fn identity(
    certificate: &model::Certificate,
    key: &str,
    context: &Context<'_>,
    findings: &mut Findings,
) -> Option<Identity> {
    let cert_pem =
        findings.take(files::read(context.read, &certificate.cert, &format!("{key}.cert")));
    let key_pem = findings.take(files::read(context.read, &certificate.key, &format!("{key}.key")));
    match certs::parse(&cert_pem?, &key_pem?, context.now) {
        Ok(identity) => {
            for warning in &identity.warnings {
                let message = format!("`{}`: {warning}", certificate.cert.value.display());
                let warning = Diagnostic::warning(message).at(certificate.cert.span);
                findings.warning(warning.key(format!("{key}.cert")));
            }
            Some(identity)
        }
        Err(error) => {
            let (file, part) = match error.input() {
                Input::Key => (&certificate.key, "key"),
                Input::Certificate | Input::Authorities => (&certificate.cert, "cert"),
            };
            let message = format!("`{}`: {error}", file.value.display());
            findings.error(Diagnostic::error(message).at(file.span).key(format!("{key}.{part}")));
            None
        }
    }
}
