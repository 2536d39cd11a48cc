//! Certificate and key bytes to answers: whose certificate, for which names, until when, and does
//! the key belong to it. Pure: the bytes and the time are arguments, so whoever reads the files
//! (at start, at `check`, at reload) gets the same verdict from the same input.
//!
//! [`parse`] makes an [`Identity`] of one certificate file and one key file, [`CertificateTable`]
//! chooses among several by server name, and [`generate`] makes certificates for demonstrations
//! and tests.

mod error;
pub mod generate;
mod identity;
mod pem;
mod table;

pub use error::{Error, Input};
pub use identity::{EXPIRES_SOON, Identity, Warning, parse};
pub use pem::authorities;
pub use table::CertificateTable;
