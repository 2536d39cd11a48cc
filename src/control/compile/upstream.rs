//! How backends are spoken to: kept as the same `Arc` as long as neither the settings nor the
//! trusted authorities changed, since connections are told by it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;

use super::{Context, Findings, Generation, convert};
use crate::config::{Diagnostic, Located, model};
use crate::control::files;
use crate::state::pool::{UpstreamSettings, UpstreamTls};
use crate::state::tls::{
    ALPN_H2, ALPN_HTTP1, ClientTls, TlsError, Trust, authorities, system_authorities,
};

/// Authorities by the file that they were read from; `None` is the system's. Each is read once per
/// configuration, and stays the same `Arc` while its content does.
#[derive(Debug, Default)]
pub(super) struct Roots(BTreeMap<Option<PathBuf>, Arc<RootCertStore>>);

impl Roots {
    pub(super) fn load(
        &mut self,
        file: Option<&Located<PathBuf>>,
        key: &str,
        old: &Roots,
        context: &Context<'_>,
    ) -> Result<Arc<RootCertStore>, Box<Diagnostic>> {
        let name = file.map(|file| file.value.clone());
        if let Some(loaded) = self.0.get(&name) {
            return Ok(Arc::clone(loaded));
        }
        let fresh = match file {
            Some(file) => {
                let pem = files::read(context.read, file, key)?;
                authorities(&pem).map_err(|error| {
                    let message = format!("`{}`: {error}", file.value.display());
                    Box::new(Diagnostic::error(message).at(file.span).key(key))
                })?
            }
            None => system_authorities()
                .map_err(|error| Box::new(Diagnostic::error(error.to_string()).key(key)))?,
        };
        let roots = match old.0.get(&name) {
            Some(old) if old.roots == fresh.roots => Arc::clone(old),
            _ => fresh,
        };
        self.0.insert(name, Arc::clone(&roots));
        Ok(roots)
    }

    fn same(&self, old: &Roots, file: Option<&Located<PathBuf>>) -> bool {
        let name = file.map(|file| file.value.clone());
        match (self.0.get(&name), old.0.get(&name)) {
            (Some(new), Some(old)) => Arc::ptr_eq(new, old),
            _ => false,
        }
    }
}

pub(super) fn compile(
    pool: &model::Pool,
    old: &Generation,
    context: &Context<'_>,
    roots: &mut Roots,
    findings: &mut Findings,
) -> Option<Arc<UpstreamSettings>> {
    let name = pool.name.value.as_str();
    let wanted = &pool.upstream;
    let trust = match &wanted.tls {
        Some(tls) if tls.verify => {
            let key = format!("pools.{name}.upstream.tls.ca");
            let loaded = roots.load(tls.ca.as_ref(), &key, &old.roots, context);
            let loaded = loaded.map_err(|mut error| {
                error.span = error.span.or(pool.name.span);
                error
            });
            Some(Trust::Authorities(findings.take(loaded)?))
        }
        Some(_) => Some(Trust::Anyone),
        None => None,
    };
    let before = old.config.pools.get(name).map(|pool| &pool.upstream);
    let in_force = old.snapshot.pools.get(name).map(|pool| &pool.upstream);
    if let (Some(before), Some(in_force)) = (before, in_force)
        && before == wanted
        && wanted
            .tls
            .as_ref()
            .is_none_or(|tls| !tls.verify || roots.same(&old.roots, tls.ca.as_ref()))
    {
        return Some(Arc::clone(in_force));
    }
    let tls = match (&wanted.tls, trust) {
        (Some(tls), Some(trust)) => {
            let made = client_tls(wanted.protocol, tls, &trust).map_err(|error| {
                let key = format!("pools.{name}.upstream.tls");
                Box::new(Diagnostic::error(error.to_string()).at(pool.name.span).key(key))
            });
            Some(findings.take(made)?)
        }
        _ => None,
    };
    Some(Arc::new(settings(wanted, tls)))
}

fn client_tls(
    protocol: model::UpstreamProtocol,
    tls: &model::UpstreamTls,
    trust: &Trust,
) -> Result<UpstreamTls, TlsError> {
    let any: &[&[u8]] = match protocol {
        model::UpstreamProtocol::Http1 => &[ALPN_HTTP1],
        model::UpstreamProtocol::H2 => &[ALPN_H2],
        model::UpstreamProtocol::Auto => &[ALPN_H2, ALPN_HTTP1],
    };
    let offering = |alpn| ClientTls::new(tls.server_name.as_deref(), trust.clone(), alpn);
    Ok(UpstreamTls { any: offering(any)?, http1: offering(&[ALPN_HTTP1])? })
}

fn settings(wanted: &model::Upstream, tls: Option<UpstreamTls>) -> UpstreamSettings {
    UpstreamSettings {
        protocol: convert::protocol(wanted.protocol),
        tls,
        connect_timeout: wanted.connect_timeout,
        response_timeout: convert::limit(wanted.response_timeout),
        body_idle_timeout: convert::limit(wanted.body_idle_timeout),
        tunnel_idle_timeout: wanted.tunnel_idle_timeout,
        keepalive_timeout: wanted.keepalive_timeout,
        keepalive_connections: wanted.keepalive_connections,
        min_idle: wanted.min_idle,
        // That it is a path was checked with the text.
        keepalive_request: wanted.keepalive_request.as_deref().and_then(|path| path.parse().ok()),
        keepalive_interval: wanted.keepalive_interval,
    }
}
