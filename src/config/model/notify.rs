//! Who is told of swaps.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use crate::config::source::Located;

/// `[notify]`: a webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct Notify {
    /// `http://` or `https://`, with a host.
    pub url: Located<String>,
    /// What signs the requests; none: they are not signed.
    pub secret: Option<Secret>,
    /// File that holds the secret. Never beside `secret`.
    pub secret_file: Option<Located<PathBuf>>,
    /// Authorities to believe in place of the system's, PEM.
    pub ca: Option<Located<PathBuf>>,
    /// For one request, connecting included.
    pub timeout: Duration,
    /// Tries of one message, at least 1.
    pub attempts: u32,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            url: Located::unwritten(String::new()),
            secret: None,
            secret_file: None,
            ca: None,
            timeout: Duration::from_secs(10),
            attempts: 8,
        }
    }
}
