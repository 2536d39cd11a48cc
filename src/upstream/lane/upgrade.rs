//! Switching protocols. HTTP/1.1 alone can do that, which a backend that is spoken to in HTTP/2 may
//! not know: any client can ask for it, so that says nothing against the backend.

use std::sync::Arc;

use bytes::Bytes;

use super::Lane;
use crate::state::pool::Protocol;
use crate::upstream::dial::{UpstreamStream, dial};
use crate::upstream::error::refuses_alpn;
use crate::upstream::http1::{self, ConnectionGauge, UpgradeOutcome};
use crate::upstream::{Error, RequestHead};

/// The answer to a request to switch protocols.
#[derive(Debug)]
pub struct UpgradeAnswer {
    /// Switched or declined.
    pub outcome: UpgradeOutcome,
    /// To be held as long as the connection is in use.
    pub gauge: ConnectionGauge,
}

impl Lane {
    /// Sends a request to switch protocols on a new HTTP/1.1 connection.
    ///
    /// # Errors
    /// Those of [`dial`] and of sending. [`Error::NoHttp1`] if the backend speaks HTTP/2 only; unless
    /// that is the pool's protocol by prior knowledge, nothing was sent then.
    pub async fn upgrade<B>(&self, head: &RequestHead, body: B) -> Result<UpgradeAnswer, Error>
    where
        B: http_body::Body<Data = Bytes> + Unpin + 'static,
    {
        let settings = Arc::clone(&self.settings.borrow());
        let dialled = match dial(&self.backend, &settings, true, &self.files).await {
            Ok(dialled) => dialled,
            Err(Error::Tls(error))
                if settings.protocol != Protocol::Http1 && refuses_alpn(&error) =>
            {
                return Err(Error::NoHttp1);
            }
            Err(error) => {
                self.count_dial_error(&error);
                return Err(error);
            }
        };
        let agreed = has_agreed(&dialled.stream);
        // Some do not refuse what they do not know, but go on in the only protocol that they do.
        if !agreed && settings.protocol == Protocol::Auto && self.speaks_h2.get() == Some(true) {
            return Err(Error::NoHttp1);
        }
        let asked = http1::upgrade(self.connection(dialled.stream), head, body).await;
        let (outcome, gauge) = asked.map_err(|error| match error {
            Error::Reset(_) | Error::Malformed(_)
                if !agreed && settings.protocol == Protocol::H2 =>
            {
                Error::NoHttp1
            }
            error => error,
        })?;
        Ok(UpgradeAnswer { outcome, gauge })
    }
}

/// Whether the backend chose by ALPN from what it was offered.
fn has_agreed(stream: &UpstreamStream) -> bool {
    match stream {
        UpstreamStream::Plain(_) => false,
        UpstreamStream::Tls(stream) => stream.get_ref().1.alpn_protocol().is_some(),
    }
}
