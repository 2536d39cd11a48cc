//! TLS termination: from an accepted stream to a secured one and what the handshake settled.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use rustls::ProtocolVersion;
use tokio::time::Instant;

use super::connection::ConnectionState;
use super::io::{RawStream, Secured, Session};
use crate::state::Listener;
use crate::state::tls::{ALPN_H2, ServerTls};

/// What a handshake settled.
#[derive(Debug)]
pub struct Settled {
    /// The server name that the client asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// Whether it is HTTP/2 from here on.
    pub h2: bool,
    /// The TLS version, for the log.
    pub version: &'static str,
    /// The certificates that were chosen from, for requests that name another host.
    pub certificates: Arc<crate::certs::CertificateTable>,
}

/// Shakes hands within the listener's time; failures are counted and end the connection.
pub async fn handshake(
    connection: &ConnectionState,
    listener: &Listener,
    tls: &ServerTls,
    stream: RawStream,
) -> Option<(Box<Secured>, Settled)> {
    let deadline = Instant::now() + listener.limits.handshake_timeout;
    let begun = Cell::new(false);
    let by = || match connection.last_chance() {
        Some(last_chance) if !begun.get() => last_chance.min(deadline),
        _ => deadline,
    };
    // Boxed: the state of a handshake is large, and the task that holds it outlives it by far.
    let mut accepting = Box::pin(Session::accept(stream, &begun, |hello| tls.config_for(hello)));
    let cells = listener.state.cells.cell(connection.worker.id);
    let shaken = loop {
        let shaken = connection.timer.within(by(), accepting.as_mut()).await;
        let now = Instant::now();
        // Woken early, by a wish to close, which can wait for a handshake that has begun.
        if shaken.is_ok() || now >= by() || connection.is_to_leave(now) {
            break shaken;
        }
    };
    match shaken {
        Err(_expired) if connection.leaving.borrow().is_some() => {}
        Err(_expired) if Instant::now() < deadline => connection.note_silence(),
        Err(_expired) => cells.handshake_timeouts.add(1),
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            cells.handshake_failed.add(1);
            tracing::debug!(listener = %listener.name, %error, "a TLS handshake failed");
        }
        Ok(Err(_closed)) => cells.handshake_closed.add(1),
        Ok(Ok(session)) => {
            let known = session.tls();
            let settled = Settled {
                server_name: known.server_name().map(|name| name.to_ascii_lowercase().into()),
                h2: known.alpn_protocol() == Some(ALPN_H2),
                version: match known.protocol_version() {
                    Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                    _ => "TLSv1.3",
                },
                certificates: Arc::clone(&tls.certificates),
            };
            return Some((Box::new(Secured::new(session)), settled));
        }
    }
    None
}
